package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// podTemplate is one pod template inside an object: the two maps that the
// injector reads and writes. Both are views into the object.
type podTemplate struct {
	path  string         // of the pod spec's holder, such as "spec.template"; empty for a Pod
	owner map[string]any // the whole object
	meta  map[string]any // holds "metadata" with the injector's annotations and labels
	spec  map[string]any

	metaPath string // of the annotations' holder where it is not path: a CronJob's Job template
}

// maxDepth bounds the search for templates in kinds we do not know.
const maxDepth = 32

// podTemplates finds the pod templates of an object. Known kinds have theirs at
// one place; in others every map that has a pod spec (`spec.containers`, a list
// of named containers) counts, so that custom workloads work without a list of
// their names.
func podTemplates(obj map[string]any) []podTemplate {
	kind, _ := obj["kind"].(string)
	switch kind {
	case "Pod":
		if spec := mapAt(obj, "spec"); hasContainers(spec) {
			return []podTemplate{{owner: obj, meta: obj, spec: spec}}
		}
		return nil
	case "PodTemplate":
		return templateAt(obj, "template")
	case "CronJob":
		return cronJobTemplate(obj)
	}
	if found := templateAt(obj, "spec", "template"); found != nil {
		return found
	}
	var found []podTemplate
	for _, key := range sortedKeys(obj) {
		searchTemplates(obj, obj[key], key, 0, &found)
	}
	return found
}

func templateAt(obj map[string]any, path ...string) []podTemplate {
	holder := mapAt(obj, path...)
	spec := mapAt(holder, "spec")
	if !hasContainers(spec) {
		return nil
	}
	return []podTemplate{{path: strings.Join(path, "."), owner: obj, meta: holder, spec: spec}}
}

// cronJobTemplate: kube-inject writes annotations and labels of a CronJob to the
// metadata of its Job template, in all versions (IntoObject in inject.go).
func cronJobTemplate(obj map[string]any) []podTemplate {
	found := templateAt(obj, "spec", "jobTemplate", "spec", "template")
	if found == nil {
		return nil
	}
	_, onPod := stringMap(found[0].meta, "annotations")[statusAnnotation]
	job := mapAt(obj, "spec", "jobTemplate")
	_, onJob := stringMap(job, "annotations")[statusAnnotation]
	if onJob || !onPod {
		found[0].meta, found[0].metaPath = job, "spec.jobTemplate"
	}
	return found
}

func searchTemplates(owner map[string]any, node any, path string, depth int, found *[]podTemplate) {
	if depth > maxDepth {
		return
	}
	switch node := node.(type) {
	case map[string]any:
		if spec := mapAt(node, "spec"); hasContainers(spec) {
			*found = append(*found, podTemplate{path: path, owner: owner, meta: node, spec: spec})
			return
		}
		for _, key := range sortedKeys(node) {
			searchTemplates(owner, node[key], path+"."+key, depth+1, found)
		}
	case []any:
		for i, item := range node {
			searchTemplates(owner, item, fmt.Sprintf("%s[%d]", path, i), depth+1, found)
		}
	}
}

// hasContainers tells a pod spec from other specs. Where the user wrote nothing
// but an istio-proxy, injection may leave init containers only.
func hasContainers(spec map[string]any) bool {
	list, _ := spec["containers"].([]any)
	if len(list) == 0 {
		list, _ = spec["initContainers"].([]any)
	}
	if len(list) == 0 {
		return false
	}
	for _, item := range list {
		container, ok := item.(map[string]any)
		if !ok {
			return false
		}
		if _, ok := container["name"].(string); !ok {
			return false
		}
	}
	return true
}

// field names a field of the template in notes.
func (t podTemplate) field(name string) string {
	if t.metaPath != "" && (strings.HasPrefix(name, "annotations") || strings.HasPrefix(name, "labels")) {
		return t.metaPath + "." + name
	}
	if t.path == "" {
		return name
	}
	return t.path + "." + name
}

func (t podTemplate) annotations() map[string]string { return stringMap(t.meta, "annotations") }
func (t podTemplate) labels() map[string]string      { return stringMap(t.meta, "labels") }

// setMeta writes annotations or labels back; an empty map goes. Values that are no
// strings, which the API server would refuse, are not ours to drop.
func (t podTemplate) setMeta(key string, values map[string]string) {
	metadata, _ := t.meta["metadata"].(map[string]any)
	out := make(map[string]any, len(values))
	for k, v := range mapAt(metadata, key) {
		if _, isString := v.(string); !isString {
			out[k] = v
		}
	}
	for k, v := range values {
		out[k] = v
	}
	if len(out) == 0 {
		delete(metadata, key)
		return
	}
	if metadata == nil {
		metadata = map[string]any{}
		t.meta["metadata"] = metadata
	}
	metadata[key] = out
}

// mapAt walks nested maps; nil where one is missing.
func mapAt(obj map[string]any, path ...string) map[string]any {
	for _, key := range path {
		next, _ := obj[key].(map[string]any)
		if next == nil {
			return nil
		}
		obj = next
	}
	return obj
}

// stringMap reads metadata.<key> of a holder. Values that are no strings are
// left out: the API server would refuse them.
func stringMap(holder map[string]any, key string) map[string]string {
	out := map[string]string{}
	for k, v := range mapAt(holder, "metadata", key) {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
