// Package diff shows what changes as a unified diff, with nothing secret in it.
package diff

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// contextLines is how many unchanged lines stand around a change.
const contextLines = 3

// What stands for the data of a Secret: that it changes can be seen, what it is
// cannot (as kubectl diff does).
const (
	hidden       = "(hidden)"
	hiddenBefore = "(hidden, before)"
	hiddenAfter  = "(hidden, after)"
)

// lastApplied holds a whole object once more, a Secret's data with it.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Objects gives the difference between two states of an object as a unified
// diff of their YAML, "" where there is none. Either may be nil: the object is
// added or removed then. The data of Secrets is hidden; neither is changed.
func Objects(name string, before, after *unstructured.Unstructured) (string, error) {
	from, to := content(before), content(after)
	if isSecret(before) || isSecret(after) {
		hide(from, to)
	}
	return Values(name, from, to)
}

// Values gives the difference between two maps as a unified diff of their YAML,
// "" where there is none.
func Values(name string, before, after map[string]any) (string, error) {
	texts := [2][]string{}
	for i, values := range []map[string]any{before, after} {
		if len(values) == 0 {
			continue
		}
		raw, err := yaml.Marshal(values)
		if err != nil {
			return "", fmt.Errorf("write %s as YAML: %w", name, err)
		}
		texts[i] = difflib.SplitLines(strings.TrimSuffix(string(raw), "\n"))
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: texts[0], B: texts[1], FromFile: "from/" + name, ToFile: "to/" + name, Context: contextLines,
	})
	if err != nil {
		return "", fmt.Errorf("compare %s: %w", name, err)
	}
	return text, nil
}

func isSecret(o *unstructured.Unstructured) bool {
	return o != nil && o.GetKind() == "Secret" && o.GroupVersionKind().Group == ""
}

// content copies an object without what only the server writes.
func content(o *unstructured.Unstructured) map[string]any {
	if o == nil {
		return nil
	}
	copied := o.DeepCopy().Object
	delete(copied, "status")
	if metadata, ok := copied["metadata"].(map[string]any); ok {
		for _, key := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"} {
			delete(metadata, key)
		}
	}
	return copied
}

// hide replaces what Secrets hold in both.
func hide(before, after map[string]any) {
	for _, o := range []map[string]any{before, after} {
		if metadata, ok := o["metadata"].(map[string]any); ok {
			if annotations, ok := metadata["annotations"].(map[string]any); ok {
				delete(annotations, lastApplied)
			}
		}
	}
	for _, field := range []string{"data", "stringData"} {
		from, _ := before[field].(map[string]any)
		to, _ := after[field].(map[string]any)
		for key, was := range from {
			is, stays := to[key]
			switch {
			case !stays:
				from[key] = hidden
			case reflect.DeepEqual(was, is):
				from[key], to[key] = hidden, hidden
			default:
				from[key], to[key] = hiddenBefore, hiddenAfter
			}
		}
		for key := range to {
			if _, was := from[key]; !was {
				to[key] = hidden
			}
		}
	}
}
