package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// settingsFiles writes the injector's configuration, as it is now, to files for
// istioctl, and gives kube-inject's flags for them.
func (w *world) settingsFiles() (files map[string]string) {
	w.T.Helper()
	dir := w.T.TempDir()
	files = map[string]string{}
	for _, f := range []struct{ configMap, key, flag string }{
		{"istio-sidecar-injector", "config", "injectConfigFile"},
		{"istio-sidecar-injector", "values", "valuesFile"},
		{"istio", "mesh", "meshConfigFile"},
	} {
		cm, err := w.Client().CoreV1().ConfigMaps(lab.IstioNamespace).Get(w.T.Context(), f.configMap, metav1.GetOptions{})
		w.Check(err)
		files[f.flag] = filepath.Join(dir, f.flag)
		w.Check(os.WriteFile(files[f.flag], []byte(cm.Data[f.key]), 0o600))
	}
	return files
}

// kubeInject gives manifests with the sidecar that the injector's configuration
// gives now, by the real istioctl.
func (w *world) kubeInject(manifests string) string {
	w.T.Helper()
	file := filepath.Join(w.T.TempDir(), "original.yaml")
	w.Check(os.WriteFile(file, []byte(manifests), 0o600))
	args := []string{"kube-inject", "--revision", "default", "-f", file}
	for flag, path := range w.settingsFiles() {
		args = append(args, "--"+flag, path)
	}
	out, err := w.Istioctl(w.T.Context(), args...)
	w.Check(err)
	return out
}

var resources = map[string]schema.GroupVersionResource{
	"Deployment":  {Group: "apps", Version: "v1", Resource: "deployments"},
	"StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
	"DaemonSet":   {Group: "apps", Version: "v1", Resource: "daemonsets"},
	"CronJob":     {Group: "batch", Version: "v1", Resource: "cronjobs"},
}

// spec gives an object's spec, and its annotations without those of controllers.
func (w *world) spec(kind, namespace, name string) map[string]any {
	w.T.Helper()
	client, err := dynamic.NewForConfig(w.Config())
	w.Check(err)
	obj, err := client.Resource(resources[kind]).Namespace(namespace).Get(w.T.Context(), name, metav1.GetOptions{})
	w.Check(err)
	annotations := obj.GetAnnotations()
	delete(annotations, "deployment.kubernetes.io/revision")
	delete(annotations, "deprecated.daemonset.template.generation")
	return map[string]any{"spec": obj.Object["spec"], "annotations": annotations, "labels": obj.GetLabels()}
}

// template gives the spec alone with a namespace's name taken out of it.
func template(spec map[string]any, namespace string) string {
	raw, _ := (&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "X", "spec": spec["spec"]}}).MarshalJSON()
	return strings.ReplaceAll(string(raw), namespace, "NAMESPACE")
}

// istioctl gives the flag that names the lab's istioctl.
func istioctl() string { return "--istioctl=" + clustertest.Parts.Bin("istioctl") }

// A workload that does not come up halts the run, and --on-failure undo puts
// back exactly what was there.
func TestManualUndoRestoresExactly(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-undo"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String()))
	w.AwaitReady(ns, 2)
	before := w.spec("Deployment", ns, "web")
	w.Inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailImagePull, Namespace: ns, ProxyTag: newer})
	w.Check(err)
	defer func() { w.Check(restore(t.Context())) }()

	o := w.Run("sidecars", "-n", ns, "--yes", istioctl(), "--on-failure=undo", "--timeout=1m")

	if o.Code == 0 || !strings.Contains(o.Stderr, "put back") {
		t.Errorf("want a failure that is undone: %s", o)
	}
	if after := w.spec("Deployment", ns, "web"); !reflect.DeepEqual(before, after) {
		t.Errorf("not what was there:\nbefore %v\nafter %v", before, after)
	}
	w.WantProxies(ns, "web", map[string]int{older: 2})
}

// Workloads of the webhook and workloads injected by hand go in one run.
func TestManualMixedNamespace(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-mixed"
	w.InjectedNamespace(ns)
	byHand := w.kubeInject(manifest{Kind: "Deployment", Name: "hand", Namespace: ns, Replicas: 1}.String())
	byHand = strings.Replace(byHand, "        app: hand\n", "        app: hand\n        sidecar.istio.io/inject: \"false\"\n", 1)
	w.Apply(manifest{Kind: "Deployment", Name: "hook", Namespace: ns, Replicas: 1}.String(), byHand)
	w.WantProxies(ns, "", map[string]int{older: 2})
	w.AwaitReady(ns, 2)
	w.Inject(newer)

	r := w.Must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json", istioctl()).JSON(t)
	if p := r.Find(t, "Deployment", "hand"); p.Verdict != "by hand" || p.How != "reinject" || !strings.Contains(p.Reason, "--to-webhook") {
		t.Errorf("hand: %+v", p)
	}
	if p := r.Find(t, "Deployment", "hook"); p.Verdict != "stale" || p.How != "restart" {
		t.Errorf("hook: %+v", p)
	}
	w.Must(0, "sidecars", "-n", ns, "--yes", istioctl())
	w.WantProxies(ns, "", map[string]int{newer: 2})
}

// What istioctl does wrong keeps its workloads as they are, with the reason,
// and the others go on.
func TestManualMisbehavingIstioctl(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-bad"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String()))
	w.AwaitReady(ns, 1)
	w.Inject(newer)
	real := clustertest.Parts.Bin("istioctl")
	script := w.script
	version := "case \"$1\" in version) echo 'client version: %s'; exit 0;; esac\n"
	help := "case \"$*\" in *--help*) exec " + real + " \"$@\";; esac\n"
	before := w.Writes()
	for _, bad := range []struct{ name, path, says string }{
		{"absent", filepath.Join(t.TempDir(), "istioctl"), "cannot run istioctl"},
		{"fails", script(fmt.Sprintf(version, newer) + help + "echo 'Error: no such template' >&2; exit 1\n"), "no such template"},
		{"hangs", script(fmt.Sprintf(version, newer) + help + "sleep 600\n"), "did not end within"},
		{"leaves it out", script(fmt.Sprintf(version, newer) + help + "exit 0\n"), "left out"},
		{"another minor", script(fmt.Sprintf(version, "1.29.4") + "exec " + real + " \"$@\"\n"), "same minor version"},
	} {
		args := []string{"sidecars", "-n", ns, "--yes", "--istioctl", bad.path, "-o", "json"}
		if bad.name == "hangs" {
			args = append(args, "--istioctl-timeout=5s")
		}
		o := w.Must(0, args...)
		r := o.JSON(t)
		if p := r.Find(t, "Deployment", "web"); p.How != "none" || !strings.Contains(p.Held, bad.says) {
			t.Errorf("%s: want %q, have %+v", bad.name, bad.says, p)
		}
		if len(r.Left) != 1 {
			t.Errorf("%s: left is %+v", bad.name, r.Left)
		}
	}
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("something was written: %v", after[len(before):])
	}
	noisy := script(fmt.Sprintf(version, newer) + "echo 'Warning: this istioctl is old'\nexec " + real + " \"$@\"\n")
	w.Must(0, "sidecars", "-n", ns, "--yes", "--istioctl", noisy)
	w.WantProxies(ns, "web", map[string]int{newer: 1})
}

// An object that someone else writes while the plan waits is read again.
func TestManualWritesOverNothing(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-moved"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String()))
	w.AwaitReady(ns, 2)
	w.Inject(newer)
	real := clustertest.Parts.Bin("istioctl")
	slow := filepath.Join(t.TempDir(), "istioctl")
	w.Check(os.WriteFile(slow, []byte("#!/bin/sh\ncase \"$*\" in *--filename*) sleep 3;; esac\nexec "+real+" \"$@\"\n"), 0o755))
	moved := make(chan error, 1)
	ctx := t.Context()
	go func() {
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
		_, err := w.Kubectl(ctx, nil, "-n", ns, "annotate", "deployment", "web", "team=shop")
		moved <- err
	}()
	w.Must(0, "sidecars", "-n", ns, "--yes", "--istioctl", slow)
	w.Check(<-moved)
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	if got := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.metadata.annotations.team}"); got != "shop" {
		t.Errorf("the other's annotation is %q", got)
	}
}

// From the original files: a directory with a List, and stdin; what has no
// sidecar is applied too, and a second run finds nothing to do.
func TestManualFromFiles(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-files"
	w.MakeNamespace(ns, nil)
	web := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String()
	db := manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 2, Spec: "serviceName: db"}.String()
	w.Apply(w.kubeInject(web), w.kubeInject(db))
	w.AwaitReady(ns, 4)
	w.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web", "db")
	dir := t.TempDir()
	w.Check(os.MkdirAll(filepath.Join(dir, "below"), 0o755))
	w.Check(os.WriteFile(filepath.Join(dir, "below", "web.yaml"), []byte(web), 0o600))
	w.Check(os.WriteFile(filepath.Join(dir, "settings.yaml"), []byte(`apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: settings, namespace: manual-files}
  data: {a: b}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: fresh, namespace: manual-files}
  spec: {replicas: 1, selector: {matchLabels: {app: fresh}}, template: {metadata: {labels: {app: fresh}}, spec: {containers: [{name: app, image: example.com/app:1}]}}}
`), 0o600))

	o := w.Must(0, "sidecars", "-f", dir, "-R", "--yes", istioctl())
	for _, want := range []string{"created", "changed", "unchanged", "configmap/settings"} {
		if !strings.Contains(o.Stdout, want) {
			t.Errorf("the plan does not say %q:\n%s", want, o)
		}
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	w.WantProxies(ns, "fresh", map[string]int{newer: 1})
	w.WantProxies(ns, "db", map[string]int{older: 2})
	if o = w.RunWith(t.Context(), []byte(db), "sidecars", "-f", "-", "--yes", istioctl()); o.Code != 0 {
		t.Fatal(o)
	}
	w.WantProxies(ns, "db", map[string]int{newer: 2})
	endpoints.Never(w.World, 1)

	before := w.Writes()
	o = w.Must(0, "sidecars", "-f", dir, "-R", "--yes", istioctl())
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// A custom injection configuration that adds a container and a label; the dry
// run prints what kubectl apply takes, and asks no cluster.
func TestManualFromFilesWithCustomConfiguration(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-custom"
	w.MakeNamespace(ns, nil)
	web := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String()
	w.Apply(w.kubeInject(web))
	w.AwaitReady(ns, 1)
	w.Inject(newer)
	files := w.settingsFiles()
	text, err := os.ReadFile(files["injectConfigFile"])
	w.Check(err)
	config := string(text)
	if strings.Contains(config, "defaultTemplates: [sidecar]") {
		config = strings.Replace(config, "defaultTemplates: [sidecar]", "defaultTemplates: [sidecar, extra]", 1)
	} else {
		config = "defaultTemplates: [sidecar, extra]\n" + config
	}
	config = strings.Replace(config, "\ntemplates:\n", "\ntemplates:\n  extra: |\n    metadata: {labels: {mesh: shop}}\n    spec: {containers: [{name: extra, image: example.com/extra:1}]}\n", 1)
	custom := filepath.Join(t.TempDir(), "inject-config.yaml")
	w.Check(os.WriteFile(custom, []byte(config), 0o600))
	original := filepath.Join(t.TempDir(), "web.yaml")
	w.Check(os.WriteFile(original, []byte(web), 0o600))

	kubeconfig := w.OtherKubeconfig
	w.OtherKubeconfig = filepath.Join(t.TempDir(), "none")
	o := w.Must(0, "sidecars", "-f", original, "--dry-run=client", "-o", "yaml", istioctl(), "--inject-config", custom,
		"--mesh-config", files["meshConfigFile"], "--injection-values", files["valuesFile"])
	w.OtherKubeconfig = kubeconfig
	for _, want := range []string{"name: extra", "mesh: shop", "/proxyv2:" + newer, "kind: Service"} {
		if !strings.Contains(o.Stdout, want) {
			t.Errorf("the manifests lack %q:\n%s", want, o)
		}
	}
	o = w.Must(0, "sidecars", "-f", original, "--yes", istioctl(), "--inject-config", custom)
	w.WantProxies(ns, "web", map[string]int{newer: 1})
	got := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.metadata.labels.mesh} {.spec.template.spec.containers[*].name}")
	if !strings.Contains(got, "shop ") || !strings.Contains(got, "extra") {
		t.Errorf("the template has %q\n%s", got, o)
	}
}

// --to-webhook hands a workload over to the webhook that serves its namespace.
func TestManualToWebhook(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-hook"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String()))
	w.AwaitReady(ns, 1)
	w.Inject(newer)
	o := w.Must(0, "sidecars", "-n", ns, "--yes", "--to-webhook")
	w.WantProxies(ns, "web", map[string]int{newer: 1})
	if got := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].name}"); got != "app" {
		t.Errorf("the template's containers are %q\n%s", got, o)
	}

	// One whose proxy is new is handed over as well.
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "api", Namespace: ns, Replicas: 1}.String()))
	w.AwaitReady(ns, 2)
	o = w.Must(0, "sidecars", "-n", ns, "--yes", "--to-webhook")
	w.WantProxies(ns, "api", map[string]int{newer: 1})
	if got := w.RunKubectl("-n", ns, "get", "deployment", "api", "-o", "jsonpath={.spec.template.spec.containers[*].name}"); got != "app" {
		t.Errorf("the template's containers are %q\n%s", got, o)
	}
	before := w.Writes()
	o = w.Must(0, "sidecars", "-n", ns, "--yes", "--to-webhook")
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}
