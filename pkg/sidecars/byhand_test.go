package sidecars

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

const injectedWeb = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, uid: u, resourceVersion: "7", annotations: {team: shop}}
spec:
  replicas: 2
  template:
    metadata:
      labels: {app: web, sidecar.istio.io/inject: "false"}
      annotations:
        sidecar.istio.io/status: '{"containers":["istio-proxy"],"volumes":["istio-envoy"]}'
    spec:
      containers:
      - {name: app, image: "example.com/app:1"}
      - {name: istio-proxy, image: "docker.io/istio/proxyv2:1.30.2", args: [proxy, sidecar]}
      volumes: [{name: istio-envoy}]
status: {readyReplicas: 2}
`

func manualWorkload(kind string, change func(*workload.Workload)) *workload.Workload {
	w := &workload.Workload{
		Ref: workload.Ref{Group: "apps", Kind: kind, Namespace: "shop", Name: "web"}, Desired: 2,
		Strategy: workload.Strategy{Type: workload.RollingUpdate},
	}
	w.Template.Annotations = map[string]string{"sidecar.istio.io/status": `{"containers":["istio-proxy"]}`}
	w.Template.Spec.Containers = []corev1.Container{{Name: "app"}, {Name: "istio-proxy", Image: "hub/proxyv2:1.30.2"}}
	if change != nil {
		change(w)
	}
	return w
}

func TestSettleByHand(t *testing.T) {
	onDelete := func(w *workload.Workload) { w.Strategy.Type = workload.OnDelete }
	for _, c := range []struct {
		name             string
		w                *workload.Workload
		o                Options
		how              How
		evict, unwatched bool
		held             string
	}{
		{"rolls by itself", manualWorkload(workload.Deployment, nil), Options{ByHand: &Reinjection{}}, Reinject, false, false, ""},
		{"nobody asked for it", manualWorkload(workload.Deployment, nil), Options{}, Nothing, false, false, "by hand"},
		{"scaled to zero", manualWorkload(workload.Deployment, func(w *workload.Workload) { w.Desired = 0 }), Options{ByHand: &Reinjection{}}, Reinject, false, true, ""},
		{"a CronJob", manualWorkload(workload.CronJob, nil), Options{ByHand: &Reinjection{}}, Reinject, false, true, ""},
		{"OnDelete", manualWorkload(workload.StatefulSet, onDelete), Options{ByHand: &Reinjection{}}, Nothing, false, false, "--evict"},
		{"OnDelete with --evict", manualWorkload(workload.StatefulSet, onDelete), Options{ByHand: &Reinjection{}, Evict: true}, Reinject, true, false, ""},
		{"a Rollout of a Deployment's template", manualWorkload(workload.Rollout, func(w *workload.Workload) {
			w.TemplateFrom = &workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "base"}
		}), Options{ByHand: &Reinjection{}}, Nothing, false, false, "deployment/base"},
		{"a Rollout", manualWorkload(workload.Rollout, func(w *workload.Workload) { w.Group = workload.RolloutGroup }), Options{ByHand: &Reinjection{}}, Reinject, false, false, ""},
		{"partition", manualWorkload(workload.StatefulSet, func(w *workload.Workload) { w.Strategy.Partition = 1 }), Options{ByHand: &Reinjection{}}, Nothing, false, false, "partition"},
	} {
		s := &subject{facts: facts{Ref: c.w.Ref, W: c.w}, item: Item{How: Nothing}}
		s.settleByHand(&c.o)
		if s.item.How != c.how || s.item.evict != c.evict || s.item.unwatched != c.unwatched || !strings.Contains(s.item.Held, c.held) || (c.held == "") != (s.item.Held == "") {
			t.Errorf("%s: %+v", c.name, s.item)
		}
	}
}

func TestTemplateLagsByImageAlone(t *testing.T) {
	f := facts{W: manualWorkload(workload.Deployment, nil)}
	if f.templateLags() {
		t.Error("nothing is known of the injector, so nothing lags")
	}
	f.Answer = answer{HasProxy: true, Guessed: true, Proxy: workload.Proxy{Image: "hub/proxyv2:1.31.0"}}
	if !f.templateLags() {
		t.Error("1.30.2 lags behind 1.31.0")
	}
	f.Answer.Proxy = workload.Proxy{Image: "hub/proxyv2:1.30.2", Native: true, Containers: "istio-init,istio-proxy"}
	if f.templateLags() {
		t.Error("form and containers are not known before istioctl was run")
	}
}

func TestSourceOf(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"kustomize.toolkit.fluxcd.io/name", "apps", "Flux Kustomization"},
		{"helm.toolkit.fluxcd.io/name", "apps", "Flux HelmRelease"},
		{"argocd.argoproj.io/instance", "shop", "Argo CD application shop"},
		{"app.kubernetes.io/managed-by", "Helm", "Helm"},
	} {
		from, ok := sourceOf(&workload.Workload{Labels: map[string]string{c.key: c.value}})
		if !ok || !strings.HasPrefix(from.name, c.want) || from.cure == "" {
			t.Errorf("%s=%s: %+v", c.key, c.value, from)
		}
	}
	from, ok := sourceOf(&workload.Workload{Annotations: map[string]string{"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:ns/web"}})
	if !ok || from.name != "Argo CD application shop" {
		t.Errorf("tracking-id: %+v", from)
	}
	if _, ok := sourceOf(&workload.Workload{Labels: map[string]string{"app.kubernetes.io/instance": "web"}}); ok {
		t.Error("a label that anybody sets says nothing of Argo CD")
	}
}

func TestWantsSidecar(t *testing.T) {
	deployment := func(labels, spec string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {metadata: {labels: {" + labels + "}}, spec: {" + spec + "}}}"
	}
	for _, c := range []struct {
		name, text string
		want       bool
	}{
		{"a plain Deployment", deployment("", "containers: [{name: app}]"), true},
		{"opted out", deployment(`sidecar.istio.io/inject: "false"`, "containers: [{name: app}]"), false},
		{"opted out, yet injected by hand", injectedWeb, true},
		{"on the host's network", deployment("", "hostNetwork: true, containers: [{name: app}]"), false},
		{"a gateway of the webhook", deployment("", "containers: [{name: istio-proxy, image: auto}]"), false},
		{"no workload", "apiVersion: v1\nkind: Service\nmetadata: {name: web}", false},
	} {
		if got, why := wantsSidecar(object(t, c.text)); got != c.want {
			t.Errorf("%s: %v (%s)", c.name, got, why)
		}
	}
}

func TestHandOver(t *testing.T) {
	given := object(t, injectedWeb)
	after, _, err := handOver(given, map[string]string{"sidecar.istio.io/inject": "true"})
	if err != nil {
		t.Fatal(err)
	}
	template, ok := templateOf(after)
	if !ok || len(template.Spec.Containers) != 1 || template.Spec.Containers[0].Name != "app" || Manual(template) {
		t.Errorf("the sidecar is still there: %+v", template)
	}
	if template.Labels["sidecar.istio.io/inject"] != "true" {
		t.Errorf("the labels do not ask for injection: %v", template.Labels)
	}
	if !Manual(mustTemplate(t, given)) {
		t.Error("the object given was changed")
	}
}

func mustTemplate(t *testing.T, o *unstructured.Unstructured) *corev1.PodTemplateSpec {
	t.Helper()
	template, ok := templateOf(o)
	if !ok {
		t.Fatal("no pod template")
	}
	return template
}

func TestKeepOverwritesNothing(t *testing.T) {
	folder := t.TempDir()
	for range 2 {
		if _, err := keep(folder, object(t, injectedWeb)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"deployment-web.yaml", "deployment-web.2.yaml"} {
		text, err := os.ReadFile(filepath.Join(folder, "shop", name))
		if err != nil {
			t.Fatal(err)
		}
		kept := object(t, string(text))
		if kept.GetResourceVersion() != "" || kept.GetUID() != "" || kept.Object["status"] != nil || !Manual(mustTemplate(t, kept)) {
			t.Errorf("%s cannot be replaced with, or is not as it was:\n%s", name, text)
		}
	}
}

func TestBackupFolder(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := backupFolder("", "a/b:c", now)
	if want := filepath.Join(state, "kubectl-istio-upgrade", "backups", "a_b_c-20260102T030405Z-sidecars"); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := backupFolder("mine/", "x", now); err != nil || got != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWithTag(t *testing.T) {
	if got := withTag(`{"global":{"hub":"h","tag":"1.30.2"}}`, "1.31.0"); !strings.Contains(got, `"tag":"1.31.0"`) || !strings.Contains(got, `"hub":"h"`) {
		t.Error(got)
	}
	if got := withTag("no json", "1.31.0"); got != "no json" {
		t.Error(got)
	}
}

// What only the old sidecar had goes when a manifest is applied over a workload
// that was injected by hand, whatever was applied last.
func TestApplyLeavesNothingOfTheOldSidecar(t *testing.T) {
	for _, lastApplied := range []string{"", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"template":{"spec":{"containers":[{"name":"app"}]}}}}`} {
		live := object(t, injectedWeb)
		if lastApplied != "" {
			live.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: lastApplied})
		}
		modified := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"template":{"spec":{"containers":[{"name":"app","image":"example.com/app:1"},{"name":"istio-proxy","image":"new"}]}}}}`
		_, patch, err := threeWay(live, []byte(modified))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(live.Object)
		if err != nil {
			t.Fatal(err)
		}
		merged, err := strategicpatch.StrategicMergePatch(raw, patch, appsv1.Deployment{})
		if err != nil {
			t.Fatal(err)
		}
		template := mustTemplate(t, object(t, string(merged)))
		if len(template.Spec.Volumes) > 0 || Manual(template) || len(template.Spec.Containers) != 2 || len(template.Spec.Containers[1].Args) > 0 {
			t.Errorf("something of the old sidecar stays: %s", merged)
		}
	}
}

// remade is a workload that gets another sidecar in place of its own.
func remade(t *testing.T) *remake {
	t.Helper()
	before := object(t, injectedWeb)
	after := before.DeepCopy()
	containers := []any{map[string]any{"name": "app", "image": "example.com/app:1"}, map[string]any{"name": "istio-proxy", "image": "hub/proxyv2:1.31.0"}}
	if err := unstructured.SetNestedSlice(after.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
	patch, err := inject.TemplatePatch(before, after)
	if err != nil {
		t.Fatal(err)
	}
	return &remake{before: before, after: after, patch: patch}
}

// A rewrite that meets an object that has moved sends what it made with the new
// version, and leaves what the other wrote.
func TestRewriteReadsAgainOnConflict(t *testing.T) {
	made := remade(t)
	moved := made.before.DeepCopy()
	moved.SetResourceVersion("8")
	moved.SetAnnotations(map[string]string{"team": "other"})
	resource, _ := resourceOf(workload.Deployment)
	client := fake.NewSimpleDynamicClient(runtime.NewScheme(), moved)
	var versions []string
	client.PrependReactor("patch", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := a.(clienttesting.PatchAction)
		if !ok {
			return false, nil, errors.New("no patch")
		}
		var body metav1.PartialObjectMetadata
		if err := json.Unmarshal(patch.GetPatch(), &body); err != nil {
			return true, nil, err
		}
		versions = append(versions, body.ResourceVersion)
		if body.ResourceVersion != "8" {
			return true, nil, apierrors.NewConflict(resource.GroupResource(), "web", errors.New("moved"))
		}
		return false, nil, nil
	})
	w := manualWorkload(workload.Deployment, nil)
	r := &rewrite{
		c:      &cluster.Cluster{},
		item:   &Item{Ref: w.Ref, How: Reinject, w: w, remake: made},
		client: client.Resource(resource).Namespace("shop"), backup: t.TempDir(), manager: "m",
	}
	change, _, err := r.apply(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(versions, " ") != "7 8" {
		t.Errorf("sent with versions %v, want 7 and then 8", versions)
	}
	live, err := r.client.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if live.GetAnnotations()["team"] != "other" {
		t.Errorf("what the other wrote is gone: %v", live.GetAnnotations())
	}
	if change.Image != "hub/proxyv2:1.31.0" {
		t.Errorf("the change is %+v", change)
	}
	if err := change.TakeBack(t.Context()); err != nil || strings.Join(versions, " ") != "7 8 8" {
		t.Errorf("taken back with versions %v: %v", versions, err)
	}
	if live, err = r.client.Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if image := mustTemplate(t, live).Spec.Containers[1].Image; !strings.Contains(image, "1.30.2") || live.GetAnnotations()["team"] != "other" {
		t.Errorf("put back: %s, %v", image, live.GetAnnotations())
	}
}

// A write whose answer was lost is known by what is there, and can be taken back.
func TestRewriteWhoseAnswerWasLost(t *testing.T) {
	made := remade(t)
	arrived := made.after.DeepCopy()
	arrived.SetResourceVersion("8")
	// The API server adds its defaults to what it is sent.
	containers, _, err := unstructured.NestedSlice(arrived.Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	containers[1].(map[string]any)["terminationMessagePath"] = "/dev/termination-log"
	if err := unstructured.SetNestedSlice(arrived.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
	resource, _ := resourceOf(workload.Deployment)
	client := fake.NewSimpleDynamicClient(runtime.NewScheme(), arrived)
	sent := 0
	client.PrependReactor("patch", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		if sent++; sent == 1 {
			return true, nil, apierrors.NewConflict(resource.GroupResource(), "web", errors.New("moved"))
		}
		return false, nil, nil
	})
	w := manualWorkload(workload.Deployment, nil)
	r := &rewrite{
		c:      &cluster.Cluster{},
		item:   &Item{Ref: w.Ref, How: Reinject, w: w, remake: made},
		client: client.Resource(resource).Namespace("shop"), backup: t.TempDir(), manager: "m",
	}
	change, _, err := r.apply(t.Context())
	if err != nil || sent != 1 || change.Patch == nil || change.Image != "hub/proxyv2:1.31.0" {
		t.Fatalf("sent %d times: %+v, %v", sent, change, err)
	}
	if err := change.TakeBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	live, err := r.client.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if image := mustTemplate(t, live).Spec.Containers[1].Image; !strings.Contains(image, "1.30.2") {
		t.Errorf("put back: %s", image)
	}
}

// What a colleague has deployed since the sidecar was written is not taken back
// with it: it is left, and the file is named in which the object is as it was.
func TestTakeBackLeavesWhatOthersChanged(t *testing.T) {
	written := object(t, injectedWeb)
	theirs := written.DeepCopy()
	containers, _, err := unstructured.NestedSlice(theirs.Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	containers[0].(map[string]any)["image"] = "example.com/app:2"
	if err := unstructured.SetNestedSlice(theirs.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
	status := written.DeepCopy() // a controller's, which moves all the time
	status.SetResourceVersion("9")
	status.SetAnnotations(map[string]string{"deployment.kubernetes.io/revision": "3"})
	resource, _ := resourceOf(workload.Deployment)
	for name, tc := range map[string]struct {
		live    *unstructured.Unstructured
		says    string
		patches int
	}{
		"someone deployed another image": {theirs, "someone has changed it meanwhile, and it is left as it is; as it was before this run it stands in /backup/web.yaml", 0},
		"its controller wrote":           {status, "", 1},
	} {
		client := fake.NewSimpleDynamicClient(runtime.NewScheme(), tc.live)
		got := 0
		client.PrependReactor("patch", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
			got++
			if patch := a.(clienttesting.PatchAction).GetPatch(); !strings.Contains(string(patch), `"resourceVersion":"9"`) {
				t.Errorf("%s: the patch does not say what it is for: %s", name, patch)
			}
			return false, nil, nil
		})
		was := written.DeepCopy()
		was.SetLabels(map[string]string{"as": "before"})
		err := takeBack(t.Context(), &cluster.Cluster{}, client.Resource(resource).Namespace("shop"), written, "/backup/web.yaml", "m", func(live *unstructured.Unstructured) ([]byte, error) {
			return wayBack(was, written, live)
		})
		if text := fmt.Sprint(err); got != tc.patches || tc.says == "" != (err == nil) || tc.says != "" && !strings.Contains(text, tc.says) {
			t.Errorf("%s: %d patches, %v", name, got, err)
		}
	}
}
