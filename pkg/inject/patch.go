package inject

import (
	"encoding/json"
	"fmt"
	"maps"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TemplatePatch is the JSON merge patch (application/merge-patch+json) that turns
// before's pod templates, and its last-applied-configuration, into after's. It
// carries before's resourceVersion, so that the API server refuses it where the
// object has moved on. Nothing else of after is looked at. It is nil where there
// is no difference.
func TemplatePatch(before, after *unstructured.Unstructured) ([]byte, error) {
	wanted := before.DeepCopy()
	theirs := podTemplates(after.Object)
	own := podTemplates(wanted.Object)
	if len(own) != len(theirs) {
		return nil, fmt.Errorf("%s has %d pod templates, its new version %d", objectName(before.Object), len(own), len(theirs))
	}
	for i, t := range own {
		if t.path != theirs[i].path {
			return nil, fmt.Errorf("%s has a pod template at %s, its new version at %s", objectName(before.Object), t.path, theirs[i].path)
		}
		t.copyFrom(theirs[i])
	}
	setLastApplied(wanted, after)
	old, err := json.Marshal(before.Object)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot make a patch: %w", objectName(before.Object), err)
	}
	updated, err := json.Marshal(wanted.Object)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot make a patch: %w", objectName(before.Object), err)
	}
	patch, err := jsonpatch.CreateMergePatch(old, updated)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot make a patch: %w", objectName(before.Object), err)
	}
	return withResourceVersion(patch, before)
}

// copyFrom takes over another version's spec, annotations and labels. In a Pod
// the template's metadata is the object's, of which only those are the template's;
// a CronJob has them in two places.
func (t podTemplate) copyFrom(from podTemplate) {
	clear(t.spec)
	maps.Copy(t.spec, copyOf(from.spec))
	own, theirs := []map[string]any{t.meta}, []map[string]any{from.meta}
	if t.owner["kind"] == "CronJob" {
		own, theirs = cronJobHolders(t.owner), cronJobHolders(from.owner)
	}
	for i, holder := range own {
		for _, key := range []string{"annotations", "labels"} {
			podTemplate{meta: holder}.setMeta(key, stringMap(theirs[i], key))
		}
	}
}

func cronJobHolders(obj map[string]any) []map[string]any {
	return []map[string]any{mapAt(obj, "spec", "jobTemplate"), mapAt(obj, "spec", "jobTemplate", "spec", "template")}
}

func setLastApplied(wanted, after *unstructured.Unstructured) {
	value, has := after.GetAnnotations()[lastApplied]
	annotations := wanted.GetAnnotations()
	if !has || annotations[lastApplied] == value {
		return
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[lastApplied] = value
	wanted.SetAnnotations(annotations)
}

func withResourceVersion(patch []byte, before *unstructured.Unstructured) ([]byte, error) {
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, fmt.Errorf("%s: cannot make a patch: %w", objectName(before.Object), err)
	}
	if len(fields) == 0 {
		return nil, nil
	}
	if version := before.GetResourceVersion(); version != "" {
		metadata, _ := fields["metadata"].(map[string]any)
		if metadata == nil {
			metadata = map[string]any{}
			fields["metadata"] = metadata
		}
		metadata["resourceVersion"] = version
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot make a patch: %w", objectName(before.Object), err)
	}
	return out, nil
}
