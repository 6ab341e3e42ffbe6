package controlplane

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func webhook(fields map[string]any) *unstructured.Unstructured {
	hook := map[string]any{"name": "a.istio.io", "clientConfig": map[string]any{"url": "https://localhost"}}
	for key, value := range fields {
		if key == "caBundle" {
			hook["clientConfig"].(map[string]any)[key] = value
			continue
		}
		hook[key] = value
	}
	return &unstructured.Unstructured{Object: map[string]any{"webhooks": []any{hook}}}
}

func TestCarryWebhooks(t *testing.T) {
	t.Parallel()
	ca, fail, ignore := map[string]any{"caBundle": "Q0E="}, map[string]any{"failurePolicy": "Fail"}, map[string]any{"failurePolicy": "Ignore"}
	none := map[string]any{}
	for name, c := range map[string]struct{ original, live, target, want map[string]any }{
		"not rendered, never was":       {none, ca, none, none},
		"rendered empty":                {none, ca, map[string]any{"caBundle": ""}, ca},
		"rendered as a line feed":       {none, ca, map[string]any{"caBundle": "Cg=="}, ca},
		"no longer rendered":            {map[string]any{"caBundle": ""}, ca, none, ca},
		"a user's own bundle":           {none, ca, map[string]any{"caBundle": "T1dO"}, map[string]any{"caBundle": "T1dO"}},
		"nothing there":                 {none, none, map[string]any{"caBundle": ""}, map[string]any{"caBundle": ""}},
		"Ignore over istiod's Fail":     {ignore, fail, ignore, fail},
		"policy no longer rendered":     {ignore, fail, none, fail},
		"policy that nobody mended yet": {ignore, ignore, ignore, ignore},
		"Fail over Ignore":              {ignore, ignore, fail, fail},
	} {
		target := webhook(c.target)
		carryWebhooks(webhook(c.original), webhook(c.live), target)
		if diff := cmp.Diff(webhook(c.want).Object, target.Object); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func entry(manager, subresource, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, APIVersion: "apps/v1", Subresource: subresource,
		FieldsV1: metav1.NewFieldsV1(fields),
	}
}

const replicasField = `{"f:spec":{"f:replicas":{}}}`

func TestClaimReplicas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entries []metav1.ManagedFieldsEntry
		changed bool
	}{
		"the chart alone":      {[]metav1.ManagedFieldsEntry{entry("helm", "", replicasField)}, true},
		"the autoscaler too":   {[]metav1.ManagedFieldsEntry{entry("helm", "", replicasField), entry("kube-controller-manager", "scale", replicasField)}, false},
		"nobody":               {[]metav1.ManagedFieldsEntry{entry("helm", "", `{"f:spec":{"f:template":{}}}`)}, false},
		"entries without text": {[]metav1.ManagedFieldsEntry{{Manager: "x"}}, false},
	} {
		got, changed := claimReplicas(c.entries)
		if changed != c.changed {
			t.Errorf("%s: changed is %v", name, changed)
		}
		if changed {
			last := got[len(got)-1]
			if owns, _ := ownsReplicas(last); !owns || last.Subresource != "scale" || last.Manager != "kube-controller-manager" || len(got) != len(c.entries)+1 {
				t.Errorf("%s: got %+v", name, got)
			}
		}
	}
}

func TestReleaseReplicas(t *testing.T) {
	t.Parallel()
	got, changed := releaseReplicas([]metav1.ManagedFieldsEntry{
		entry("helm", "", replicasField),
		entry("kube-controller-manager", "scale", replicasField),
		entry("keda", "scale", `{"f:metadata":{"f:x":{}},"f:spec":{"f:replicas":{}}}`),
	})
	want := []metav1.ManagedFieldsEntry{entry("helm", "", replicasField), entry("keda", "scale", `{"f:metadata":{"f:x":{}}}`)}
	if diff := cmp.Diff(want, got); !changed || diff != "" {
		t.Error(changed, diff)
	}
	if _, changed := releaseReplicas([]metav1.ManagedFieldsEntry{entry("helm", "", replicasField)}); changed {
		t.Error("the chart's own claim was taken away")
	}
}
