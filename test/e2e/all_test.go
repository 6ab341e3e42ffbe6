package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const customResources = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: many}
spec: {hosts: [web], http: [{route: [{destination: {host: web-0}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: many}
spec: {host: web-0}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: many}
spec: {mtls: {mode: PERMISSIVE}}`

// The whole upgrade: 40 Deployments, CRDs, control plane; nothing of the user's
// is lost, and a second run writes nothing at all.
func TestAllUpgradesTheMesh(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	ns := "many"
	w.injected(ns)
	for i := range 40 {
		w.apply(manifest{kind: "Deployment", name: fmt.Sprintf("web-%d", i), namespace: ns, replicas: 2}.String())
	}
	w.apply(customResources)
	w.ready(ns, 80)
	w.check(w.Helm(t.Context(), "upgrade", "istiod", parts.Chart("istiod", older), "-n", lab.IstioNamespace, "--reuse-values", "--set", "pilot.traceSampling=7"))
	w.check(w.AwaitInjection(t.Context(), "", older))
	crds, objects := w.uids("crd"), w.uids("virtualservices,destinationrules,peerauthentications", "-A")
	services := make([]string, 0, 40)
	for i := range 40 {
		services = append(services, fmt.Sprintf("web-%d", i))
	}
	endpoints := w.watchEndpoints(ns, services...)
	args := []string{"all", "--tag", newer, "-A", "--yes", "--charts", parts.PackagedCharts(), "--max-parallel", "20"}

	o := w.must(0, args...)

	endpoints.never(w, 1)
	w.wantProxies(ns, "", map[string]int{newer: 80})
	if now := w.uids("virtualservices,destinationrules,peerauthentications", "-A"); now != objects {
		t.Errorf("custom resources changed:\nbefore %s\nafter  %s", objects, now)
	}
	for line := range strings.Lines(crds) {
		if !strings.Contains(w.uids("crd"), line) {
			t.Errorf("a CRD was made anew: %s", line)
		}
	}
	if version := w.kubectl("get", "crd", "virtualservices.networking.istio.io", "-o", `jsonpath={.metadata.labels.app\.kubernetes\.io/version}`); version != newer {
		t.Errorf("the CRDs are of %s\n%s", version, o)
	}
	values := w.releaseValues("istiod")
	if got := fmt.Sprint(values["pilot"]); !strings.Contains(got, "traceSampling:7") {
		t.Errorf("the user's values are gone: %v", values)
	}

	before := w.writes()
	o = w.must(0, args...)
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}

	// What is there now is told by status, and rollback refuses while proxies
	// are newer than where it would go.
	if o := w.must(0, "status"); !strings.Contains(o.Stdout, newer) || strings.Contains(o.Stdout, "stale") {
		t.Errorf("status: %s", o)
	}
	if o := w.must(3, "rollback", "--yes"); !strings.Contains(o.Stderr, "--proxies-first") {
		t.Errorf("rollback: %s", o)
	}
	w.must(0, "rollback", "--yes", "--proxies-first")
	w.wantProxies(ns, "", map[string]int{older: 80})
}

// uids gives name and UID of objects, a line each.
func (w *world) uids(args ...string) string {
	w.t.Helper()
	return w.kubectl(append([]string{"get", "-o", `jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{"\n"}{end}`}, args...)...)
}

// releaseValues gives a Helm release's user-supplied values, from its newest
// record, as Helm stores it.
func (w *world) releaseValues(release string) map[string]any {
	w.t.Helper()
	list, err := w.Client().CoreV1().Secrets(lab.IstioNamespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,status=deployed,name=" + release})
	w.check(err)
	if len(list.Items) != 1 {
		w.t.Fatalf("%d deployed records of %s", len(list.Items), release)
	}
	raw, err := gunzip(list.Items[0].Data["release"])
	w.check(err)
	var stored struct {
		Config map[string]any `json:"config"`
	}
	w.check(json.Unmarshal(raw, &stored))
	return stored.Config
}

// The same charts from a folder, an archive, an HTTP repository and an OCI
// registry make the same plan.
func TestAllReadsEveryChartSource(t *testing.T) {
	w := sharedCluster(t)
	w.injected("sources")
	http, err := w.ServeHTTPRepo(t.Context())
	w.check(err)
	oci, err := w.ServeOCI(t.Context())
	w.check(err)
	for name, source := range map[string]string{
		"folder of a release": parts.ChartFolder(newer),
		"folder of archives":  parts.PackagedCharts(),
		"HTTP repository":     http,
		"OCI registry":        oci,
	} {
		o := w.must(0, "all", "--tag", newer, "-A", "--dry-run", "--charts", source, "-o", "json")
		if !strings.Contains(o.Stdout, `"step": "control-plane"`) || !strings.Contains(o.Stdout, newer) {
			t.Errorf("%s: %s", name, o)
		}
	}
	archive := filepath.Join(parts.PackagedCharts(), "istiod-"+newer+".tgz")
	o := w.run("control-plane", "--tag", newer, "--dry-run", "--charts", archive)
	if o.Code != 3 || !strings.Contains(o.Stderr, "crds") {
		t.Errorf("a .tgz of istiod while the CRDs are behind: want a refusal that names crds: %s", o)
	}
	for name, c := range map[string]struct{ tag, charts, says string }{
		"tag that is no version":    {"banana", parts.PackagedCharts(), "banana"},
		"tag that is not there":     {"1.31.99", http, newer},
		"source that is not there":  {newer, "/nowhere/charts", "/nowhere/charts"},
		"repository that is closed": {newer, "http://127.0.0.1:1/charts", "127.0.0.1:1"},
		"folder of something else":  {newer, t.TempDir(), "chart"},
	} {
		o := w.run("all", "--tag", c.tag, "-A", "--yes", "--charts", c.charts)
		if o.Code != 1 && o.Code != 2 || !strings.Contains(o.Stderr, c.says) {
			t.Errorf("%s: want exit code 1 or 2 and %q: %s", name, c.says, o)
		}
	}
}

// Without Istio status says so and is content; the others are not.
func TestWithoutIstio(t *testing.T) {
	c, err := lab.Start(t.Context(), lab.Options{Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &world{Cluster: c, t: t}
	if o := w.must(0, "status"); strings.Count(o.Stdout, "\n") != 1 || !strings.Contains(o.Stdout, "not installed") {
		t.Errorf("status: %s", o)
	}
	for _, args := range [][]string{
		{"sidecars", "-n", "default", "--yes"},
		{"control-plane", "--tag", newer, "--yes", "--charts", parts.PackagedCharts()},
		{"all", "--tag", newer, "-A", "--yes", "--charts", parts.PackagedCharts()},
	} {
		o := w.run(args...)
		if o.Code == 0 || strings.Count(o.Stderr, "\n") != 1 {
			t.Errorf("%s: want one line and a failure: %s", args[0], o)
		}
	}
}

// Two revisions in one cluster are told apart: each workload is compared with
// what its own injector gives.
func TestRevisionsAreToldApart(t *testing.T) {
	w := sharedCluster(t)
	w.check(w.InstallIstio(t.Context(), newer, lab.IstioOptions{Revision: "canary"}))
	w.injected("plainrev")
	w.namespace("canaryrev", map[string]string{"istio.io/rev": "canary"})
	for _, ns := range []string{"plainrev", "canaryrev"} {
		w.apply(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 1}.String())
		w.ready(ns, 1)
	}
	w.wantProxies("plainrev", "web", map[string]int{older: 1})
	w.wantProxies("canaryrev", "web", map[string]int{newer: 1})
	for ns, revision := range map[string]string{"plainrev": "default", "canaryrev": "canary"} {
		item := w.must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json").json(t).find(t, "Deployment", "web")
		if item.Verdict != "fresh" || item.Revision != revision {
			t.Errorf("%s: %+v", ns, item)
		}
	}
	// A label that no injector serves: a new pod would have no sidecar.
	w.kubectl("label", "namespace", "canaryrev", "istio.io/rev=gone", "--overwrite")
	item := w.must(0, "sidecars", "-n", "canaryrev", "--dry-run", "-o", "json").json(t).find(t, "Deployment", "web")
	if item.Verdict != "loses" || !strings.Contains(item.Reason, "gone") {
		t.Errorf("after its revision was taken away: %+v", item)
	}
	if o := w.must(0, "status"); !strings.Contains(o.Stdout, "canary") {
		t.Errorf("status does not show the revision: %s", o)
	}
}
