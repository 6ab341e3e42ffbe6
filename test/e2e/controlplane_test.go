package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// upgrade gives the arguments that bring the control plane to a version.
func upgrade(version string, more ...string) []string {
	return append([]string{"control-plane", "--tag", version, "--charts", parts.PackagedCharts(), "--yes"}, more...)
}

// history gives the release's revisions as "3=deployed", oldest first.
func (w *world) history(namespace, name string) []string {
	w.t.Helper()
	out, err := w.Kubectl(w.t.Context(), nil, "get", "secrets", "-n", namespace, "-l", "owner=helm,name="+name,
		"-o", `jsonpath={range .items[*]}{.metadata.labels.version} {.metadata.labels.status}{"\n"}{end}`)
	w.check(err)
	lines := strings.Fields(strings.ReplaceAll(out, " ", "="))
	slices.SortFunc(lines, func(a, b string) int {
		return len(a[:strings.Index(a, "=")])*1000 - len(b[:strings.Index(b, "=")])*1000 + strings.Compare(a, b)
	})
	return lines
}

// newest gives the release's newest revision, as "3=deployed".
func (w *world) newest(namespace, name string) string {
	w.t.Helper()
	all := w.history(namespace, name)
	return all[len(all)-1]
}

// userValues gives what the user gave the release.
func (w *world) userValues(namespace, name string) map[string]any {
	w.t.Helper()
	out := w.kubectl("get", "configmap", "values", "-n", namespace, "-o", `jsonpath={.data.original-values}`)
	var values map[string]any
	w.check(json.Unmarshal([]byte(out), &values))
	return values
}

// weakWebhooks watches Istio's webhooks until stop is called, which gives every
// state in which one of them had no caBundle or had lost the policy Fail.
func (w *world) weakWebhooks() (stop func() []string) {
	w.t.Helper()
	ctx := w.t.Context()
	api := w.Client().AdmissionregistrationV1()
	validating, err := api.ValidatingWebhookConfigurations().Watch(ctx, metav1.ListOptions{})
	w.check(err)
	mutating, err := api.MutatingWebhookConfigurations().Watch(ctx, metav1.ListOptions{})
	w.check(err)
	var mu sync.Mutex
	weak := map[string]bool{}
	note := func(name, hook string, client admissionv1.WebhookClientConfig, policy *admissionv1.FailurePolicyType) {
		mu.Lock()
		defer mu.Unlock()
		if len(client.CABundle) == 0 || policy == nil || *policy != admissionv1.Fail {
			weak[fmt.Sprintf("%s/%s: caBundle of %d bytes, policy %v", name, hook, len(client.CABundle), *policy)] = true
		}
	}
	var wait sync.WaitGroup
	for _, events := range []watch.Interface{validating, mutating} {
		wait.Go(func() {
			for event := range events.ResultChan() {
				switch o := event.Object.(type) {
				case *admissionv1.ValidatingWebhookConfiguration:
					for _, hook := range o.Webhooks {
						note(o.Name, hook.Name, hook.ClientConfig, hook.FailurePolicy)
					}
				case *admissionv1.MutatingWebhookConfiguration:
					for _, hook := range o.Webhooks {
						note(o.Name, hook.Name, hook.ClientConfig, hook.FailurePolicy)
					}
				}
			}
		})
	}
	return func() []string {
		validating.Stop()
		mutating.Stop()
		wait.Wait()
		return slices.Sorted(maps.Keys(weak))
	}
}

// strong waits until istiod has filled in its webhooks.
func (w *world) strong() {
	w.t.Helper()
	w.eventually("istiod's webhooks", func() string {
		list, err := w.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations().List(w.t.Context(), metav1.ListOptions{})
		w.check(err)
		for _, c := range list.Items {
			for _, hook := range c.Webhooks {
				if strings.HasSuffix(hook.Name, "validation.istio.io") && (len(hook.ClientConfig.CABundle) == 0 || *hook.FailurePolicy != admissionv1.Fail) {
					return c.Name + " is not filled in"
				}
			}
		}
		return ""
	})
}

// wrote gives what the plugin has written since a moment.
func (w *world) wrote(since time.Time) []string {
	w.t.Helper()
	events, err := w.AuditEvents(w.t.Context(), "kubectl-istio-upgrade/")
	w.check(err)
	var writes []string
	for _, e := range events {
		if e.Writes() && e.Received.After(since) {
			writes = append(writes, e.Verb+" "+e.Object.Resource+" "+e.Object.Name)
		}
	}
	return writes
}

func (w *world) want(o outcome, texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		if !strings.Contains(o.Stdout+o.Stderr, text) {
			w.t.Errorf("want %q in\n%s", text, o)
		}
	}
}

// The whole way there and back, with all components.
func TestControlPlane(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	w.injected("shop")
	w.apply(manifest{kind: "Deployment", name: "web", namespace: "shop", replicas: 2}.String())
	w.ready("shop", 2)
	w.check(w.CreateNamespace(t.Context(), "gw", nil))
	for _, c := range [][3]string{{"cni", "istio-cni", lab.IstioNamespace}, {"ztunnel", "ztunnel", lab.IstioNamespace}, {"gateway", "gw", "gw"}} {
		w.check(w.Helm(t.Context(), "install", c[1], parts.Chart(c[0], older), "-n", c[2], "--set", "service.type=ClusterIP"))
	}
	w.ready("gw", 1)
	w.check(w.Helm(t.Context(), "upgrade", "istiod", parts.Chart("istiod", older), "-n", lab.IstioNamespace, "--reuse-values",
		"--set", "pilot.env.OWN=kept,meshConfig.accessLogFile=/dev/stdout,bygone.value=1"))
	w.strong()

	o := w.must(3, upgrade(newer)...)
	w.want(o, "they are behind the target", "kubectl istio-upgrade crds --tag "+newer)
	w.must(0, "crds", "--tag", newer, "--charts", parts.PackagedCharts(), "--yes", "--no-backup")

	began := time.Now()
	o = w.must(0, upgrade(newer, "--dry-run")...)
	w.want(o, "context lab", "istiod-1.30.2 → istiod-1.31.0", "1.30.2 → 1.31.0", "does not use the value bygone")
	w.want(w.must(2, "control-plane", "--tag", newer, "--charts", parts.PackagedCharts()), "no terminal to ask at")
	if got := w.wrote(began); len(got) > 0 {
		t.Fatalf("a dry run wrote: %v", got)
	}

	stop := w.weakWebhooks()
	w.must(0, upgrade(newer, "--set", "pilot.traceSampling=7")...)
	if weak := stop(); len(weak) > 0 {
		t.Errorf("webhooks were weak on the way: %v", weak)
	}
	image, err := w.InjectedImage(t.Context(), "")
	w.check(err)
	if !strings.HasSuffix(image, ":"+newer) {
		t.Errorf("the injector gives %s", image)
	}
	values := fmt.Sprint(w.userValues(lab.IstioNamespace, "istiod"))
	for _, kept := range []string{"OWN:kept", "accessLogFile:/dev/stdout", "traceSampling:7", "tag:" + newer} {
		if !strings.Contains(values, kept) {
			t.Errorf("%s is not among the release's values %s", kept, values)
		}
	}
	for name, namespace := range map[string]string{"istiod": lab.IstioNamespace, "istio-cni": lab.IstioNamespace, "ztunnel": lab.IstioNamespace, "gw": "gw"} {
		if got := w.newest(namespace, name); !strings.HasSuffix(got, "=deployed") || got == "1=deployed" {
			t.Errorf("release %s is at %s", name, got)
		}
	}
	began = time.Now()
	w.want(w.must(0, upgrade(newer)...), "Nothing to upgrade")
	if got := w.wrote(began); len(got) > 0 {
		t.Errorf("a second run wrote: %v", got)
	}
	w.want(w.must(3, upgrade(older)...), "downgrade", "use kubectl istio-upgrade rollback")

	t.Run("user's own upgrade", func(t *testing.T) {
		if err := w.Helm(t.Context(), "upgrade", "istiod", parts.Chart("istiod", newer), "-n", lab.IstioNamespace, "--reuse-values"); err != nil {
			t.Errorf("helm conflicts with what we wrote: %v", err)
		}
	})
	t.Run("rollback", func(t *testing.T) { rollbackThere(&world{Cluster: w.Cluster, t: t}) })
}

// rollbackThere goes back before and after proxies have moved.
func rollbackThere(w *world) {
	w.t.Helper()
	// The gateway's pods are new already, with the proxy of the injector.
	o := w.must(3, "rollback", "--yes")
	w.want(o, "they would be newer than a control plane of "+older, "gw/gw-", "rollback --proxies-first")
	w.must(0, "sidecars", "-A", "--yes")
	w.wantProxies("shop", "web", map[string]int{newer: 2})
	w.must(0, "rollback", "--proxies-first", "--yes")
	w.wantProxies("shop", "web", map[string]int{older: 2})
	w.wantProxies("gw", "", map[string]int{older: 1})
	image, err := w.InjectedImage(w.t.Context(), "")
	w.check(err)
	if !strings.HasSuffix(image, ":"+older) {
		w.t.Errorf("the injector gives %s", image)
	}
	values := fmt.Sprint(w.userValues(lab.IstioNamespace, "istiod"))
	if strings.Contains(values, newer) || !strings.Contains(values, "OWN:kept") {
		w.t.Errorf("the former values are not back: %s", values)
	}
	w.want(w.must(0, "sidecars", "-A", "--yes"), "Nothing to move")

	w.must(0, upgrade(newer, "--component", "istiod")...)
	w.must(0, "rollback", "--yes") // no proxy has moved
	w.want(w.must(1, "rollback", "--to", "99", "--yes"), "no earlier revision 99")
}

// Every source of charts gives the same plan.
func TestControlPlaneSources(t *testing.T) {
	w := sharedCluster(t)
	http, err := w.ServeHTTPRepo(t.Context())
	w.check(err)
	oci, err := w.ServeOCI(t.Context())
	w.check(err)
	for name, source := range map[string]string{
		"folder of archives": parts.PackagedCharts(), "release folder": parts.ChartFolder(newer),
		"archive": parts.Chart("istiod", newer), "http": http, "oci": oci,
	} {
		o := w.must(0, "control-plane", "--tag", newer, "--charts", source, "--dry-run", "--force")
		w.want(o, "istiod-1.30.2 → istiod-1.31.0")
		if o.Code != 0 {
			t.Errorf("%s: %s", name, o)
		}
	}
	for _, source := range []string{http, oci, parts.PackagedCharts()} {
		w.want(w.must(1, "control-plane", "--tag", "1.31.9", "--charts", source, "--yes"), "no version 1.31.9 of the chart istiod; nearest: "+newer+", "+older)
	}
}

// Each is one clear line, and changes nothing.
func TestControlPlaneBadInput(t *testing.T) {
	w := sharedCluster(t)
	charts := []string{"--charts", parts.PackagedCharts(), "--yes"}
	began := time.Now()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--tag is needed", nil},
		{1, "is no version", []string{"--tag", "newest"}},
		{1, "neither a folder", []string{"--tag", newer, "--charts", "absent"}},
		{1, "cannot be reached", []string{"--tag", newer, "--charts", "http://127.0.0.1:1"}},
		{1, "has no chart istiod", []string{"--tag", newer, "--charts", t.TempDir()}},
		{1, "holds the chart gateway, not istiod", []string{"--tag", newer, "--charts", parts.Chart("gateway", newer)}},
		{1, "there is no = in it", []string{"--tag", newer, "--set", "nonsense"}},
		{1, "absent.yaml", []string{"--tag", newer, "--values", "absent.yaml"}},
		{1, `revision or tag "absent"`, []string{"--tag", newer, "--revision", "absent"}},
		{1, "no control plane in namespace default", []string{"--tag", newer, "-i", "default"}},
		{2, "--component is", []string{"--tag", newer, "--component", "pilot"}},
		{1, "refuses the values", []string{"--tag", newer, "--set", "profile=absent"}},
	} {
		o := w.must(c.code, append(append([]string{"control-plane"}, charts...), c.args...)...)
		w.want(o, c.want)
	}
	if got := w.wrote(began); len(got) > 0 {
		t.Errorf("bad input wrote: %v", got)
	}
}
