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

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// upgrade gives the arguments that bring the control plane to a version.
func upgrade(version string, more ...string) []string {
	return append([]string{"control-plane", "--tag", version, "--charts", clustertest.Parts.PackagedCharts(), "--yes"}, more...)
}

// history gives the release's revisions as "3=deployed", oldest first.
func (w *world) history(namespace, name string) []string {
	w.T.Helper()
	out, err := w.Kubectl(w.T.Context(), nil, "get", "secrets", "-n", namespace, "-l", "owner=helm,name="+name,
		"-o", `jsonpath={range .items[*]}{.metadata.labels.version} {.metadata.labels.status}{"\n"}{end}`)
	w.Check(err)
	lines := strings.Fields(strings.ReplaceAll(out, " ", "="))
	slices.SortFunc(lines, func(a, b string) int {
		return len(a[:strings.Index(a, "=")])*1000 - len(b[:strings.Index(b, "=")])*1000 + strings.Compare(a, b)
	})
	return lines
}

// newest gives the release's newest revision, as "3=deployed".
func (w *world) newest(namespace, name string) string {
	w.T.Helper()
	all := w.history(namespace, name)
	return all[len(all)-1]
}

// chartOf gives the chart of the release's revision in force, as "istiod-1.31.0".
func (w *world) chartOf(namespace, name string) string {
	w.T.Helper()
	list, err := w.Client().CoreV1().Secrets(namespace).List(w.T.Context(), metav1.ListOptions{LabelSelector: "owner=helm,status=deployed,name=" + name})
	w.Check(err)
	if len(list.Items) != 1 {
		w.T.Fatalf("release %s has %d deployed revisions", name, len(list.Items))
	}
	raw, err := clustertest.Gunzip(list.Items[0].Data["release"])
	w.Check(err)
	var stored struct {
		Chart struct {
			Metadata struct{ Name, Version string }
		}
	}
	w.Check(json.Unmarshal(raw, &stored))
	return stored.Chart.Metadata.Name + "-" + stored.Chart.Metadata.Version
}

// userValues gives what the user gave the release.
func (w *world) userValues(namespace, name string) map[string]any {
	w.T.Helper()
	out := w.RunKubectl("get", "configmap", "values", "-n", namespace, "-o", `jsonpath={.data.original-values}`)
	var values map[string]any
	w.Check(json.Unmarshal([]byte(out), &values))
	return values
}

// weakWebhooks watches Istio's webhooks until stop is called, which gives every
// state in which one of them had no caBundle or had lost the policy Fail.
func (w *world) weakWebhooks() (stop func() []string) {
	w.T.Helper()
	ctx := w.T.Context()
	api := w.Client().AdmissionregistrationV1()
	validating, err := api.ValidatingWebhookConfigurations().Watch(ctx, metav1.ListOptions{})
	w.Check(err)
	mutating, err := api.MutatingWebhookConfigurations().Watch(ctx, metav1.ListOptions{})
	w.Check(err)
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
	w.T.Helper()
	w.Eventually("istiod's webhooks", func() string {
		list, err := w.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations().List(w.T.Context(), metav1.ListOptions{})
		w.Check(err)
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
	w.T.Helper()
	events, err := w.AuditEvents(w.T.Context(), "kubectl-istio-upgrade/")
	w.Check(err)
	var writes []string
	for _, e := range events {
		if e.Writes() && e.Received.After(since) {
			writes = append(writes, e.Verb+" "+e.Object.Resource+" "+e.Object.Name)
		}
	}
	return writes
}

// leftover is a definition that istioctl has left, and that no chart brings on.
const leftover = `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition,
  metadata: {name: istiooperators.install.istio.io, labels: {operator.istio.io/version: 1.23.0}},
  spec: {group: install.istio.io, names: {kind: IstioOperator, listKind: IstioOperatorList, plural: istiooperators, singular: istiooperator}, scope: Namespaced,
    versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}`

// The whole way there and back, with all components.
func TestControlPlane(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	w.InjectedNamespace("shop")
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: "shop", Replicas: 2}.String())
	w.AwaitReady("shop", 2)
	w.Check(w.CreateNamespace(t.Context(), "gw", nil))
	for _, c := range [][3]string{{"cni", "istio-cni", lab.IstioNamespace}, {"ztunnel", "ztunnel", lab.IstioNamespace}, {"gateway", "gw", "gw"}} {
		w.Check(w.Helm(t.Context(), "install", c[1], clustertest.Parts.Chart(c[0], older), "-n", c[2], "--set", "service.type=ClusterIP"))
	}
	w.AwaitReady("gw", 1)
	w.Check(w.Helm(t.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", older), "-n", lab.IstioNamespace, "--reuse-values",
		"--set", "pilot.env.OWN=kept,meshConfig.accessLogFile=/dev/stdout,bygone.value=1"))
	w.strong()

	o := w.Must(3, upgrade(newer)...)
	w.Want(o, "they are behind the target", "kubectl istio-upgrade crds --tag "+newer)
	w.Must(0, "crds", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--yes", "--no-backup")
	w.Apply(leftover)
	w.AwaitEstablished()

	began := time.Now()
	o = w.Must(0, upgrade(newer, "--dry-run")...)
	w.Want(o, "context lab", "istiod-1.30.2 → 1.31.0", "1.30.2 → 1.31.0", "does not use the value bygone")
	w.Want(w.Must(2, "control-plane", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts()), "no terminal to ask at")
	if got := w.wrote(began); len(got) > 0 {
		t.Fatalf("a dry run wrote: %v", got)
	}

	stop := w.weakWebhooks()
	w.Must(0, upgrade(newer, "--set", "pilot.traceSampling=7")...)
	if weak := stop(); len(weak) > 0 {
		t.Errorf("webhooks were weak on the way: %v", weak)
	}
	image, err := w.InjectedImage(t.Context(), "")
	w.Check(err)
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
	w.Want(w.Must(0, upgrade(newer)...), "Nothing to upgrade")
	if got := w.wrote(began); len(got) > 0 {
		t.Errorf("a second run wrote: %v", got)
	}
	w.Want(w.Must(3, upgrade(older)...), "downgrade", "use kubectl istio-upgrade rollback")

	t.Run("user's own upgrade", func(t *testing.T) {
		if err := w.Helm(t.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", newer), "-n", lab.IstioNamespace, "--reuse-values"); err != nil {
			t.Errorf("helm conflicts with what we wrote: %v", err)
		}
	})
	t.Run("rollback", func(t *testing.T) { rollbackThere(newWorld(w.Cluster, t)) })
}

// rollbackThere goes back before and after proxies have moved.
func rollbackThere(w *world) {
	w.T.Helper()
	// The gateway's pods are new already: the upgrade has moved them, and so does
	// the way back.
	o := w.Must(0, "rollback", "--yes")
	w.Want(o, "the gateways go back", "sidecars go back to "+older)
	w.WantProxies("gw", "", map[string]int{older: 1})
	w.WantProxies("shop", "web", map[string]int{older: 2})
	w.Want(w.Must(0, "rollback", "--yes"), "is back at its revision", "Nothing to take back") // and not forward again
	for name, c := range map[string]string{"istiod": "istiod", "istio-cni": "cni", "ztunnel": "ztunnel", "gw": "gateway"} {
		namespace := lab.IstioNamespace
		if name == "gw" {
			namespace = "gw"
		}
		if got := w.RunKubectl("get", "secrets", "-n", namespace, "-l", "owner=helm,status=deployed,name="+name, "-o", "name"); got == "" {
			w.T.Errorf("release %s is not deployed", name)
		}
		if chart := w.chartOf(namespace, name); chart != c+"-"+older {
			w.T.Errorf("release %s is at %s", name, chart)
		}
	}
	w.Want(w.Must(0, "sidecars", "-A", "--yes"), "Nothing to move")
	w.Must(0, upgrade(newer, "--set", "pilot.traceSampling=7,global.hub=registry.example/istio")...)
	w.Must(0, "sidecars", "-A", "--yes")
	w.WantProxies("shop", "web", map[string]int{newer: 2})
	o = w.Must(3, "rollback", "--yes")
	w.Want(o, "they would be newer than a control plane of "+older, "shop/web-", "rollback --proxies-first")
	w.rightsBeforeTheInjector()
	ran := w.images("istiod")
	// What would be down stays, and nothing goes back below it.
	w.Apply(manifest{Kind: "Deployment", Name: "one", Namespace: "shop", Replicas: 1, Spec: "strategy: {type: Recreate}"}.String())
	w.AwaitReady("shop", 3)
	o = w.Must(3, "rollback", "--proxies-first", "--yes")
	w.Want(o, "Expected of the workloads", "deployment/web", "deployment/gw", newer+" → "+older, "no impact", "shop/one-", "--allow-downtime")
	w.WantProxies("shop", "one", map[string]int{newer: 1})
	w.Must(0, "rollback", "--proxies-first", "--allow-downtime", "--yes")
	w.WantProxies("shop", "one", map[string]int{older: 1})
	if now := w.images("istiod"); !slices.Equal(now, ran) { // both have run before
		w.T.Errorf("images of istiod were %v, and with those in between %v", ran, now)
	}
	w.WantProxies("shop", "web", map[string]int{older: 2})
	w.WantProxies("gw", "", map[string]int{older: 1})
	image, err := w.InjectedImage(w.T.Context(), "")
	w.Check(err)
	if !strings.HasSuffix(image, ":"+older) {
		w.T.Errorf("the injector gives %s", image)
	}
	values := fmt.Sprint(w.userValues(lab.IstioNamespace, "istiod"))
	if strings.Contains(values, newer) || !strings.Contains(values, "OWN:kept") {
		w.T.Errorf("the former values are not back: %s", values)
	}
	w.Want(w.Must(0, "sidecars", "-A", "--yes"), "Nothing to move")

	w.Must(0, upgrade(newer, "--component", "istiod")...)
	w.Must(0, "rollback", "--yes") // no proxy has moved
	w.Want(w.Must(1, "rollback", "--to", "99", "--yes"), "no earlier revision 99")
}

// images gives all images that a Deployment of istio-system has had.
func (w *world) images(app string) []string {
	w.T.Helper()
	images := strings.Fields(w.RunKubectl("get", "replicasets", "-n", lab.IstioNamespace, "-l", "app="+app, "-o", "jsonpath={.items[*].spec.template.spec.containers[0].image}"))
	slices.Sort(images)
	return slices.Compact(images)
}

// rightsBeforeTheInjector has somebody roll back who may not roll workloads: it is
// refused before the injector gives out another proxy.
func (w *world) rightsBeforeTheInjector() {
	w.T.Helper()
	_, roles := documentedRoles(w.T)
	w.Apply(roles)
	guestWorld := newWorld(w.Cluster, w.T)
	guestWorld.invite(guest{name: "no-roller", roles: map[string]string{
		"view": "", "istio-upgrade-control-plane": "", "istio-upgrade-control-plane-release": lab.IstioNamespace,
		"istio-upgrade-sidecars-mesh": "", "istio-upgrade-look-releases": "", "istio-upgrade-plan-release": "",
	}})
	before := w.newest(lab.IstioNamespace, "istiod")
	w.Want(guestWorld.Must(3, "rollback", "--proxies-first", "--yes"), "you lack rights", "patch deployments.apps in namespace shop")
	if after := w.newest(lab.IstioNamespace, "istiod"); after != before {
		w.T.Errorf("the release went from %s to %s", before, after)
	}
}

// Every source of charts gives the same plan.
func TestControlPlaneSources(t *testing.T) {
	w := sharedCluster(t)
	http, err := w.ServeHTTPRepo(t.Context())
	w.Check(err)
	oci, err := w.ServeOCI(t.Context())
	w.Check(err)
	for name, source := range map[string]string{
		"folder of archives": clustertest.Parts.PackagedCharts(), "release folder": clustertest.Parts.ChartFolder(newer),
		"archive": clustertest.Parts.Chart("istiod", newer), "http": http, "oci": oci,
	} {
		o := w.Must(0, "control-plane", "--tag", newer, "--charts", source, "--dry-run", "--force")
		w.Want(o, "istiod-1.30.2 → 1.31.0")
		if o.Code != 0 {
			t.Errorf("%s: %s", name, o)
		}
	}
	for _, source := range []string{http, oci, clustertest.Parts.PackagedCharts()} {
		w.Want(w.Must(1, "control-plane", "--tag", "1.31.9", "--charts", source, "--yes"), "no version 1.31.9 of the chart istiod; nearest: "+newer+", "+older)
	}
}

// Each is one clear line, and changes nothing.
func TestControlPlaneBadInput(t *testing.T) {
	w := sharedCluster(t)
	charts := []string{"--charts", clustertest.Parts.PackagedCharts(), "--yes"}
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
		{1, "holds the chart gateway, not istiod", []string{"--tag", newer, "--charts", clustertest.Parts.Chart("gateway", newer)}},
		{1, "there is no = in it", []string{"--tag", newer, "--set", "nonsense"}},
		{1, "absent.yaml", []string{"--tag", newer, "--values", "absent.yaml"}},
		{1, `revision or tag "absent"`, []string{"--tag", newer, "--revision", "absent"}},
		{1, "no control plane in namespace default", []string{"--tag", newer, "-i", "default"}},
		{2, "--component is", []string{"--tag", newer, "--component", "pilot"}},
		{1, "refuses the values", []string{"--tag", newer, "--set", "profile=absent"}},
	} {
		o := w.Must(c.code, append(append([]string{"control-plane"}, charts...), c.args...)...)
		w.Want(o, c.want)
	}
	if got := w.wrote(began); len(got) > 0 {
		t.Errorf("bad input wrote: %v", got)
	}
}
