package inject

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// mergeKeys are the lists of a container that Kubernetes merges by a key; all
// others are replaced whole (core/v1 types.go, patchMergeKey).
var mergeKeys = map[string]string{"env": "name", "ports": "containerPort", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}

// asRecorded are fields that the injector itself writes over afterwards, so that
// their record alone is true: the probes and handlers that it redirects.
var asRecorded = []string{"livenessProbe", "readinessProbe", "startupProbe", "lifecycle"}

// sinceInjection gives a container of the user's as it is to be without what was
// injected into it: as the overrides have it, with what was changed since. A
// template's part of a container has the record laid over it again in the end
// (istio pkg/kube/inject/webhook.go, reapplyOverwrittenContainers), so that what
// differs from the record is none of the injector's.
func (w *work) sinceInjection(key string, original, live map[string]any) map[string]any {
	out := map[string]any{}
	var changed []string
	for _, field := range sortedKeys(original) {
		now, there := live[field]
		switch {
		case field == "name", slices.Contains(asRecorded, field), empty(original[field]):
			out[field] = original[field]
			continue
		case !there:
			changed = append(changed, field)
			continue
		}
		out[field] = later(field, original[field], now)
		if field == "resources" && !reflect.DeepEqual(out[field], original[field]) {
			out[field] = now // requests and limits go together
		}
		if !reflect.DeepEqual(out[field], original[field]) {
			changed = append(changed, field)
		}
	}
	at := fmt.Sprintf("%s[%s]", key, nameOf(original))
	if len(changed) > 0 {
		w.note(at, fmt.Sprintf("changed since it was injected: %s; kept as now", strings.Join(changed, ", ")))
	}
	if added := w.added(original, live); len(added) > 0 {
		w.note(at, fmt.Sprintf("not in %s, so a template's or added since: %s; removed", overridesAnnotation, strings.Join(added, ", ")))
	}
	return out
}

// later gives a recorded value as it is now: of a map or a list with a key what was
// recorded and is still there, everything else whole.
func later(field string, was, now any) any {
	switch was := was.(type) {
	case map[string]any:
		now, ok := now.(map[string]any)
		if !ok {
			return now
		}
		out := map[string]any{}
		for key, value := range was {
			if present, ok := now[key]; ok {
				out[key] = later(key, value, present)
			}
		}
		return out
	case []any:
		by, keyed := mergeKeys[field]
		current, ok := now.([]any)
		if !keyed || !ok {
			return now
		}
		out := []any{}
		for _, element := range was {
			if i := slices.IndexFunc(current, func(c any) bool { return sameKey(element, c, by) }); i >= 0 {
				out = append(out, whole(by, element, current[i]))
			}
		}
		return out
	}
	return now
}

// whole gives an element of a list as it is now; of a variable that was changed the
// whole, since a value and its source exclude each other. What the API server adds
// by default is no change.
func whole(by string, was, now any) any {
	kept := later("", was, now)
	if by == "name" && !reflect.DeepEqual(kept, was) {
		return now
	}
	return kept
}

func sameKey(a, b any, key string) bool {
	x, ok := a.(map[string]any)
	y, also := b.(map[string]any)
	return ok && also && fmt.Sprint(x[key]) == fmt.Sprint(y[key])
}

// added names what a container has beside its record that a user may have added:
// what Istio's own templates add is left out.
func (w *work) added(original, live map[string]any) []string {
	var out []string
	for _, field := range []string{"args", "command", "envFrom", "ports", "resources"} {
		if _, recorded := original[field]; !recorded && !empty(live[field]) {
			out = append(out, field)
		}
	}
	// Of what was changed all is kept; what was added to the rest is not.
	recorded, now := original["resources"], live["resources"]
	if !empty(recorded) && reflect.DeepEqual(later("", recorded, now), recorded) && !reflect.DeepEqual(now, recorded) {
		out = append(out, "resources")
	}
	known := listOf(original, "env")
	for _, variable := range listOf(live, "env") {
		name := nameOf(variable)
		if findContainer(known, name) == nil && !strings.HasPrefix(name, "GRPC_XDS_") && !strings.HasPrefix(name, "ISTIO_") {
			out = append(out, "env "+name)
		}
	}
	mounts := listOf(original, "volumeMounts")
	for _, mount := range listOf(live, "volumeMounts") {
		recorded := slices.ContainsFunc(mounts, func(m map[string]any) bool { return sameKey(m, mount, "mountPath") })
		if name := nameOf(mount); !recorded && !slices.Contains(w.status.Volumes, name) && !strings.HasPrefix(name, "kube-api-access") {
			out = append(out, "volumeMount "+name)
		}
	}
	return out
}
