package controlplane

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/diff"
)

// addDiffs fills in what changes in the user's values and in each object, as
// unified diffs. What Secrets hold, and values that a plan does not show, are in
// neither.
func (r *ReleasePlan) addDiffs(storedValues map[string]any, before []*unstructured.Unstructured) error {
	secrets := hiddenTexts(storedValues, r.values)
	text, err := diff.Values("values of "+r.Name, visible("", storedValues), visible("", r.values))
	if err != nil {
		return err
	}
	r.ValuesDiff = text
	old, now := byKey(before, r.Namespace), byKey(r.rendered.Objects, r.Namespace)
	for i := range r.Objects {
		change := &r.Objects[i]
		from, to := old[change.key()], now[change.key()]
		text, err := diff.Objects(strings.ToLower(change.Kind)+"/"+change.Name, from, to)
		if err != nil {
			return err
		}
		change.Diff = secrets.Replace(text)
	}
	return nil
}

// key tells the objects of a plan apart.
func (c ObjectChange) key() objectKey { return objectKey{"", c.Kind, c.Namespace, c.Name} }

func byKey(objects []*unstructured.Unstructured, namespace string) map[objectKey]*unstructured.Unstructured {
	all := map[objectKey]*unstructured.Unstructured{}
	for _, o := range objects {
		key := keyOf(o, namespace)
		key.group = ""
		all[key] = o
	}
	return all
}

// visible copies values with those hidden that a plan does not show.
func visible(prefix string, values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for key, value := range values {
		path := prefix + strings.ReplaceAll(key, ".", `\.`)
		if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
			out[key] = visible(path+".", inner)
			continue
		}
		out[key] = shown(path, value)
	}
	return out
}

// minHidden is how long a text must be to be looked for in objects: shorter ones
// would be found in innocent words.
const minHidden = 6

// hiddenTexts replaces what is hidden in values wherever the charts put it.
func hiddenTexts(all ...map[string]any) *strings.Replacer {
	texts := map[string]bool{}
	for _, values := range all {
		for path, value := range leaves(values) {
			if text, ok := value.(string); ok && len(text) >= minHidden && shown(path, value) == Hidden {
				texts[text] = true
			}
		}
	}
	var pairs []string
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		pairs = append(pairs, text, Hidden)
	}
	return strings.NewReplacer(pairs...)
}
