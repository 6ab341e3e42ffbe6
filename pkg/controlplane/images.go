package controlplane

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// Images gives the images that the plan would have nodes pull: those of the
// releases' own pods, and the proxy that the injector would give out. Sorted,
// each once.
func (p *Plan) Images() []string {
	var images []string
	for i := range p.Releases {
		if r := &p.Releases[i]; r.Action == Upgrade && r.rendered != nil {
			for _, o := range r.rendered.Objects {
				images = append(images, imagesIn(o.Object)...)
				images = append(images, injectedImage(o)...)
			}
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}

// imagesIn gives the images of all containers below a value.
func imagesIn(value any) []string {
	var images []string
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			list, isList := below.([]any)
			if !isList || key != "containers" && key != "initContainers" {
				images = append(images, imagesIn(below)...)
				continue
			}
			for _, container := range list {
				c, _ := container.(map[string]any)
				if image, _ := c["image"].(string); image != "" && image != "auto" {
					images = append(images, image)
				}
			}
		}
	case []any:
		for _, below := range v {
			images = append(images, imagesIn(below)...)
		}
	}
	return images
}

// injectedImage gives the proxy that an injector's ConfigMap names (istio/istio:
// manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).
func injectedImage(o *unstructured.Unstructured) []string {
	if o.GetKind() != "ConfigMap" || !strings.HasPrefix(o.GetName(), "istio-sidecar-injector") {
		return nil
	}
	text, _, _ := unstructured.NestedString(o.Object, "data", "values")
	var values struct {
		Global struct {
			Hub     string `json:"hub"`
			Tag     any    `json:"tag"`
			Variant string `json:"variant"`
			Proxy   struct {
				Image string `json:"image"`
			} `json:"proxy"`
		} `json:"global"`
	}
	if json.Unmarshal([]byte(text), &values) != nil {
		return nil
	}
	g := values.Global
	tag, _ := g.Tag.(string)
	switch {
	case strings.Contains(g.Proxy.Image, "/"):
		return []string{g.Proxy.Image}
	case g.Hub == "" || tag == "" || g.Proxy.Image == "":
		return nil
	}
	if g.Variant != "" && mesh.BaseTag(tag) == tag {
		tag += "-" + g.Variant
	}
	return []string{g.Hub + "/" + g.Proxy.Image + ":" + tag}
}
