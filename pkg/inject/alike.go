package inject

import (
	"maps"
	"reflect"
)

// saysTheSame says whether a template of a manifest and the live one, both without
// a sidecar, are the same up to what the API server fills in: nothing that the
// manifest says is otherwise in the live one, and their labels and annotations
// are equal. What is injected into one is then what is injected into the other.
func saysTheSame(manifest, live podTemplate) bool {
	return manifest.path == live.path &&
		maps.Equal(manifest.annotations(), live.annotations()) && maps.Equal(manifest.labels(), live.labels()) &&
		filledIn(manifest.spec, live.spec)
}

// defaulted are the fields of a pod's spec that the API server fills in where a
// manifest does not have them (kubernetes/kubernetes:pkg/apis/core/v1/defaults.go).
// What else a live template has more, somebody has put there.
var defaulted = map[string]bool{
	"dnsPolicy": true, "restartPolicy": true, "schedulerName": true, "serviceAccount": true, "terminationGracePeriodSeconds": true,
	"imagePullPolicy": true, "terminationMessagePath": true, "terminationMessagePolicy": true, "protocol": true, "requests": true,
	"timeoutSeconds": true, "periodSeconds": true, "successThreshold": true, "failureThreshold": true, "scheme": true, "path": true,
	"apiVersion": true, "divisor": true, "defaultMode": true, "expirationSeconds": true, "volumeMode": true,
}

// empty says whether a value is nothing, or without anything in it.
func empty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return false
}

// filledIn says whether a value is another one with more fields. Lists have the
// same entries, in their order: an entry more is more than a default.
func filledIn(sparse, full any) bool {
	switch sparse := sparse.(type) {
	case map[string]any:
		full, ok := full.(map[string]any)
		if !ok {
			return len(sparse) == 0
		}
		for key, value := range sparse {
			if value != nil && !filledIn(value, full[key]) {
				return false
			}
		}
		for key, value := range full {
			if _, said := sparse[key]; !said && !defaulted[key] && !empty(value) {
				return false
			}
		}
		return true
	case []any:
		full, ok := full.([]any)
		if !ok || len(sparse) != len(full) {
			return !ok && len(sparse) == 0
		}
		for i := range sparse {
			if !filledIn(sparse[i], full[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(sparse, full)
}
