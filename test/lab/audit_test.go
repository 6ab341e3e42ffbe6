package lab

import "testing"

func TestWrites(t *testing.T) {
	event := func(verb, group, uri string) AuditEvent {
		e := AuditEvent{Verb: verb, RequestURI: uri}
		e.Object.APIGroup = group
		return e
	}
	tests := []struct {
		name  string
		event AuditEvent
		want  bool
	}{
		{"a list", event("list", "", "/api/v1/pods"), false},
		{"a watch", event("watch", "apps", "/apis/apps/v1/deployments?watch=true"), false},
		{"a patch", event("patch", "apps", "/apis/apps/v1/namespaces/a/deployments/b?fieldManager=istio-upgrade"), true},
		{"a dry-run", event("create", "", "/api/v1/namespaces/a/pods?dryRun=All&fieldManager=istio-upgrade"), false},
		{"a question about rights", event("create", "authorization.k8s.io", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"), false},
		{"a deletion", event("delete", "batch", "/apis/batch/v1/namespaces/a/jobs/b"), true},
		{"a deletion of many", event("deletecollection", "", "/api/v1/namespaces/a/pods"), true},
	}
	for _, test := range tests {
		if got := test.event.Writes(); got != test.want {
			t.Errorf("%s: writes %v, want %v", test.name, got, test.want)
		}
	}
}
