package helm

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// manifestFile is where a chart made of a manifest keeps it.
const manifestFile = "manifest.yaml"

// ManifestChart makes a chart that renders exactly these objects, under the name,
// version and default values of a release's chart. It stands in for that one
// where Helm has not stored it whole: without its subcharts. It has no hooks.
func ManifestChart(rel Release, objects []*unstructured.Unstructured) (*Chart, error) {
	var text strings.Builder
	for _, o := range objects {
		raw, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s %s of %s: %w", o.GetKind(), o.GetName(), rel, err)
		}
		fmt.Fprintf(&text, "---\n%s", raw)
	}
	metadata := *rel.Chart.Chart.Metadata
	metadata.Dependencies = nil
	manifest := []byte(text.String())
	load := func() (*chart.Chart, error) {
		own := metadata
		return &chart.Chart{
			Metadata: &own, Values: copyValues(rel.Chart.Chart.Values),
			// A file, not a template: the injector's own templates are in it.
			Templates: []*common.File{{Name: "templates/" + manifestFile, Data: []byte(`{{ .Files.Get "` + manifestFile + `" }}`)}},
			Files:     []*common.File{{Name: manifestFile, Data: slices.Clone(manifest)}},
		}, nil
	}
	loaded, err := load()
	if err != nil {
		return nil, err
	}
	return &Chart{
		Component: rel.Component, Name: metadata.Name, Version: metadata.Version, Placeholder: rel.Chart.Placeholder,
		From: "what the release wrote", Chart: loaded, load: load,
	}, nil
}
