package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
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
	w.InjectedNamespace(ns)
	services := w.webs(ns, 40)
	w.Apply(customResources)
	w.Check(w.Helm(t.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", older), "-n", lab.IstioNamespace, "--reuse-values", "--set", "pilot.traceSampling=7"))
	w.Check(w.AwaitInjection(t.Context(), "", older))
	crds, objects := w.uids("crd"), w.uids("virtualservices,destinationrules,peerauthentications", "-A")
	endpoints := w.WatchEndpoints(ns, services...)
	args := []string{"all", "--tag", newer, "-A", "--yes", "--charts", clustertest.Parts.PackagedCharts(), "--max-parallel", "20"}

	o := w.Must(0, append(args, "--dry-run=server")...)
	w.Want(o, "would be accepted", "Plan for control-plane", "Plan for sidecars")

	o = w.Must(0, append(args, "-o", "json")...)

	endpoints.Never(w.World, 1)
	w.WantProxies(ns, "", map[string]int{newer: 80})
	if now := w.uids("virtualservices,destinationrules,peerauthentications", "-A"); now != objects {
		t.Errorf("custom resources changed:\nbefore %s\nafter  %s", objects, now)
	}
	for line := range strings.Lines(crds) {
		if !strings.Contains(w.uids("crd"), line) {
			t.Errorf("a CRD was made anew: %s", line)
		}
	}
	if version := w.RunKubectl("get", "crd", "virtualservices.networking.istio.io", "-o", `jsonpath={.metadata.labels.app\.kubernetes\.io/version}`); version != newer {
		t.Errorf("the CRDs are of %s\n%s", version, o)
	}
	values := w.releaseValues("istiod")
	if got := fmt.Sprint(values["pilot"]); !strings.Contains(got, "traceSampling:7") {
		t.Errorf("the user's values are gone: %v", values)
	}

	before := w.Writes()
	o = w.Must(0, args...)
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}

	// What is there now is told by status, and rollback refuses while proxies
	// are newer than where it would go.
	if o := w.Must(0, "status"); !strings.Contains(o.Stdout, newer) || strings.Contains(o.Stdout, "stale") {
		t.Errorf("status: %s", o)
	}
	if o := w.Must(3, "rollback", "--yes", "-o", "json"); !strings.Contains(o.Stderr, "--proxies-first") {
		t.Errorf("rollback: %s", o)
	}
	// However short the history is kept: the revision in between takes the place of
	// none that is gone back to.
	back := w.Command(t.Context(), "rollback", "--yes", "--proxies-first", "-o", "json")
	back.Env = append(back.Env, "HELM_MAX_HISTORY=2")
	if out, err := back.CombinedOutput(); err != nil {
		t.Fatalf("rollback: %v\n%s", err, out)
	}
	w.WantProxies(ns, "", map[string]int{older: 80})
}

// The charts come as a folder, from an HTTP repository, an OCI registry or as
// archives, and the upgrade is the same.
func TestAllFromEverySource(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	ns := "many"
	w.InjectedNamespace(ns)
	w.webs(ns, 3)
	http, err := w.ServeHTTPRepo(t.Context())
	w.Check(err)
	oci, err := w.ServeOCI(t.Context())
	w.Check(err)
	archive := func(chart string) string { return clustertest.Parts.Chart(chart, newer) }
	for _, source := range []struct {
		name  string
		steps [][]string
	}{
		{"folder of a release", [][]string{{"all", "--tag", newer, "-A", "--charts", clustertest.Parts.ChartFolder(newer)}}},
		{"HTTP repository", [][]string{{"all", "--tag", newer, "-A", "--charts", http}}},
		{"OCI registry", [][]string{{"all", "--tag", newer, "-A", "--charts", oci}}},
		{"one archive a step", [][]string{
			{"crds", "--tag", newer, "--charts", archive("base")},
			{"control-plane", "--tag", newer, "--charts", archive("istiod")},
			{"sidecars", "-A"},
		}},
	} {
		for _, step := range source.steps {
			w.Must(0, append(step, "--yes")...)
		}
		w.WantProxies(ns, "", map[string]int{newer: 6})
		if got := w.RunKubectl("get", "crd", "virtualservices.networking.istio.io", "-o", `jsonpath={.metadata.labels.app\.kubernetes\.io/version}`); got != newer {
			t.Errorf("%s: the CRDs are of %s", source.name, got)
		}
		w.Must(0, "rollback", "--yes", "--proxies-first")
		w.WantProxies(ns, "", map[string]int{older: 6})
		w.Check(w.Helm(t.Context(), "upgrade", "istio-base", clustertest.Parts.Chart("base", older), "-n", lab.IstioNamespace, "--reuse-values"))
	}
}

// webs makes so many Deployments of two replicas, waits until they are ready, and
// gives their names, which are those of their Services too.
func (w *world) webs(namespace string, n int) []string {
	w.T.Helper()
	names, manifests := make([]string, n), make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("web-%d", i)
		manifests[i] = manifest{Kind: "Deployment", Name: names[i], Namespace: namespace, Replicas: 2}.String()
	}
	w.Apply(manifests...)
	w.AwaitReady(namespace, 2*n)
	return names
}

// uids gives name and UID of objects, a line each.
func (w *world) uids(args ...string) string {
	w.T.Helper()
	return w.RunKubectl(append([]string{"get", "-o", `jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{"\n"}{end}`}, args...)...)
}

// releaseValues gives a Helm release's user-supplied values, from its newest
// record, as Helm stores it.
func (w *world) releaseValues(release string) map[string]any {
	w.T.Helper()
	list, err := w.Client().CoreV1().Secrets(lab.IstioNamespace).List(w.T.Context(), metav1.ListOptions{LabelSelector: "owner=helm,status=deployed,name=" + release})
	w.Check(err)
	if len(list.Items) != 1 {
		w.T.Fatalf("%d deployed records of %s", len(list.Items), release)
	}
	raw, err := clustertest.Gunzip(list.Items[0].Data["release"])
	w.Check(err)
	var stored struct {
		Config map[string]any `json:"config"`
	}
	w.Check(json.Unmarshal(raw, &stored))
	return stored.Config
}

// The same charts from a folder, an archive, an HTTP repository and an OCI
// registry make the same plan.
func TestAllReadsEveryChartSource(t *testing.T) {
	w := sharedCluster(t)
	w.InjectedNamespace("sources")
	http, err := w.ServeHTTPRepo(t.Context())
	w.Check(err)
	oci, err := w.ServeOCI(t.Context())
	w.Check(err)
	for name, source := range map[string]string{
		"folder of a release": clustertest.Parts.ChartFolder(newer),
		"folder of archives":  clustertest.Parts.PackagedCharts(),
		"HTTP repository":     http,
		"OCI registry":        oci,
	} {
		o := w.Must(0, "all", "--tag", newer, "-A", "--dry-run", "--charts", source, "-o", "json")
		if !strings.Contains(o.Stdout, `"step": "control-plane"`) || !strings.Contains(o.Stdout, newer) {
			t.Errorf("%s: %s", name, o)
		}
	}
	archive := filepath.Join(clustertest.Parts.PackagedCharts(), "istiod-"+newer+".tgz")
	o := w.Run("control-plane", "--tag", newer, "--dry-run", "--charts", archive)
	if o.Code != 3 || !strings.Contains(o.Stderr, "crds") {
		t.Errorf("a .tgz of istiod while the CRDs are behind: want a refusal that names crds: %s", o)
	}
	for name, c := range map[string]struct{ tag, charts, says string }{
		"tag that is no version":    {"banana", clustertest.Parts.PackagedCharts(), "banana"},
		"tag that is not there":     {"1.31.99", http, newer},
		"source that is not there":  {newer, "/nowhere/charts", "/nowhere/charts"},
		"repository that is closed": {newer, "http://127.0.0.1:1/charts", "127.0.0.1:1"},
		"folder of something else":  {newer, t.TempDir(), "chart"},
	} {
		o := w.Run("all", "--tag", c.tag, "-A", "--yes", "--charts", c.charts)
		if o.Code != 1 && o.Code != 2 || !strings.Contains(o.Stderr, c.says) {
			t.Errorf("%s: want exit code 1 or 2 and %q: %s", name, c.says, o)
		}
	}
}

// What cannot be planned or is refused is known before anything starts, whichever
// step it is of, and the plans that could be made are shown.
func TestAllRefusesBeforeItStarts(t *testing.T) {
	w := sharedCluster(t)
	before := w.Writes()
	charts := []string{"--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--no-backup"}
	o := w.Must(1, append([]string{"all", "-n", "nosuch", "--yes"}, charts...)...)
	if !strings.Contains(o.Stderr, `namespaces "nosuch" not found`) || strings.Count(o.Stderr, "\n") != 1 {
		t.Errorf("a namespace that is not there: %s", o)
	}

	w.InjectedNamespace("refused")
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: "refused", Replicas: 1}.String())
	w.AwaitReady("refused", 1)
	refused := append([]string{"all", "-n", "refused", "--component", "ztunnel"}, charts...)
	for _, how := range []string{"--yes", "--dry-run"} {
		o := w.Must(3, append(refused, how)...)
		for _, want := range []string{"Plan for all:", "1 crds ", "2 control-plane ", "3 sidecars ", "(refused: 1 reason)", "Plan for crds:", "Plan for control-plane:", "Plan for sidecars:"} {
			if !strings.Contains(o.Stdout, want) {
				t.Errorf("%s: no %q: %s", how, want, o)
			}
		}
		if !strings.Contains(o.Stderr, "there is no Helm release of [ztunnel]") {
			t.Errorf("%s: the refusal is not told: %s", how, o)
		}
		var doc struct {
			Steps    []struct{ Step string }
			Refusals []struct{ Object string }
		}
		o = w.Must(3, append(refused, how, "-o", "json")...)
		w.Check(json.Unmarshal([]byte(o.Stdout), &doc))
		if len(doc.Steps) != 3 || len(doc.Refusals) != 1 || doc.Refusals[0].Object != "components" {
			t.Errorf("%s: %+v", how, doc)
		}
	}
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("something was written: %v", after[len(before):])
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
	w := newWorld(c, t)
	if o := w.Must(0, "status"); strings.Count(o.Stdout, "\n") != 1 || !strings.Contains(o.Stdout, "not installed") {
		t.Errorf("status: %s", o)
	}
	for _, args := range [][]string{
		{"sidecars", "-n", "default", "--yes"},
		{"control-plane", "--tag", newer, "--yes", "--charts", clustertest.Parts.PackagedCharts()},
		{"all", "--tag", newer, "-A", "--yes", "--charts", clustertest.Parts.PackagedCharts()},
	} {
		o := w.Run(args...)
		if o.Code == 0 || strings.Count(o.Stderr, "\n") != 1 {
			t.Errorf("%s: want one line and a failure: %s", args[0], o)
		}
	}
}

// Two revisions in one cluster are told apart: each workload is compared with
// what its own injector gives.
func TestRevisionsAreToldApart(t *testing.T) {
	w := sharedCluster(t)
	w.Check(w.InstallIstio(t.Context(), newer, lab.IstioOptions{Revision: "canary"}))
	w.InjectedNamespace("plainrev")
	w.MakeNamespace("canaryrev", map[string]string{"istio.io/rev": "canary"})
	for _, ns := range []string{"plainrev", "canaryrev"} {
		w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String())
		w.AwaitReady(ns, 1)
	}
	w.WantProxies("plainrev", "web", map[string]int{older: 1})
	w.WantProxies("canaryrev", "web", map[string]int{newer: 1})
	for ns, revision := range map[string]string{"plainrev": "default", "canaryrev": "canary"} {
		item := w.Must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json").JSON(t).Find(t, "Deployment", "web")
		if item.Verdict != "fresh" || item.Revision != revision {
			t.Errorf("%s: %+v", ns, item)
		}
	}
	// A label that no injector serves: a new pod would have no sidecar.
	w.RunKubectl("label", "namespace", "canaryrev", "istio.io/rev=gone", "--overwrite")
	item := w.Must(0, "sidecars", "-n", "canaryrev", "--dry-run", "-o", "json").JSON(t).Find(t, "Deployment", "web")
	if item.Verdict != "loses" || !strings.Contains(item.Reason, "gone") {
		t.Errorf("after its revision was taken away: %+v", item)
	}
	if o := w.Must(0, "status"); !strings.Contains(o.Stdout, "canary") {
		t.Errorf("status does not show the revision: %s", o)
	}
}
