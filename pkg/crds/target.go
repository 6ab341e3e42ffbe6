package crds

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// target is a definition as the target chart has it.
type target struct {
	*mesh.CRD
}

// rawFile holds the definitions of the chart base from 1.24 on as they are
// meant for those who apply them without Helm.
const rawFile = "files/crd-all.gen.yaml"

// chartCRDs gives the definitions that a chart brings, by name: from its
// templates (base 1.24 and later), its crds folder (base 1.6 to 1.23), or the
// ConfigMaps that its Jobs apply (istio-init). inTemplates says the first.
// With whole, the plain file is taken where the chart has one: without a release,
// the templates' labels would name one that is not there; and the values of those
// whose definitions come from elsewhere switch them off. A chart that brings none
// is a *gate.BadInput.
func chartCRDs(ch *helm.Chart, rendered *helm.Rendered, whole bool) (targets []target, inTemplates bool, err error) {
	var definitions []*unstructured.Unstructured
	switch {
	case ch.Component == helm.IstioInit:
		definitions, err = jobCRDs(rendered.Objects)
	case whole && file(ch, rawFile) != "":
		definitions, err = helm.ParseManifest(file(ch, rawFile))
	case hasCRDs(rendered.Objects):
		definitions, inTemplates = rendered.Objects, true
	default:
		for _, crd := range ch.Chart.CRDObjects() {
			objects, parseErr := helm.ParseManifest(string(crd.File.Data))
			if parseErr != nil {
				return nil, false, gate.BadInputf("the chart %s: %s: %v", ch, crd.Name, parseErr)
			}
			definitions = append(definitions, objects...)
		}
	}
	if err != nil {
		return nil, false, gate.BadInputf("the chart %s: %v", ch, err)
	}
	for _, object := range definitions {
		if !isCRD(object) {
			continue
		}
		crd, err := mesh.NewCRD(object)
		if err != nil {
			return nil, false, gate.BadInputf("the chart %s: %v", ch, err)
		}
		targets = append(targets, target{crd})
	}
	if len(targets) == 0 && file(ch, rawFile) != "" {
		return nil, false, gate.BadInputf("the release's values (base.excludedCRDs, global.resourceScope) keep the chart %s from bringing any CustomResourceDefinition; where they come from elsewhere, give --external", ch)
	}
	if len(targets) == 0 {
		return nil, false, gate.BadInputf("the chart %s from %s brings no CustomResourceDefinition of Istio", ch, ch.From)
	}
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.Name, b.Name) })
	return targets, inTemplates, nil
}

// jobCRDs reads the definitions out of the ConfigMaps that the Jobs of
// istio-init mount (crd-10.yaml and so on).
func jobCRDs(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	for _, object := range objects {
		if object.GetKind() != "ConfigMap" {
			continue
		}
		data, _, err := unstructured.NestedStringMap(object.Object, "data")
		if err != nil {
			return nil, fmt.Errorf("configmap %s: %w", object.GetName(), err)
		}
		for key, text := range data {
			if !strings.Contains(text, "CustomResourceDefinition") {
				continue
			}
			definitions, err := helm.ParseManifest(text)
			if err != nil {
				return nil, fmt.Errorf("configmap %s, %s: %w", object.GetName(), key, err)
			}
			found = append(found, definitions...)
		}
	}
	return found, nil
}

// isCRD says whether an object is a definition of a *.istio.io group.
func isCRD(object *unstructured.Unstructured) bool {
	if object.GetKind() != "CustomResourceDefinition" {
		return false
	}
	group, _, _ := unstructured.NestedString(object.Object, "spec", "group")
	return mesh.IsIstioGroup(group)
}

func hasCRDs(objects []*unstructured.Unstructured) bool { return slices.ContainsFunc(objects, isCRD) }

func file(ch *helm.Chart, name string) string {
	for _, f := range ch.Chart.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// labelVersion gives the version that definitions are labelled with: the chart's,
// without what no label may hold, or the tag's where the chart's says nothing.
func labelVersion(ch *helm.Chart, tag *semver.Version) string {
	if ch.Placeholder {
		return tag.String()
	}
	version, _, _ := strings.Cut(ch.Version, "+")
	return version
}

// markVersion labels definitions with their version, as the templates of
// today's charts do and the plain file does not: what a former installer wrote
// there would be untrue.
func markVersion(targets []target, version string) {
	for _, t := range targets {
		labels := t.Raw.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[versionLabel] = version
		t.Raw.SetLabels(labels)
		t.Object.SetLabels(labels)
	}
}
