package crds

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

func managed(manager string, operation metav1.ManagedFieldsOperationType, subresource, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource, APIVersion: "apiextensions.k8s.io/v1",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
}

const (
	ownsSpec   = `{"f:spec":{"f:versions":{}}}`
	ownsLabel  = `{"f:metadata":{"f:labels":{"f:team":{}}}}`
	ownsStatus = `{"f:status":{"f:conditions":{}}}`
)

func TestHandToHelm(t *testing.T) {
	apply, update := metav1.ManagedFieldsOperationApply, metav1.ManagedFieldsOperationUpdate
	type entries = []metav1.ManagedFieldsEntry
	for _, c := range []struct {
		name string
		have entries
		want []string // nil where nothing is to change
	}{
		{"Helm's own", entries{managed("helm", apply, "", ownsSpec), managed("kube-apiserver", update, "status", ownsStatus)}, nil},
		{
			"kubectl's",
			entries{managed("kubectl-client-side-apply", update, "", ownsSpec), managed("kube-apiserver", update, "status", ownsStatus)},
			[]string{"helm Apply", "kube-apiserver Update"},
		},
		{"Helm 3's", entries{managed("helm", update, "", ownsSpec)}, []string{"helm Apply"}},
		{"another server-side apply beside Helm's", entries{managed("helm", apply, "", ownsLabel), managed("istio-operator", apply, "", ownsSpec)}, []string{"helm Apply"}},
		{"two of one name", entries{managed("kubectl", apply, "", ownsSpec), managed("kubectl", update, "", ownsSpec)}, []string{"helm Apply"}},
		{"a person's label", entries{managed("helm", apply, "", ownsSpec), managed("kubectl-label", update, "", ownsLabel)}, nil},
		{
			"a person's label stays",
			entries{managed("kubectl-create", update, "", ownsSpec), managed("kubectl-label", update, "", ownsLabel)},
			[]string{"helm Apply", "kubectl-label Update"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			moved, err := handToHelm(c.have)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, entry := range moved {
				got = append(got, entry.Manager+" "+string(entry.Operation))
				if entry.Manager == "helm" && !strings.Contains(entry.FieldsV1.GetRawString(), "f:versions") {
					t.Errorf("Helm does not own the versions: %s", entry.FieldsV1.GetRawString())
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrepare(t *testing.T) {
	release := &helm.Release{Name: "istio-base", Namespace: "istio-system"}
	live := crd(t, definition(version("v1", true, hosts)))
	live.Object.ResourceVersion = "7"
	if patch, err := prepare(live, release, false, true, false); err != nil || patch != nil {
		t.Errorf("a definition that is ready gets %v, %v", patch, err)
	}
	live.Object.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
	got, err := prepare(live, release, true, true, false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"metadata": map[string]any{
		"resourceVersion": "7",
		"labels":          map[string]any{"app.kubernetes.io/managed-by": "Helm"},
		"annotations": map[string]any{
			"kubectl.kubernetes.io/last-applied-configuration": nil,
			"meta.helm.sh/release-name":                        "istio-base",
			"meta.helm.sh/release-namespace":                   "istio-system",
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestKeepFields is an upgrade to a chart that writes failurePolicy Ignore and
// an empty caBundle, over what istiod has put there.
func TestKeepFields(t *testing.T) {
	live := parse(t, `{kind: ValidatingWebhookConfiguration, webhooks: [
  {name: a, failurePolicy: Fail, clientConfig: {caBundle: Y2E=}}, {name: gone, failurePolicy: Fail}]}`)
	object := parse(t, `{kind: ValidatingWebhookConfiguration, webhooks: [
  {name: a, failurePolicy: Ignore, clientConfig: {caBundle: ""}}, {name: new, failurePolicy: Ignore}]}`)
	want := parse(t, `{kind: ValidatingWebhookConfiguration, webhooks: [
  {name: a, failurePolicy: Fail, clientConfig: {caBundle: Y2E=}}, {name: new, failurePolicy: Ignore}]}`)
	if err := keepFields(object, live); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, object); diff != "" {
		t.Error(diff)
	}
}
