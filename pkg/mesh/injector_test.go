package mesh

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	admissionv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func in(key string, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: values}
}

func notIn(key string, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpNotIn, Values: values}
}

func absent(key string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpDoesNotExist}
}

func entry(name string, namespace, object []metav1.LabelSelectorRequirement) admissionv1.MutatingWebhook {
	none, fail, path := admissionv1.SideEffectClassNone, admissionv1.Fail, "/inject"
	return admissionv1.MutatingWebhook{
		Name: name, SideEffects: &none, FailurePolicy: &fail,
		NamespaceSelector: &metav1.LabelSelector{MatchExpressions: namespace},
		ObjectSelector:    &metav1.LabelSelector{MatchExpressions: object},
		ClientConfig:      admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "istio-system", Name: "istiod", Path: &path}},
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
	}
}

// configuration has the entries that the charts since 1.10 render
// (istio-discovery/templates/mutatingwebhook.yaml, revision-tags-mwc.yaml).
// asked is what namespaces and pods name to get it.
func configuration(name, revision, tag, asked string) *admissionv1.MutatingWebhookConfiguration {
	c := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"app": "sidecar-injector", "istio.io/rev": revision},
	}}
	if tag != "" {
		c.Labels["istio.io/tag"] = tag
	}
	type reqs = []metav1.LabelSelectorRequirement
	c.Webhooks = []admissionv1.MutatingWebhook{
		entry("rev.namespace.sidecar-injector.istio.io",
			reqs{in("istio.io/rev", asked), absent("istio-injection")}, reqs{notIn("sidecar.istio.io/inject", "false")}),
		entry("rev.object.sidecar-injector.istio.io",
			reqs{absent("istio.io/rev"), absent("istio-injection")}, reqs{notIn("sidecar.istio.io/inject", "false"), in("istio.io/rev", asked)}),
	}
	if asked == "default" {
		c.Webhooks = append(c.Webhooks,
			entry("namespace.sidecar-injector.istio.io",
				reqs{in("istio-injection", "enabled")}, reqs{notIn("sidecar.istio.io/inject", "false")}),
			entry("object.sidecar-injector.istio.io",
				reqs{absent("istio-injection"), absent("istio.io/rev")}, reqs{in("sidecar.istio.io/inject", "true"), absent("istio.io/rev")}))
	}
	return c
}

func readInjectors(t *testing.T, objects ...runtime.Object) []Injector {
	t.Helper()
	injectors, err := ReadInjectors(t.Context(), fake.NewClientset(objects...))
	if err != nil {
		t.Fatal(err)
	}
	return injectors
}

// TestServing takes a mesh of a default revision, a revision canary, and a tag
// prod that leads to canary, and asks who serves a pod.
func TestServing(t *testing.T) {
	injectors := readInjectors(t,
		configuration("istio-sidecar-injector", "default", "", "default"),
		configuration("istio-sidecar-injector-canary", "canary", "", "canary"),
		configuration("istio-revision-tag-prod", "canary", "prod", "prod"))
	type labels = map[string]string
	for _, c := range []struct {
		name           string
		namespace, pod labels
		want           []string // revision, or revision by tag
	}{
		{"nothing asks", nil, nil, nil},
		{"namespace asks", labels{"istio-injection": "enabled"}, nil, []string{"default"}},
		{"pod opts out", labels{"istio-injection": "enabled"}, labels{"sidecar.istio.io/inject": "false"}, nil},
		{"namespace opts out", labels{"istio-injection": "disabled"}, labels{"sidecar.istio.io/inject": "true"}, nil},
		{"pod asks", nil, labels{"sidecar.istio.io/inject": "true"}, []string{"default"}},
		{"namespace names a revision", labels{"istio.io/rev": "canary"}, nil, []string{"canary"}},
		{"namespace names a tag", labels{"istio.io/rev": "prod"}, nil, []string{"canary by prod"}},
		{"namespace names default", labels{"istio.io/rev": "default"}, nil, []string{"default"}},
		{"revision that nobody serves", labels{"istio.io/rev": "gone"}, nil, nil},
		{"istio-injection beats the revision", labels{"istio-injection": "enabled", "istio.io/rev": "canary"}, nil, []string{"default"}},
		{"namespace beats the pod", labels{"istio.io/rev": "canary"}, labels{"istio.io/rev": "default"}, []string{"canary"}},
		{"pod names a revision", nil, labels{"istio.io/rev": "canary"}, []string{"canary"}},
		{"pod names a tag", nil, labels{"istio.io/rev": "prod"}, []string{"canary by prod"}},
		{"pod names a revision and asks", nil, labels{"istio.io/rev": "canary", "sidecar.istio.io/inject": "true"}, []string{"canary"}},
		{"pod names a revision and opts out", nil, labels{"istio.io/rev": "canary", "sidecar.istio.io/inject": "false"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, i := range Serving(injectors, c.namespace, c.pod, "shop") {
				if i.Tag != "" {
					got = append(got, i.Revision+" by "+i.Tag)
				} else {
					got = append(got, i.Revision)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeactivatedServesNobody(t *testing.T) {
	c := configuration("istio-sidecar-injector", "default", "", "default")
	never := metav1.LabelSelector{MatchLabels: map[string]string{"istio.io/deactivated": "never-match"}}
	for i := range c.Webhooks {
		c.Webhooks[i].NamespaceSelector, c.Webhooks[i].ObjectSelector = &never, &never
	}
	injectors := readInjectors(t, c, configuration("istio-revision-tag-default", "canary", "default", "default"))
	serving := Serving(injectors, map[string]string{"istio-injection": "enabled"}, nil, "shop")
	if len(serving) != 1 || serving[0].Revision != "canary" || serving[0].Tag != "default" {
		t.Errorf("serving: %+v", serving)
	}
	for _, i := range injectors {
		if i.Deactivated != (i.Configuration == "istio-sidecar-injector") {
			t.Errorf("%s %s: deactivated is %v", i.Configuration, i.Webhook, i.Deactivated)
		}
	}
}

func TestNamespaceNameIsImplied(t *testing.T) {
	c := configuration("istio-sidecar-injector", "default", "", "default")
	c.Webhooks = []admissionv1.MutatingWebhook{entry("auto.sidecar-injector.istio.io",
		[]metav1.LabelSelectorRequirement{notIn("kubernetes.io/metadata.name", "kube-system")}, nil)}
	injectors := readInjectors(t, c)
	if got := Serving(injectors, nil, nil, "kube-system"); len(got) != 0 {
		t.Errorf("kube-system is served: %+v", got)
	}
	if got := Serving(injectors, nil, nil, "shop"); len(got) != 1 {
		t.Errorf("shop is served by %d", len(got))
	}
}

// TestLegacyInjector reads the webhook of the 1.0 to 1.5 charts: no labels of
// revisions, no sideEffects, an API version that only old servers have.
func TestLegacyInjector(t *testing.T) {
	path := "/inject"
	legacy := &admissionv1beta1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "istio-sidecar-injector", Labels: map[string]string{"app": "sidecarInjectorWebhook"}},
		Webhooks: []admissionv1beta1.MutatingWebhook{{
			Name:              "sidecar-injector.istio.io",
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"istio-injection": "enabled"}},
			ClientConfig: admissionv1beta1.WebhookClientConfig{Service: &admissionv1beta1.ServiceReference{
				Namespace: "istio-system", Name: "istio-sidecar-injector", Path: &path,
			}},
		}},
	}
	client := fake.NewClientset(legacy)
	client.PrependReactor("list", "mutatingwebhookconfigurations", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetResource().Version == "v1" {
			return true, nil, apierrors.NewNotFound(schema.GroupResource{}, "")
		}
		return false, nil, nil
	})
	injectors, err := ReadInjectors(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	serving := Serving(injectors, map[string]string{"istio-injection": "enabled"}, nil, "shop")
	if len(serving) != 1 {
		t.Fatalf("served by %d", len(serving))
	}
	got := serving[0]
	if got.Revision != "default" || got.DryRunnable || got.Service != "istio-system/istio-sidecar-injector" || !got.CABundleEmpty {
		t.Errorf("got %+v", got)
	}
}

func TestOtherPodWebhooks(t *testing.T) {
	some := admissionv1.SideEffectClassSome
	other := entry("policy.example.com", []metav1.LabelSelectorRequirement{in("team", "a")}, nil)
	other.SideEffects = &some
	onNodes := entry("nodes.example.com", nil, nil)
	onNodes.Rules[0].Resources = []string{"nodes"}
	all := entry("all.example.com", nil, nil)
	all.Rules[0].APIGroups, all.Rules[0].Resources = []string{"*"}, []string{"*/*"}
	foreign := &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "foreign"},
		Webhooks:   []admissionv1.MutatingWebhook{other, onNodes, all},
	}
	none := admissionv1.SideEffectClassNone
	judge := &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "judge"},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "judge.example.com", SideEffects: &none, Rules: entry("", nil, nil).Rules,
		}},
	}
	hooks, err := ReadWebhooks(t.Context(), fake.NewClientset(foreign, judge, configuration("istio-sidecar-injector", "default", "", "default")))
	if err != nil {
		t.Fatal(err)
	}
	names := func(namespace map[string]string) (names []string, dry bool) {
		dry = true
		for _, h := range hooks.OtherPodWebhooks(namespace, nil, "shop") {
			names = append(names, h.Webhook)
			dry = dry && h.DryRunnable
		}
		slices.Sort(names)
		return names, dry
	}
	got, dry := names(map[string]string{"team": "a"})
	if diff := cmp.Diff([]string{"all.example.com", "judge.example.com", "policy.example.com"}, got); diff != "" || dry {
		t.Errorf("dry-runnable %v, %s", dry, diff)
	}
	got, dry = names(nil)
	if diff := cmp.Diff([]string{"all.example.com", "judge.example.com"}, got); diff != "" || !dry {
		t.Errorf("dry-runnable %v, %s", dry, diff)
	}
	if len(hooks.Injectors) != 4 {
		t.Errorf("%d injectors", len(hooks.Injectors))
	}
}

func TestSelectorKeys(t *testing.T) {
	injectors := readInjectors(t, configuration("istio-sidecar-injector", "default", "", "default"))
	want := []string{"istio-injection", "istio.io/rev", "sidecar.istio.io/inject"}
	if diff := cmp.Diff(want, SelectorKeys(injectors)); diff != "" {
		t.Error(diff)
	}
}
