package crds

import (
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/diff"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// addDiffs fills in what changes in each definition, as unified diffs.
func (p *Plan) addDiffs(live []mesh.CRD) error {
	for i := range p.CRDs {
		change := &p.CRDs[i]
		to := slices.IndexFunc(p.work.targets, func(t target) bool { return t.Name == change.Name })
		if change.Action == Unchanged || to < 0 {
			continue
		}
		target := p.work.targets[to].Object
		after, err := shownOf(target, target)
		if err != nil {
			return err
		}
		var before map[string]any
		if from := slices.IndexFunc(live, func(c mesh.CRD) bool { return c.Name == change.Name }); from >= 0 {
			if before, err = shownOf(live[from].Object, target); err != nil {
				return err
			}
		}
		if change.Diff, err = diff.Values("customresourcedefinition/"+change.Name, before, after); err != nil {
			return err
		}
	}
	return nil
}

// shownOf gives what is compared of a definition: its spec with the server's
// defaults, and the labels and annotations that the target has, since others
// stay as they are.
func shownOf(crd, target *apiextensionsv1.CustomResourceDefinition) (map[string]any, error) {
	defaults := defaulted(crd)
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&defaults)
	if err != nil {
		return nil, fmt.Errorf("read the definition %s: %w", crd.Name, err)
	}
	return map[string]any{
		"metadata": map[string]any{
			"name": crd.Name, "labels": inCommon(crd.Labels, target.Labels), "annotations": inCommon(crd.Annotations, target.Annotations),
		},
		"spec": spec,
	}, nil
}

// inCommon gives what is in have under the keys of wanted.
func inCommon(have, wanted map[string]string) map[string]any {
	out := map[string]any{}
	for key := range wanted {
		if value, ok := have[key]; ok {
			out[key] = value
		}
	}
	return out
}
