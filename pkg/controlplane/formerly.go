package controlplane

import (
	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// imageVersion gives the Istio version of a stored revision's images, nil where
// they do not tell.
func imageVersion(r helm.Release) *semver.Version {
	v, ok := mesh.TagVersion(tagIn(r))
	if !ok {
		return nil
	}
	return v
}

func tagIn(r helm.Release) string {
	objects, err := helm.ParseManifest(r.Manifest)
	if err != nil {
		return ""
	}
	return tagOf(objects)
}

// sidecarValues are the values by which a revision chose the sidecars' image:
// global.hub, tag, variant and proxy.image, the user's or its chart's own.
func sidecarValues(r helm.Release) map[string]any {
	global, _ := helm.Reuse(r.Chart.Defaults(), r.Values)["global"].(map[string]any)
	values := map[string]any{}
	for _, key := range []string{"hub", "tag", "variant"} {
		if value, ok := global[key]; ok {
			values[key] = value
		}
	}
	if proxy, _ := global["proxy"].(map[string]any); proxy["image"] != nil {
		values["proxy"] = map[string]any{"image": proxy["image"]}
	}
	if _, ok := values["tag"]; !ok {
		values["tag"] = tagIn(r)
	}
	return values
}
