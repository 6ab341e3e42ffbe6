package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// planned is a document of sidecars -f.
type planned struct {
	Plan struct {
		Objects []struct {
			Kind, Name, Action, Impact, Held, Reason string
			Injected                                 bool
		} `json:"objects"`
		Warnings []string `json:"warnings"`
	} `json:"plan"`
}

func filesPlan(t *testing.T, o outcome) planned {
	t.Helper()
	var p planned
	if err := json.Unmarshal([]byte(o.Stdout), &p); err != nil {
		t.Fatalf("stdout is no document: %v\n%s", err, o)
	}
	return p
}

// file writes manifests to a file and gives its name.
func (w *world) file(texts ...string) string {
	w.T.Helper()
	path := filepath.Join(w.T.TempDir(), "manifests.yaml")
	w.Check(os.WriteFile(path, []byte(strings.Join(texts, "\n---\n")), 0o600))
	return path
}

const widgets = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]`

// A file may bring the namespace, the kind and the account that its other
// objects need; they are applied in its order.
func TestManualFilesBringWhatTheyNeed(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-brings"
	w.Inject(newer)
	t.Cleanup(func() {
		_, _ = w.Kubectl(context.WithoutCancel(t.Context()), nil, "delete", "namespace/"+ns, "crd/widgets.example.com", "--wait=false")
	})
	namespace := `{apiVersion: v1, kind: Namespace, metadata: {name: manual-brings}}`
	web := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2, PodSpec: "serviceAccountName: shop"}.String()
	widget := `{apiVersion: example.com/v1, kind: Widget, metadata: {name: one, namespace: manual-brings}, spec: {a: b}}`
	account := `{apiVersion: v1, kind: ServiceAccount, metadata: {name: shop, namespace: manual-brings}}`

	before := w.Writes()
	for _, wrong := range [][]string{{web, namespace}, {namespace, widget, widgets}} {
		o := w.Must(1, "sidecars", "-f", w.file(wrong...), "--yes", istioctl())
		w.Want(o, "move that one up")
	}
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("something was written: %v", after[len(before):])
	}

	file := w.file(namespace, widgets, widget, account, web)
	p := filesPlan(t, w.Must(0, "sidecars", "-f", file, "--yes", "-o", "json", istioctl()))
	if len(p.Plan.Objects) < 4 {
		t.Errorf("the plan has not all objects: %+v", p.Plan.Objects)
	}
	for _, object := range p.Plan.Objects {
		if object.Action != "created" {
			t.Errorf("%+v is not created", object)
		}
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	w.RunKubectl("-n", ns, "get", "widget", "one")
	var created []string
	for _, write := range w.Writes()[len(before):] {
		for _, name := range []string{"/namespaces?", "/customresourcedefinitions?", "/widgets?", "/serviceaccounts?", "/deployments?", "/services?"} {
			if strings.HasPrefix(write, "create") && strings.Contains(write, name) && !strings.Contains(write, "dryRun") {
				created = append(created, strings.Trim(name, "/?"))
			}
		}
	}
	if want := "namespaces customresourcedefinitions widgets serviceaccounts deployments services"; !strings.Contains(strings.Join(created, " "), want) {
		t.Errorf("created in the order %v, want %s", created, want)
	}

	before = w.Writes()
	o := w.Must(0, "sidecars", "-f", file, "--yes", istioctl())
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// Server-side, over what kubectl applied client-side: nothing of the old
// sidecar stays, and the user's next kubectl apply --server-side has no conflict.
func TestManualFilesServerSide(t *testing.T) {
	w := sharedCluster(t)
	ns, wanted := "manual-ssa", "manual-ssa-wanted"
	w.MakeNamespace(ns, nil)
	w.MakeNamespace(wanted, nil)
	web := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}
	old := strings.Replace(w.kubeInject(web.String()), "        - name: ISTIO_META_MESH_ID\n", "        - name: OLD_ONLY\n          value: gone\n        - name: ISTIO_META_MESH_ID\n", 1)
	if !strings.Contains(old, "OLD_ONLY") {
		t.Fatal("the sidecar has no ISTIO_META_MESH_ID")
	}
	w.Apply(old)
	w.AwaitReady(ns, 2)
	w.Inject(newer)
	file := w.file(web.String())

	w.Must(0, "sidecars", "-f", file, "--server-side", "--yes", istioctl())

	w.WantProxies(ns, "web", map[string]int{newer: 2})
	web.Namespace = wanted
	w.Apply(w.kubeInject(web.String()))
	if got, want := template(w.spec("Deployment", ns, "web"), ns), template(w.spec("Deployment", wanted, "web"), wanted); got != want {
		t.Errorf("want %s\nhave %s", want, got)
	}
	before := w.Writes()
	o := w.Must(0, "sidecars", "-f", file, "--server-side", "--yes", istioctl())
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
	web.Namespace = ns
	if _, err := w.Kubectl(t.Context(), []byte(w.kubeInject(web.String())), "apply", "--server-side", "-f", "-"); err != nil {
		t.Errorf("the user's own apply: %v", err)
	}

	// What the file no longer has goes, also where nothing else changes, and the
	// user's client-side applies can go on.
	config := func(keys string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: " + ns + "}\ndata: {" + keys + "}\n"
	}
	w.Apply(config("a: x, b: z"))
	w.Must(0, "sidecars", "-f", w.file(config("a: x")), "--server-side", "--yes", istioctl())
	if got := w.RunKubectl("-n", ns, "get", "configmap", "settings", "-o", "jsonpath={.data}"); got != `{"a":"x"}` {
		t.Errorf("the ConfigMap holds %s", got)
	}
	if got := w.RunKubectl("-n", ns, "get", "configmap", "settings", "-o", `jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}`); !strings.Contains(got, `"a":"x"`) || strings.Contains(got, `"b"`) {
		t.Errorf("kubectl applied last: %s", got)
	}
}

// What makes no pod anew is no roll and held back by nothing, and a DaemonSet that
// comes with the files is followed until it is up.
func TestManualFilesThatRollNothing(t *testing.T) {
	w := sharedCluster(t)
	const ns = "manual-steady"
	w.MakeNamespace(ns, nil)
	w.Inject(newer) // as istioctl is
	db := manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 1, Spec: "serviceName: db"}
	file := w.file(db.String())
	w.Must(0, "sidecars", "-f", file, "--yes", istioctl())
	w.AwaitReady(ns, 1)
	db.Labels = "team: blue"
	o := w.Must(0, "sidecars", "-f", w.file(db.String()), "--yes", istioctl())
	if got := w.RunKubectl("-n", ns, "get", "statefulset", "db", "-o", "jsonpath={.metadata.labels.team}"); got != "blue" {
		t.Errorf("the label is %q\n%s", got, o)
	}

	agent := manifest{Kind: "DaemonSet", Name: "agent", Namespace: ns, PodNotes: "lab/fail: crash"}
	o = w.Run("sidecars", "-f", w.file(agent.String()), "--yes", istioctl())
	if o.Code != 1 || !strings.Contains(o.Stderr, "CrashLoopBackOff") {
		t.Errorf("a DaemonSet whose pods crash: %s", o)
	}
}

// What applying would break is found before anything is written: pods that
// admission refuses, an outage by the workload's own strategy; and a file that
// looks older than what runs is named.
func TestManualFilesAreJudgedBeforehand(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-judged"
	w.MakeNamespace(ns, nil)
	refused := manifest{Kind: "Deployment", Name: "refused", Namespace: ns, Replicas: 2}.String()
	outage := manifest{Kind: "Deployment", Name: "outage", Namespace: ns, Replicas: 2, Spec: "strategy: {type: Recreate}"}.String()
	older1 := manifest{Kind: "Deployment", Name: "aged", Namespace: ns, Replicas: 3}.String()
	live := strings.ReplaceAll(strings.Replace(older1, "replicas: 3", "replicas: 2", 1), "example.com/app:1", "example.com/app:2")
	w.Apply(w.kubeInject(refused), w.kubeInject(outage), w.kubeInject(live))
	w.AwaitReady(ns, 6)
	w.RunKubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce=baseline")
	w.Inject(newer)
	before := w.Writes()
	o := w.Must(0, "sidecars", "-f", w.file(refused, outage), "--yes", istioctl(), "-o", "json")
	for _, object := range filesPlan(t, o).Plan.Objects {
		if object.Kind == "Deployment" && (object.Impact != "refused" || !strings.Contains(object.Held, "PodSecurity")) {
			t.Errorf("baseline allows no istio-init: %+v", object)
		}
	}
	w.RunKubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce-")
	o = w.Must(0, "sidecars", "-f", w.file(outage), "--yes", istioctl())
	w.Want(o, "--allow-downtime")
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("something was written: %v", after[len(before):])
	}
	o = w.Must(0, "sidecars", "-f", w.file(older1), "--dry-run", istioctl())
	w.Want(o, "may be older", "container app runs example.com/app:2, the file says example.com/app:1", "it has 2 replicas, the file says 3")
	w.Must(0, "sidecars", "-f", w.file(outage), "--yes", "--allow-downtime", istioctl())
	w.WantProxies(ns, "outage", map[string]int{newer: 2})
}

// What gets no sidecar rolls as its file says and is done when it is up, and so is
// what the file creates; sets that do not roll by themselves are held until --evict
// is given; a file that mends a broken workload is applied.
func TestManualFilesOfEveryShape(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-shapes"
	w.MakeNamespace(ns, nil)
	plain := manifest{Kind: "Deployment", Name: "plain", Namespace: ns, Replicas: 2, PodLabels: `sidecar.istio.io/inject: "false"`}.String()
	set := manifest{Kind: "StatefulSet", Name: "set", Namespace: ns, Replicas: 3, Spec: "serviceName: set, updateStrategy: {type: OnDelete}"}.String()
	broken := manifest{Kind: "Deployment", Name: "broken", Namespace: ns, Replicas: 2}.String()
	w.Apply(plain, w.kubeInject(set))
	w.AwaitReady(ns, 2+3)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: ns, Labels: map[string]string{"app": "broken"}, ProxyTag: older})
	w.Check(err)
	w.Apply(w.kubeInject(broken))
	w.Eventually("the pods of the broken workload", func() string {
		if n := w.RunKubectl("-n", ns, "get", "deployment", "broken", "-o", "jsonpath={.status.unavailableReplicas}"); n != "2" {
			return n + " are unavailable"
		}
		return ""
	})
	w.Inject(newer)
	created := strings.ReplaceAll(plain, "plain", "created")
	file := w.file(strings.ReplaceAll(plain, "example.com/app:1", "example.com/app:2"), set, broken, created)

	o := w.Must(0, "sidecars", "-f", file, "--yes", istioctl())

	w.Want(o, "✓ deployment/plain", "✓ deployment/broken", "✓ deployment/created", "--evict")
	w.AwaitReady(ns, 2+3+2+2)
	w.WantProxies(ns, "broken", map[string]int{newer: 2})
	w.WantProxies(ns, "set", map[string]int{older: 3})
	w.Must(0, "sidecars", "-f", file, "--yes", "--evict", istioctl())
	w.WantProxies(ns, "set", map[string]int{newer: 3})
	w.Check(restore(t.Context()))
}

// A new workload of a file is followed until it is up: one that does not come up is
// a failure, though its pods are there.
func TestManualFilesCreateWhatFails(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-created"
	w.MakeNamespace(ns, nil)
	w.Inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailCrash, Namespace: ns})
	w.Check(err)
	defer func() { w.Check(restore(t.Context())) }()

	o := w.Must(1, "sidecars", "-f", w.file(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String()), "--yes", istioctl())

	w.Want(o, "deployment/web", "CrashLoopBackOff")
}

// A workload of a file that does not come up is undone to exactly what was
// there.
func TestManualFilesUndo(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-files-undo"
	w.MakeNamespace(ns, nil)
	web := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String()
	w.Apply(w.kubeInject(web))
	w.AwaitReady(ns, 2)
	before := w.spec("Deployment", ns, "web")
	w.Inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailImagePull, Namespace: ns, ProxyTag: newer})
	w.Check(err)
	defer func() { w.Check(restore(t.Context())) }()

	o := w.Run("sidecars", "-f", w.file(web), "--yes", istioctl(), "--on-failure=undo", "--timeout=1m")

	if o.Code != 1 || !strings.Contains(o.Stderr, "put back") {
		t.Errorf("want a failure that is undone: %s", o)
	}
	if after := w.spec("Deployment", ns, "web"); !reflect.DeepEqual(before, after) {
		t.Errorf("not what was there:\nbefore %v\nafter %v", before, after)
	}
}

// From files too, an istioctl that misbehaves ends the run with one clear line,
// and so does bad input; nothing is written.
func TestManualFilesMisbehaviour(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-files-bad"
	w.MakeNamespace(ns, nil)
	w.Inject(newer)
	good := w.file(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String())
	real := clustertest.Parts.Bin("istioctl")
	version := "case \"$1\" in version) echo 'client version: " + newer + "'; exit 0;; esac\n"
	help := "case \"$*\" in *--help*) exec " + real + " \"$@\";; esac\n"
	before := w.Writes()
	for _, bad := range []struct{ name, path, says string }{
		{"absent", filepath.Join(t.TempDir(), "istioctl"), "cannot run istioctl"},
		{"fails", w.script(version + help + "echo 'Error: no such template' >&2; exit 1\n"), "no such template"},
		{"hangs", w.script(version + help + "sleep 600\n"), "did not end within"},
		{"leaves it out", w.script(version + help + "exit 0\n"), "left out"},
		{"another minor", w.script("case \"$1\" in version) echo 'client version: 1.29.4'; exit 0;; esac\nexec " + real + " \"$@\"\n"), "same minor version"},
		{"no istioctl", w.script("exit 0\n"), "is it istioctl?"},
	} {
		args := []string{"sidecars", "-f", good, "--yes", "--istioctl", bad.path}
		if bad.name == "hangs" {
			args = append(args, "--istioctl-timeout=5s")
		}
		o := w.Must(1, args...)
		if !strings.Contains(o.Stderr, bad.says) || strings.Count(strings.TrimSpace(o.Stderr), "\n") > 0 {
			t.Errorf("%s: want one line with %q: %s", bad.name, bad.says, o)
		}
	}
	for _, bad := range []struct{ name, text, says string }{
		{"broken YAML", "kind: [\n", "document 1"},
		{"nothing", "# nothing\n---\n", "there is no object"},
		{"no object", "- a\n", "a list, not an object"},
		{"no name", "apiVersion: apps/v1\nkind: Deployment\nspec: {}\n", "metadata.name"},
		{"an unknown kind", "apiVersion: example.com/v9\nkind: Gadget\nmetadata: {name: x}\n", "Gadget"},
	} {
		o := w.Run("sidecars", "-f", w.file(bad.text), "--yes", istioctl())
		if o.Code != 1 && o.Code != 2 || !strings.Contains(o.Stderr, bad.says) || strings.Count(strings.TrimSpace(o.Stderr), "\n") > 0 {
			t.Errorf("%s: want one line with %q: %s", bad.name, bad.says, o)
		}
	}
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("something was written: %v", after[len(before):])
	}
	noisy := w.script(version + "echo 'Warning: this istioctl is old'\nexec " + real + " \"$@\"\n")
	w.Must(0, "sidecars", "-f", good, "--yes", "--istioctl", noisy)
	w.WantProxies(ns, "web", map[string]int{newer: 1})
}

// Files name their own configuration: one alone, the others are read from the
// cluster; without a cluster what is missing is said at once.
func TestManualFilesWithoutACluster(t *testing.T) {
	w := sharedCluster(t)
	files := w.settingsFiles()
	file := w.file(manifest{Kind: "Deployment", Name: "web", Namespace: "anywhere", Replicas: 1}.String())
	w.OtherKubeconfig = filepath.Join(t.TempDir(), "none")
	o := w.Run("sidecars", "-f", file, "--dry-run=client", "-o", "yaml", istioctl(), "--inject-config", files["injectConfigFile"])
	if o.Code == 0 || !strings.Contains(o.Stderr, "--mesh-config") || !strings.Contains(o.Stderr, "--injection-values") {
		t.Errorf("what is missing is not named: %s", o)
	}
	o = w.Must(0, "uninject", "-f", w.file("# kept\nkind: Service\n"))
	if o.Stdout != "# kept\nkind: Service\n" {
		t.Errorf("not byte for byte: %q", o.Stdout)
	}
}
