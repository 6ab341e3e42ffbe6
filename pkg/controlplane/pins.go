package controlplane

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// dyingHubs are registries that stop serving Istio, and the last minor version
// that they have (istio.io/blog/2026/retirement-of-gcp).
var dyingHubs = map[string]*semver.Version{
	"gcr.io/istio-release":      semver.MustParse("1.30.99"),
	"registry.istio.io/release": nil,
}

// pinWarnings shows values that hold an image back, or that name a registry
// which no longer serves the target.
func pinWarnings(r ReleasePlan, target *semver.Version) []string {
	var warnings []string
	if image := imageOf(r.rendered.Objects); image != "" {
		if v, ok := mesh.ImageVersion(image); !ok || !v.Equal(target) {
			warnings = append(warnings, fmt.Sprintf("%s: its values pin the image %s, whatever global.tag says", r.object(), image))
		}
	}
	values := leaves(r.values)
	for _, path := range []string{"global.proxy.image", "global.proxy_init.image", "pilot.image", "image"} {
		image, _ := values[path].(string)
		if strings.Contains(image, "/") {
			warnings = append(warnings, fmt.Sprintf("%s: the value %s pins the image %s", r.object(), path, image))
		}
	}
	for _, path := range []string{"global.hub", "pilot.hub", "hub"} {
		hub, _ := values[path].(string)
		last, dying := dyingHubs[strings.TrimSuffix(hub, "/")]
		switch {
		case dying && last != nil && last.LessThan(target):
			warnings = append(warnings, fmt.Sprintf("%s: the value %s names the registry %s, which has no images of %s; use docker.io/istio", r.object(), path, hub, target))
		case dying:
			warnings = append(warnings, fmt.Sprintf("%s: the value %s names the registry %s, which is being shut down; use docker.io/istio", r.object(), path, hub))
		}
	}
	return warnings
}

// pinRefusal stands in the way where the values hold istiod below the target:
// the sidecars, which read global.tag alone, would be newer than it.
func pinRefusal(r ReleasePlan, target *semver.Version) []gate.Refusal {
	v, ok := mesh.TagVersion(r.TagTo)
	if !ok || mesh.Compare(v, target) >= 0 || r.Component != helm.Istiod && r.Component != helm.Istio {
		return nil
	}
	cure := "change the value that pins it"
	for _, path := range []string{"pilot.tag", "tag", "pilot.image", "image"} {
		if _, pins := leaves(r.values)[path]; pins {
			cure = fmt.Sprintf("give --set %s=null, or another value", path)
			break
		}
	}
	return []gate.Refusal{{
		Object: r.object(), Forceable: true, Cure: cure,
		Reason: fmt.Sprintf("its values hold istiod at %s, so that sidecars of %s would be newer than it", v, target),
	}}
}
