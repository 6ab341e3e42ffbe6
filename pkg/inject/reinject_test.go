package inject

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
)

var testSettings = Settings{Revision: "canary", InjectConfig: "templates: {}", MeshConfig: "{}", Values: "{}"}

func named(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	api := map[string]string{"Deployment": "apps/v1", "Rollout": "argoproj.io/v1alpha1", "CronJob": "batch/v1", "Pod": "v1", "Job": "batch.example/v1"}[kind]
	pod := "{metadata: {labels: {app: " + name + "}}, spec: {future: {a: 1}, containers: [{name: app, image: app, future: x, env: [{name: A, value: b, future: y}]}], volumes: [{name: data, future: z}]}}"
	spec := "template: " + pod
	switch kind {
	case "CronJob":
		spec = "jobTemplate: {spec: {template: " + pod + "}}"
	case "Pod":
		spec = "containers: [{name: app, image: app, future: x}]"
	}
	return object(t, "{apiVersion: "+api+", kind: "+kind+", metadata: {name: "+name+", namespace: shop, resourceVersion: '7', uid: u}, spec: {"+spec+"}}")
}

func TestReinject(t *testing.T) {
	for _, way := range []string{"well", "reversed", "warnings"} {
		t.Run(way, func(t *testing.T) {
			istioctl := fakeIstioctl(t, way)
			var objects []*unstructured.Unstructured
			for _, kind := range []string{"Deployment", "Rollout", "CronJob", "Pod", "Job"} {
				objects = append(objects, named(t, kind, "one"), named(t, kind, "two"))
			}
			results, err := Reinject(t.Context(), istioctl, testSettings, objects)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range results {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				if r.Before != objects[i] || r.After.GetName() != objects[i].GetName() || r.After.GetUID() != "u" || len(r.Added) != 1 {
					t.Errorf("%s came back as %+v", objectName(objects[i].Object), r)
				}
				clean, _, err := Uninject(r.After)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(objects[i].Object, clean.Object); diff != "" {
					t.Errorf("%s lost or gained more than the sidecar (-want +got):\n%s", objectName(objects[i].Object), diff)
				}
			}
			text := toYAML(t, results[0].After.Object)
			for _, flag := range []string{"--revision canary", "--injectConfigFile", "--meshConfigFile", "--valuesFile"} {
				if !strings.Contains(text, flag) {
					t.Errorf("istioctl was not given %s", flag)
				}
			}
			if text := toYAML(t, results[2].After.Object); !strings.Contains(text, "kubernetes://apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/one") {
				t.Errorf("the Rollout is not the proxy's owner:\n%s", text)
			}
			if text := toYAML(t, results[0].After.Object); strings.Contains(text, envOwner) {
				t.Errorf("a Deployment's owner is istioctl's to write:\n%s", text)
			}
		})
	}
}

func TestReinjectMisbehaviour(t *testing.T) {
	for _, tc := range []struct {
		way     string
		all     string // error about all
		bad     string // error about the object bad
		timeout time.Duration
	}{
		{way: "fail", all: "istioctl kube-inject failed (exit status 1): Error: template: inject:1: unexpected }"},
		{way: "hang", all: "did not end within 500ms", timeout: 500 * time.Millisecond},
		{way: "no istioctl", all: "has no command kube-inject"},
		{way: "garbage", all: "printed what is no manifest"},
		{way: "leave out", all: "istioctl kube-inject left out Deployment/"},
		{way: "extra", all: "gave Secret/surprise, which it was not asked for"},
		{way: "twice", all: "twice"},
		{way: "refuse bad", bad: "Deployment/shop/bad: istioctl kube-inject failed (exit status 1): Error: invalid annotation of bad"},
		{way: "uninjected", bad: "Deployment/shop/bad: istioctl kube-inject gave it back without a sidecar"},
	} {
		t.Run(tc.way, func(t *testing.T) {
			istioctl := fakeIstioctl(t, tc.way)
			if tc.timeout > 0 {
				istioctl.Timeout = tc.timeout
			}
			objects := []*unstructured.Unstructured{named(t, "Deployment", "good"), named(t, "Deployment", "bad"), named(t, "Deployment", "fine")}
			results, err := Reinject(t.Context(), istioctl, testSettings, objects)
			if tc.all != "" {
				if err == nil || !strings.Contains(err.Error(), tc.all) {
					t.Fatalf("error %v, want %q", err, tc.all)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if results[0].Err != nil || results[2].Err != nil || results[0].After == nil || results[2].After == nil {
				t.Errorf("the others: %v, %v", results[0].Err, results[2].Err)
			}
			if err := results[1].Err; err == nil || !strings.Contains(err.Error(), tc.bad) || results[1].After != nil {
				t.Errorf("error %v, want %q", err, tc.bad)
			}
		})
	}
}

func TestReinjectCancelled(t *testing.T) {
	istioctl := fakeIstioctl(t, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err := Reinject(ctx, istioctl, testSettings, []*unstructured.Unstructured{named(t, "Deployment", "one")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// TestLastApplied: a manifest that was applied with a sidecar gets the new one
// too; one without stays as the user wrote it.
func TestLastApplied(t *testing.T) {
	istioctl := fakeIstioctl(t, "well")
	applied := func(obj *unstructured.Unstructured) *unstructured.Unstructured {
		raw, err := json.Marshal(obj.Object)
		if err != nil {
			t.Fatal(err)
		}
		out := obj.DeepCopy()
		out.SetAnnotations(map[string]string{lastApplied: string(raw)})
		return out
	}
	plain := named(t, "Deployment", "one")
	old := withSidecar(t, plain.DeepCopy(), status112, map[string]string{"OLD": "yes"}, nil, false)
	old.Object["status"] = map[string]any{} // as kube-inject prints it
	withOriginal := old.DeepCopy()
	withOriginal.SetAnnotations(applied(plain).GetAnnotations())

	results, err := Reinject(t.Context(), istioctl, testSettings, []*unstructured.Unstructured{applied(old), withOriginal})
	if err != nil || results[0].Err != nil || results[1].Err != nil {
		t.Fatal(err, results)
	}
	var manifest map[string]any
	if err := json.Unmarshal([]byte(results[0].After.GetAnnotations()[lastApplied]), &manifest); err != nil {
		t.Fatal(err)
	}
	found, ok := Injected(&unstructured.Unstructured{Object: manifest})
	if !ok || found.Version != "1.31.0" {
		t.Errorf("the applied manifest has the sidecar %+v", found)
	}
	if _, has := manifest["status"]; !has {
		t.Error("what kube-inject prints anew has a status, the applied manifest has none")
	}
	if got := results[1].After.GetAnnotations()[lastApplied]; got != withOriginal.GetAnnotations()[lastApplied] {
		t.Errorf("the original was changed in last-applied: %s", got)
	}
	if strings.Contains(toYAML(t, results[1].After.Object), "OLD") {
		t.Error("something of the old sidecar is left")
	}
}

// TestTemplatePatch: the patch makes before's template into after's, carries the
// resourceVersion and touches nothing else.
func TestTemplatePatch(t *testing.T) {
	istioctl := fakeIstioctl(t, "well")
	for _, kind := range []string{"Deployment", "CronJob", "Rollout"} {
		before := withSidecar(t, named(t, kind, "one"), status112, nil, nil, false)
		before.Object["status"] = map[string]any{"replicas": int64(3)}
		results, err := Reinject(t.Context(), istioctl, testSettings, []*unstructured.Unstructured{before})
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results[0].Err)
		}
		after := results[0].After.DeepCopy()
		after.Object["status"] = map[string]any{"replicas": int64(1)} // of another time
		patch, err := TemplatePatch(before, after)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(patch), `"resourceVersion":"7"`) || strings.Contains(string(patch), "replicas") {
			t.Errorf("%s: %s", kind, patch)
		}
		raw, err := json.Marshal(before.Object)
		if err != nil {
			t.Fatal(err)
		}
		patched, err := jsonpatch.MergePatch(raw, patch)
		if err != nil {
			t.Fatal(err)
		}
		want := results[0].After.DeepCopy()
		want.Object["status"] = before.Object["status"]
		if diff := cmp.Diff(plain(t, want.Object), plain(t, object(t, string(patched)).Object)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", kind, diff)
		}
		if none, err := TemplatePatch(after, after); err != nil || none != nil {
			t.Errorf("%s: no difference gives %s, %v", kind, none, err)
		}
	}
}

func TestGraft(t *testing.T) {
	for _, tc := range []struct{ name, own, base, changed, want string }{
		{"unknown fields stay", `{a: {x: 1, u: 2}}`, `{a: {x: 1}}`, `{a: {x: 3}, b: 4}`, `{a: {x: 3, u: 2}, b: 4}`},
		{"removed is removed", `{a: 1, b: 2, u: 3}`, `{a: 1, b: 2}`, `{a: 1}`, `{a: 1, u: 3}`},
		{"by name", `{l: [{name: a, u: 1}, {name: b, u: 2}]}`, `{l: [{name: a}, {name: b}]}`, `{l: [{name: n}, {name: b, x: 1}, {name: a}]}`, `{l: [{name: n}, {name: b, x: 1, u: 2}, {name: a, u: 1}]}`},
		{"istioctl's zero values are no change", `{a: 1}`, `{a: 1, status: {}}`, `{a: 1, status: {}, b: 2}`, `{a: 1, b: 2}`},
		{"another spelling is no change", `{cpu: 3000m}`, `{cpu: "3"}`, `{cpu: "3", b: 1}`, `{cpu: 3000m, b: 1}`},
		{"plain lists", `{l: [a, b]}`, `{l: [a, b]}`, `{l: [a, b, c]}`, `{l: [a, b, c]}`},
		{"another kind of value", `{a: {x: 1}}`, `{a: {x: 1}}`, `{a: [1]}`, `{a: [1]}`},
	} {
		got := graft(object(t, tc.own).Object, object(t, tc.base).Object, object(t, tc.changed).Object)
		if diff := cmp.Diff(any(object(t, tc.want).Object), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestSettingsFromCluster(t *testing.T) {
	cm := func(name string, data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "istio-system"}, Data: data}
	}
	client := fake.NewClientset(
		cm("istio-sidecar-injector", map[string]string{"config": "c", "values": "v"}), cm("istio", map[string]string{"mesh": "m"}),
		cm("istio-sidecar-injector-canary", map[string]string{"config": "c2"}), cm("istio-canary", map[string]string{"mesh": "m2"}))
	got, err := SettingsFromCluster(t.Context(), client, "istio-system", "default")
	if want := (Settings{Revision: "default", InjectConfig: "c", Values: "v", MeshConfig: "m"}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for revision, want := range map[string]string{
		"canary": `ConfigMap istio-sidecar-injector-canary has no key "values"`,
		"prod":   "no ConfigMap istio-sidecar-injector-prod in istio-system",
	} {
		if _, err := SettingsFromCluster(t.Context(), client, "istio-system", revision); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", revision, err, want)
		}
	}
}

func TestSettingsMissing(t *testing.T) {
	s := Settings{InjectConfig: "c"}
	if diff := cmp.Diff([]string{"--mesh-config", "--injection-values"}, s.Missing()); diff != "" {
		t.Error(diff)
	}
	if _, err := s.arguments(t.TempDir(), map[string]bool{}); err == nil || !strings.Contains(err.Error(), "missing: --mesh-config, --injection-values") {
		t.Errorf("error %v", err)
	}
	if got := s.Or(Settings{InjectConfig: "x", MeshConfig: "m", Values: "v", Revision: "r"}); got != (Settings{InjectConfig: "c", MeshConfig: "m", Values: "v", Revision: "r"}) {
		t.Errorf("%+v", got)
	}
}

func TestRevisionFlag(t *testing.T) {
	for flags, want := range map[string]bool{"revision": true, "": false} {
		args, err := testSettings.arguments(t.TempDir(), map[string]bool{flags: true, "injectConfigFile": true, "meshConfigFile": true})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(args, " "), "--revision canary"); got != want {
			t.Errorf("%q: %v", flags, args)
		}
	}
}

func TestVersion(t *testing.T) {
	version, err := fakeIstioctl(t, "well").Version(t.Context())
	if err != nil || version != "1.31.0" {
		t.Errorf("%q, %v", version, err)
	}
	if _, err := FindIstioctl(t.TempDir() + "/istioctl"); err == nil || !strings.Contains(err.Error(), "cannot run istioctl at") {
		t.Errorf("error %v", err)
	}
}

func TestSameMinor(t *testing.T) {
	for _, tc := range []struct {
		a, b        string
		same, known bool
	}{
		{"1.31.0", "1.31.4-distroless", true, true},
		{"1.31.0", "1.30.2", false, true},
		{"unknown", "1.30.2", false, false},
		{"1.31.0", "latest", false, false},
	} {
		if same, known := SameMinor(tc.a, tc.b); same != tc.same || known != tc.known {
			t.Errorf("%s and %s: same %v, known %v", tc.a, tc.b, same, known)
		}
	}
}

// TestOptOut: a workload that carries a sidecar by hand and keeps the webhook
// away is injected again; one without a sidecar is not.
func TestOptOut(t *testing.T) {
	istioctl := fakeIstioctl(t, "well")
	plain := named(t, "Deployment", "one")
	template := podTemplates(plain.Object)[0]
	template.setMeta("annotations", map[string]string{injectKey: "false"})
	template.setMeta("labels", map[string]string{injectKey: "false"})
	manual := withSidecar(t, plain.DeepCopy(), status112, nil, nil, false)
	results, err := Reinject(t.Context(), istioctl, testSettings, []*unstructured.Unstructured{plain, manual})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "sidecar.istio.io/inject is false") {
		t.Errorf("error %v", results[0].Err)
	}
	if results[1].Err != nil {
		t.Fatal(results[1].Err)
	}
	after := podTemplates(results[1].After.Object)[0]
	if len(results[1].Added) != 1 || after.annotations()[injectKey] != "false" || after.labels()[injectKey] != "false" {
		t.Errorf("%+v", results[1])
	}
}

// TestWebhookMode: the injector sees a pod without a name; its owner is put back.
func TestWebhookMode(t *testing.T) {
	istioctl := fakeIstioctl(t, "webhook")
	settings := Settings{Revision: "canary", Webhook: true}
	results, err := Reinject(t.Context(), istioctl, settings, []*unstructured.Unstructured{named(t, "Deployment", "one")})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	text := toYAML(t, results[0].After.Object)
	if !strings.Contains(text, "kubernetes://apis/apps/v1/namespaces/shop/deployments/one") || strings.Contains(text, "--injectConfigFile") {
		t.Error(text)
	}
	if _, err := Reinject(t.Context(), fakeIstioctl(t, "well"), settings, []*unstructured.Unstructured{named(t, "Deployment", "one")}); err == nil || !strings.Contains(err.Error(), "cannot ask the webhook") {
		t.Errorf("error %v", err)
	}
}

func TestTemplatesFor(t *testing.T) {
	c := injectConfig{DefaultTemplates: []string{"sidecar", "extra"}, Aliases: map[string][]string{"both": {"sidecar", "spire"}}}
	for in, want := range map[string]string{"": "sidecar,extra", "both": "sidecar,spire", "gateway": "", "both,extra": "sidecar,spire,extra"} {
		if got := c.templatesFor(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := (injectConfig{DefaultTemplates: []string{"sidecar"}}).templatesFor(""); got != "" {
		t.Errorf("the default needs no annotation, got %q", got)
	}
}

func TestModernConfig(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"templates", "templates:\n  sidecar: x\n", "templates:\n  sidecar: x\n"},
		{"policy and template", "policy: enabled\ntemplate: |\n  containers:\n  - name: {{ .X }}\n", "spec:\n  containers:\n  - name: {{ .X }}\n"},
		{"a bare template of today", "{{ if .X }}\nspec:\n  containers: []\n{{ end }}\n", "{{ if .X }}\nspec:\n  containers: []\n{{ end }}\n"},
		{"a bare template of old", "{{ if .X }}\ncontainers: []\n\n{{ end }}\n", "spec:\n  {{ if .X }}\n  containers: []\n\n  {{ end }}\n"},
	} {
		if got := modernConfig(tc.in); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
