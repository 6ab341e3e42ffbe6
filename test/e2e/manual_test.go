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
)

// settingsFiles writes the injector's configuration, as it is now, to files for
// istioctl, and gives kube-inject's flags for them.
func (w *world) settingsFiles() (files map[string]string) {
	w.t.Helper()
	dir := w.t.TempDir()
	files = map[string]string{}
	for _, f := range []struct{ configMap, key, flag string }{
		{"istio-sidecar-injector", "config", "injectConfigFile"},
		{"istio-sidecar-injector", "values", "valuesFile"},
		{"istio", "mesh", "meshConfigFile"},
	} {
		cm, err := w.Client().CoreV1().ConfigMaps(lab.IstioNamespace).Get(w.t.Context(), f.configMap, metav1.GetOptions{})
		w.check(err)
		files[f.flag] = filepath.Join(dir, f.flag)
		w.check(os.WriteFile(files[f.flag], []byte(cm.Data[f.key]), 0o600))
	}
	return files
}

// kubeInject gives manifests with the sidecar that the injector's configuration
// gives now, by the real istioctl.
func (w *world) kubeInject(manifests string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "original.yaml")
	w.check(os.WriteFile(file, []byte(manifests), 0o600))
	args := []string{"kube-inject", "--revision", "default", "-f", file}
	for flag, path := range w.settingsFiles() {
		args = append(args, "--"+flag, path)
	}
	out, err := w.Istioctl(w.t.Context(), args...)
	w.check(err)
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
	w.t.Helper()
	client, err := dynamic.NewForConfig(w.Config())
	w.check(err)
	obj, err := client.Resource(resources[kind]).Namespace(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	w.check(err)
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
func istioctl() string { return "--istioctl=" + parts.Bin("istioctl") }

func manualWorkloads(ns string) []manifest {
	return []manifest{
		{kind: "Deployment", name: "web", namespace: ns, replicas: 2},
		{kind: "Deployment", name: "probed", namespace: ns, replicas: 1, podNotes: `prometheus.io/scrape: "true", prometheus.io/port: "8080"`},
		{kind: "Deployment", name: "optedout", namespace: ns, replicas: 1},
		{kind: "StatefulSet", name: "db", namespace: ns, replicas: 2, spec: "serviceName: db"},
		{kind: "DaemonSet", name: "agent", namespace: ns},
		{kind: "Deployment", name: "asleep", namespace: ns, replicas: 0},
		{kind: "CronJob", name: "cron", namespace: ns},
	}
}

func joined(manifests []manifest) string {
	texts := make([]string, 0, len(manifests))
	for _, m := range manifests {
		texts = append(texts, m.String())
	}
	return strings.Join(texts, "\n---\n")
}

// The originals lost, every workload injected by hand comes to what injecting
// its original gives; no Service is ever without an endpoint; a second run
// writes nothing; what was there is kept.
func TestManualLiveEqualsInjectingTheOriginal(t *testing.T) {
	w := sharedCluster(t)
	ns, wanted := "manual", "manual-wanted"
	w.namespace(ns, nil)
	w.namespace(wanted, nil)
	w.apply(w.kubeInject(joined(manualWorkloads(ns))))
	w.kubectl("-n", ns, "patch", "deployment", "optedout", "-p", `{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"false"}}}}}`)
	w.kubectl("-n", ns, "rollout", "status", "deployment/optedout")
	w.wantProxies(ns, "", map[string]int{older: 2 + 1 + 1 + 2 + 3})
	w.ready(ns, 2+1+1+2+3)
	w.inject(newer)
	w.apply(w.kubeInject(joined(manualWorkloads(wanted))))
	endpoints := w.watchEndpoints(ns, "web", "probed", "db", "agent")
	backup := t.TempDir()

	o := w.must(0, "sidecars", "-n", ns, "--yes", istioctl(), "--backup-dir", backup)

	endpoints.never(w, 1)
	if !strings.Contains(o.Stdout, parts.Bin("istioctl")) {
		t.Errorf("the plan does not name istioctl:\n%s", o)
	}
	for _, m := range manualWorkloads(ns) {
		got, want := w.spec(m.kind, ns, m.name), w.spec(m.kind, wanted, m.name)
		gotText, wantText := template(got, ns), template(want, wanted)
		if m.name == "optedout" { // the user's own label stays
			gotText = strings.Replace(gotText, `,"sidecar.istio.io/inject":"false"`, "", 1)
		}
		if gotText != wantText {
			t.Errorf("%s %s is not what injecting its original gives:\nwant %s\nhave %s", m.kind, m.name, wantText, gotText)
		}
		kept := filepath.Join(backup, ns, strings.ToLower(m.kind)+"-"+m.name+".yaml")
		text, err := os.ReadFile(kept)
		if err != nil || !strings.Contains(string(text), ":"+older) {
			t.Errorf("%s does not hold the object as it was: %v", kept, err)
		}
	}
	w.kubectl("replace", "--dry-run=server", "-f", filepath.Join(backup, ns))

	before := w.writes()
	o = w.must(0, "sidecars", "-n", ns, "--yes", istioctl(), "--backup-dir", backup)
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// A workload that does not come up halts the run, and --on-failure undo puts
// back exactly what was there.
func TestManualUndoRestoresExactly(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-undo"
	w.namespace(ns, nil)
	w.apply(w.kubeInject(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 2}.String()))
	w.ready(ns, 2)
	before := w.spec("Deployment", ns, "web")
	w.inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailImagePull, Namespace: ns, ProxyTag: newer})
	w.check(err)
	defer func() { w.check(restore(t.Context())) }()

	o := w.run("sidecars", "-n", ns, "--yes", istioctl(), "--on-failure=undo", "--timeout=1m")

	if o.Code == 0 || !strings.Contains(o.Stderr, "put back") {
		t.Errorf("want a failure that is undone: %s", o)
	}
	if after := w.spec("Deployment", ns, "web"); !reflect.DeepEqual(before, after) {
		t.Errorf("not what was there:\nbefore %v\nafter %v", before, after)
	}
	w.wantProxies(ns, "web", map[string]int{older: 2})
}

// Workloads of the webhook and workloads injected by hand go in one run.
func TestManualMixedNamespace(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-mixed"
	w.injected(ns)
	byHand := w.kubeInject(manifest{kind: "Deployment", name: "hand", namespace: ns, replicas: 1}.String())
	byHand = strings.Replace(byHand, "        app: hand\n", "        app: hand\n        sidecar.istio.io/inject: \"false\"\n", 1)
	w.apply(manifest{kind: "Deployment", name: "hook", namespace: ns, replicas: 1}.String(), byHand)
	w.wantProxies(ns, "", map[string]int{older: 2})
	w.ready(ns, 2)
	w.inject(newer)

	r := w.must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json", istioctl()).json(t)
	if p := r.find(t, "Deployment", "hand"); p.Verdict != "by hand" || p.How != "reinject" || !strings.Contains(p.Reason, "--to-webhook") {
		t.Errorf("hand: %+v", p)
	}
	if p := r.find(t, "Deployment", "hook"); p.Verdict != "stale" || p.How != "restart" {
		t.Errorf("hook: %+v", p)
	}
	w.must(0, "sidecars", "-n", ns, "--yes", istioctl())
	w.wantProxies(ns, "", map[string]int{newer: 2})
}

// What istioctl does wrong keeps its workloads as they are, with the reason,
// and the others go on.
func TestManualMisbehavingIstioctl(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-bad"
	w.namespace(ns, nil)
	w.apply(w.kubeInject(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 1}.String()))
	w.ready(ns, 1)
	w.inject(newer)
	real := parts.Bin("istioctl")
	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "istioctl")
		w.check(os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755))
		return path
	}
	version := "case \"$1\" in version) echo 'client version: %s'; exit 0;; esac\n"
	help := "case \"$*\" in *--help*) exec " + real + " \"$@\";; esac\n"
	before := w.writes()
	for _, bad := range []struct{ name, path, says string }{
		{"absent", filepath.Join(t.TempDir(), "istioctl"), "cannot run istioctl"},
		{"fails", script(fmt.Sprintf(version, newer) + help + "echo 'Error: no such template' >&2; exit 1\n"), "no such template"},
		{"hangs", script(fmt.Sprintf(version, newer) + help + "sleep 600\n"), "did not end within"},
		{"leaves it out", script(fmt.Sprintf(version, newer) + help + "exit 0\n"), "left out"},
		{"another minor", script(fmt.Sprintf(version, "1.29.4") + "exec " + real + " \"$@\"\n"), "same minor version"},
	} {
		o := w.must(0, "sidecars", "-n", ns, "--yes", "--istioctl", bad.path, "--istioctl-timeout=5s", "-o", "json")
		r := o.json(t)
		if p := r.find(t, "Deployment", "web"); p.How != "none" || !strings.Contains(p.Held, bad.says) {
			t.Errorf("%s: want %q, have %+v", bad.name, bad.says, p)
		}
		if len(r.Left) != 1 {
			t.Errorf("%s: left is %+v", bad.name, r.Left)
		}
	}
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("something was written: %v", after[len(before):])
	}
	noisy := script(fmt.Sprintf(version, newer) + "echo 'Warning: this istioctl is old'\nexec " + real + " \"$@\"\n")
	w.must(0, "sidecars", "-n", ns, "--yes", "--istioctl", noisy)
	w.wantProxies(ns, "web", map[string]int{newer: 1})
}

// An object that someone else writes while the plan waits is read again.
func TestManualWritesOverNothing(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-moved"
	w.namespace(ns, nil)
	w.apply(w.kubeInject(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 2}.String()))
	w.ready(ns, 2)
	w.inject(newer)
	real := parts.Bin("istioctl")
	slow := filepath.Join(t.TempDir(), "istioctl")
	w.check(os.WriteFile(slow, []byte("#!/bin/sh\ncase \"$*\" in *--filename*) sleep 3;; esac\nexec "+real+" \"$@\"\n"), 0o755))
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
	w.must(0, "sidecars", "-n", ns, "--yes", "--istioctl", slow)
	w.check(<-moved)
	w.wantProxies(ns, "web", map[string]int{newer: 2})
	if got := w.kubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.metadata.annotations.team}"); got != "shop" {
		t.Errorf("the other's annotation is %q", got)
	}
}

// From the original files: a directory with a List, and stdin; what has no
// sidecar is applied too, and a second run finds nothing to do.
func TestManualFromFiles(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-files"
	w.namespace(ns, nil)
	web := manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 2}.String()
	db := manifest{kind: "StatefulSet", name: "db", namespace: ns, replicas: 2, spec: "serviceName: db"}.String()
	w.apply(w.kubeInject(web), w.kubeInject(db))
	w.ready(ns, 4)
	w.inject(newer)
	endpoints := w.watchEndpoints(ns, "web", "db")
	dir := t.TempDir()
	w.check(os.MkdirAll(filepath.Join(dir, "below"), 0o755))
	w.check(os.WriteFile(filepath.Join(dir, "below", "web.yaml"), []byte(web), 0o600))
	w.check(os.WriteFile(filepath.Join(dir, "settings.yaml"), []byte(`apiVersion: v1
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

	o := w.must(0, "sidecars", "-f", dir, "-R", "--yes", istioctl())
	for _, want := range []string{"created", "changed", "unchanged", "configmap/settings"} {
		if !strings.Contains(o.Stdout, want) {
			t.Errorf("the plan does not say %q:\n%s", want, o)
		}
	}
	w.wantProxies(ns, "web", map[string]int{newer: 2})
	w.wantProxies(ns, "fresh", map[string]int{newer: 1})
	w.wantProxies(ns, "db", map[string]int{older: 2})
	if o = w.runWith(t.Context(), []byte(db), "sidecars", "-f", "-", "--yes", istioctl()); o.Code != 0 {
		t.Fatal(o)
	}
	w.wantProxies(ns, "db", map[string]int{newer: 2})
	endpoints.never(w, 1)

	before := w.writes()
	o = w.must(0, "sidecars", "-f", dir, "-R", "--yes", istioctl())
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// A custom injection configuration that adds a container and a label; the dry
// run prints what kubectl apply takes, and asks no cluster.
func TestManualFromFilesWithCustomConfiguration(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-custom"
	w.namespace(ns, nil)
	web := manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 1}.String()
	w.apply(w.kubeInject(web))
	w.ready(ns, 1)
	w.inject(newer)
	files := w.settingsFiles()
	text, err := os.ReadFile(files["injectConfigFile"])
	w.check(err)
	config := string(text)
	if strings.Contains(config, "defaultTemplates: [sidecar]") {
		config = strings.Replace(config, "defaultTemplates: [sidecar]", "defaultTemplates: [sidecar, extra]", 1)
	} else {
		config = "defaultTemplates: [sidecar, extra]\n" + config
	}
	config = strings.Replace(config, "\ntemplates:\n", "\ntemplates:\n  extra: |\n    metadata: {labels: {mesh: shop}}\n    spec: {containers: [{name: extra, image: example.com/extra:1}]}\n", 1)
	custom := filepath.Join(t.TempDir(), "inject-config.yaml")
	w.check(os.WriteFile(custom, []byte(config), 0o600))
	original := filepath.Join(t.TempDir(), "web.yaml")
	w.check(os.WriteFile(original, []byte(web), 0o600))

	kubeconfig := w.kubeconfig
	w.kubeconfig = filepath.Join(t.TempDir(), "none")
	o := w.must(0, "sidecars", "-f", original, "--dry-run=client", "-o", "yaml", istioctl(), "--inject-config", custom,
		"--mesh-config", files["meshConfigFile"], "--injection-values", files["valuesFile"])
	w.kubeconfig = kubeconfig
	for _, want := range []string{"name: extra", "mesh: shop", "/proxyv2:" + newer, "kind: Service"} {
		if !strings.Contains(o.Stdout, want) {
			t.Errorf("the manifests lack %q:\n%s", want, o)
		}
	}
	o = w.must(0, "sidecars", "-f", original, "--yes", istioctl(), "--inject-config", custom)
	w.wantProxies(ns, "web", map[string]int{newer: 1})
	got := w.kubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.metadata.labels.mesh} {.spec.template.spec.containers[*].name}")
	if !strings.Contains(got, "shop ") || !strings.Contains(got, "extra") {
		t.Errorf("the template has %q\n%s", got, o)
	}
}

// --to-webhook hands a workload over to the webhook that serves its namespace.
func TestManualToWebhook(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-hook"
	w.namespace(ns, nil)
	w.apply(w.kubeInject(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 1}.String()))
	w.ready(ns, 1)
	w.inject(newer)
	o := w.must(0, "sidecars", "-n", ns, "--yes", "--to-webhook")
	w.wantProxies(ns, "web", map[string]int{newer: 1})
	if got := w.kubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].name}"); got != "app" {
		t.Errorf("the template's containers are %q\n%s", got, o)
	}
}
