package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// kubeInjectNative is kubeInject with the proxy as a native sidecar, as istiod
// gives it where every kubelet can run one.
func (w *world) kubeInjectNative(manifests string) string {
	w.T.Helper()
	file := filepath.Join(w.T.TempDir(), "original.yaml")
	w.Check(os.WriteFile(file, []byte(manifests), 0o600))
	args := []string{"kube-inject", "--revision", "default", "-f", file}
	for flag, path := range w.settingsFiles() {
		args = append(args, "--"+flag, path)
	}
	cmd := exec.CommandContext(w.T.Context(), clustertest.Parts.Bin("istioctl"), args...)
	cmd.Env = append(os.Environ(), "ENABLE_NATIVE_SIDECARS=true")
	out, err := cmd.Output()
	w.Check(err)
	return string(out)
}

// script makes a stand-in for istioctl.
func (w *world) script(body string) string {
	w.T.Helper()
	path := filepath.Join(w.T.TempDir(), "istioctl")
	w.Check(os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755))
	return path
}

// Sets that replace no pod by themselves are named until --evict is given; then
// their template is written and their pods go one at a time.
func TestManualEvictsWhatDoesNotRoll(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-evict"
	w.MakeNamespace(ns, nil)
	w.Apply(
		w.kubeInject(manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 3, Spec: "serviceName: db, updateStrategy: {type: OnDelete}"}.String()),
		w.kubeInject(manifest{Kind: "DaemonSet", Name: "agent", Namespace: ns, Spec: "updateStrategy: {type: OnDelete}"}.String()),
		w.kubeInject(manifest{Kind: "ReplicaSet", Name: "bare", Namespace: ns, Replicas: 2}.String()),
	)
	w.AwaitReady(ns, 3+3+2)
	w.Inject(newer)
	before := w.Writes()
	r := w.Must(0, "sidecars", "-n", ns, "--yes", istioctl(), "-o", "json").JSON(t)
	for _, p := range r.Plan.Workloads {
		if p.How != "none" || !strings.Contains(p.Held, "--evict") {
			t.Errorf("without --evict: %+v", p)
		}
	}
	if len(r.Left) != 3 || len(w.Writes()) != len(before) {
		t.Errorf("left %+v, written %v", r.Left, w.Writes()[len(before):])
	}
	endpoints := w.WatchEndpoints(ns, "db", "agent", "bare")

	w.Must(0, "sidecars", "-n", ns, "--yes", istioctl(), "--evict")

	endpoints.Never(w.World, 1)
	for app, n := range map[string]int{"db": 3, "agent": 3, "bare": 2} {
		w.WantProxies(ns, app, map[string]int{newer: n})
	}
}

// The proxy changes from an init container to a container: the plan says so,
// and nothing of the old form stays.
func TestManualChangesForm(t *testing.T) {
	w := sharedCluster(t)
	ns, wanted := "manual-form", "manual-form-wanted"
	w.MakeNamespace(ns, nil)
	w.MakeNamespace(wanted, nil)
	web := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}
	w.Apply(w.kubeInjectNative(web.String()))
	w.AwaitReady(ns, 2)
	if got := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].name}"); got != "app" {
		t.Fatalf("not injected in the native form: %s", got)
	}
	w.Inject(newer)
	o := w.Must(0, "sidecars", "-n", ns, "--yes", istioctl())
	if want := older + " native → " + newer + " classic"; !strings.Contains(o.Stdout, want) {
		t.Errorf("the plan does not say %q:\n%s", want, o)
	}
	web.Namespace = wanted
	w.Apply(w.kubeInject(web.String()))
	if got, want := template(w.spec("Deployment", ns, "web"), ns), template(w.spec("Deployment", wanted, "web"), wanted); got != want {
		t.Errorf("want %s\nhave %s", want, got)
	}
}

// A field of the pod that this istioctl does not know survives: the stand-in
// drops it as an older istioctl would.
func TestManualKeepsFieldsThatIstioctlDoesNotKnow(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-fields"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1, PodSpec: "setHostnameAsFQDN: true, hostname: shop"}.String()))
	w.AwaitReady(ns, 1)
	w.Inject(newer)
	forgetful := w.script("case \"$*\" in *--filename*) " + clustertest.Parts.Bin("istioctl") + " \"$@\" | sed '/setHostnameAsFQDN:/d';; *) exec " + clustertest.Parts.Bin("istioctl") + " \"$@\";; esac\n")
	w.Must(0, "sidecars", "-n", ns, "--yes", "--istioctl", forgetful)
	w.WantProxies(ns, "web", map[string]int{newer: 1})
	if got := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.setHostnameAsFQDN} {.spec.template.spec.hostname}"); got != "true shop" {
		t.Errorf("setHostnameAsFQDN and hostname are %q", got)
	}
}

// Where a ProxyConfig applies the injector itself is asked, and the name and
// owner of the workload, which it does not see, are put back.
func TestManualObeysProxyConfigs(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-config"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(joined([]original{
		{manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}, ""},
		{manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 2, Spec: "serviceName: db"}, ""},
	})))
	w.AwaitReady(ns, 3)
	w.Apply(`apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: settings, namespace: manual-config}
spec: {environmentVariables: {FROM_PROXY_CONFIG: "yes"}}`)
	w.Inject(newer)
	w.Eventually("the injector knows the ProxyConfig", func() string {
		out, err := w.Kubectl(t.Context(), []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","labels":{"sidecar.istio.io/inject":"true"}},"spec":{"containers":[{"name":"app","image":"app"}]}}`),
			"-n", ns, "create", "--dry-run=server", "-o", "yaml", "-f", "-")
		if err != nil || !strings.Contains(out, "FROM_PROXY_CONFIG") {
			return "it does not yet"
		}
		return ""
	})
	w.Must(0, "sidecars", "-n", ns, "--yes", istioctl())
	w.WantProxies(ns, "", map[string]int{newer: 3})
	for _, o := range []struct{ kind, name string }{{"deployment", "web"}, {"statefulset", "db"}} {
		text := w.RunKubectl("-n", ns, "get", o.kind, o.name, "-o", "json")
		for _, want := range []string{"FROM_PROXY_CONFIG", "kubernetes://apis/apps/v1/namespaces/" + ns + "/" + o.kind + "s/" + o.name, `"service.istio.io/canonical-name": "` + o.name + `"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s %s lacks %q:\n%s", o.kind, o.name, want, text)
			}
		}
	}
	before := w.Writes()
	o := w.Must(0, "sidecars", "-n", ns, "--yes", istioctl())
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// One workload that does not come up ends the run: what has not begun stays as
// it is, and with undo the failed one gets back exactly what was there.
func TestManualHalts(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-halt"
	w.MakeNamespace(ns, nil)
	names := []string{"a", "b", "c"}
	for _, name := range names {
		w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: name, Namespace: ns, Replicas: 2}.String()))
	}
	w.AwaitReady(ns, 6)
	before := map[string]map[string]any{}
	for _, name := range names {
		before[name] = w.spec("Deployment", ns, name)
	}
	w.Inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailCrash, Namespace: ns, ProxyTag: newer})
	w.Check(err)
	endpoints := w.WatchEndpoints(ns, names...)

	o := w.Must(3, "sidecars", "-n", ns, "--yes", istioctl(), "--max-parallel=1", "--timeout=1m", "-o", "json")

	endpoints.Never(w.World, 2)
	outcomes := map[string]string{}
	for _, r := range o.JSON(t).Result.Workloads {
		outcomes[r.Name] = r.Outcome
	}
	if want := map[string]string{"a": "failed", "b": "not started", "c": "not started"}; !reflect.DeepEqual(outcomes, want) {
		t.Errorf("outcomes are %v, want %v", outcomes, want)
	}
	for _, name := range names[1:] {
		if after := w.spec("Deployment", ns, name); !reflect.DeepEqual(before[name], after) {
			t.Errorf("%s was touched", name)
		}
	}
	o = w.Must(3, "sidecars", "-n", ns, "--yes", istioctl(), "--max-parallel=1", "--timeout=1m", "--on-failure=undo", "deployment/b", "deployment/c")
	w.Want(o, "put back")
	for _, name := range names[1:] {
		if after := w.spec("Deployment", ns, name); !reflect.DeepEqual(before[name], after) {
			t.Errorf("%s is not what was there:\nbefore %v\nafter %v", name, before[name], after)
		}
	}
	w.Check(restore(t.Context()))
	w.WantProxies(ns, "b", map[string]int{older: 2})
}

// What else writes a workload from manifests of its own is named, with the
// pipeline that keeps the old sidecar from coming back.
func TestManualNamesOwners(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-owners"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(joined([]original{
		{manifest{Kind: "Deployment", Name: "charted", Namespace: ns, Replicas: 1, Annotations: "meta.helm.sh/release-name: shop, meta.helm.sh/release-namespace: manual-owners"}, ""},
		{manifest{Kind: "Deployment", Name: "synced", Namespace: ns, Replicas: 1, Labels: "kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system"}, ""},
		{manifest{Kind: "Deployment", Name: "argoed", Namespace: ns, Replicas: 1, Annotations: `argocd.argoproj.io/tracking-id: "shop:apps/Deployment:manual-owners/argoed"`}, ""},
	})))
	w.AwaitReady(ns, 3)
	w.Inject(newer)
	o := w.Must(0, "sidecars", "-n", ns, "--dry-run", istioctl())
	w.Want(o, "Helm release manual-owners/shop", "post-renderer", "Flux Kustomization flux-system/apps", "Argo CD application shop", "sidecars -f FILE --dry-run=client -o yaml")
}
