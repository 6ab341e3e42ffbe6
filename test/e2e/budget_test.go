package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// userAgent is what every request of the plugin bears.
const userAgent = "kubectl-istio-upgrade/"

// requests are those of one run of the plugin, from the API server's audit log.
type requests []lab.AuditEvent

// requestsOf runs the plugin and gives what it asked of the API server.
func (w *world) requestsOf(args ...string) requests {
	w.T.Helper()
	began := time.Now()
	w.Must(0, args...)
	events, err := w.AuditEvents(w.T.Context(), userAgent)
	w.Check(err)
	seen := map[string]bool{}
	return slices.DeleteFunc(events, func(e lab.AuditEvent) bool {
		// A watch is written down when it begins and again when it ends.
		once := e.RequestURI + " " + e.Received.String()
		again := e.Verb == "watch" && seen[once]
		seen[once] = true
		return again || e.Received.Before(began)
	})
}

// kind names a request by its verb and resource.
func kind(e *lab.AuditEvent) string {
	name := e.Verb + " " + e.Object.Resource
	if e.Object.Subresource != "" {
		name += "/" + e.Object.Subresource
	}
	if strings.Contains(e.RequestURI, "dryRun=All") {
		name += " (dry run)"
	}
	return name
}

// count gives how many requests there were of each kind. The lock's are left
// out: how often it is renewed is a matter of time.
func (r requests) count() map[string]int {
	counts := map[string]int{}
	for i := range r {
		if r[i].Object.Resource != "leases" {
			counts[kind(&r[i])]++
		}
	}
	return counts
}

func (r requests) String() string {
	counts := r.count()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%4d %s\n", counts[name], name)
	}
	return b.String()
}

// wantFrugal fails the test where anything was read twice, where a pod was asked
// for by its name, or where a list was not asked for in pages.
func (w *world) wantFrugal(r requests) {
	w.T.Helper()
	read := map[string]int{}
	for i := range r {
		e := &r[i]
		switch e.Verb {
		case "get", "list":
			read[e.RequestURI]++
		}
		if e.Object.Resource == "pods" && e.Object.Name != "" && !strings.Contains(e.RequestURI, "dryRun=All") {
			w.T.Errorf("a request for a single pod: %s %s", e.Verb, e.RequestURI)
		}
		if e.Verb == "list" && e.Object.Resource == "pods" && !strings.Contains(e.RequestURI, "limit=") {
			w.T.Errorf("pods are listed in one piece: %s", e.RequestURI)
		}
	}
	for uri, n := range read {
		if n > 1 && !strings.Contains(uri, "/leases") {
			w.T.Errorf("read %d times: %s", n, uri)
		}
	}
}

// What a plan reads grows neither with the pods nor, but for one question to
// admission each, with the workloads that move; those that are up to date share
// one question. A whole run sends three requests a workload besides: the
// question, the patch, the Event. Nothing polls.
func TestRequestBudget(t *testing.T) {
	w := sharedCluster(t)
	fleet := func(ns string, workloads, replicas int) {
		w.InjectedNamespace(ns)
		var all []string
		for i := range workloads {
			all = append(all, manifest{Kind: "Deployment", Name: fmt.Sprintf("web-%d", i), Namespace: ns, Replicas: replicas}.String())
		}
		w.Apply(all...)
		w.AwaitReady(ns, workloads*replicas)
	}
	const few, many = 3, 9
	fleet("budget-few", few, 1)
	fleet("budget-pods", few, 6)
	fleet("budget-many", many, 1)

	for _, args := range [][]string{{"sidecars", "--dry-run", "-o", "name"}, {"status"}} {
		r := w.requestsOf(append(args, "-n", "budget-many")...)
		w.wantFrugal(r)
		if n := r.count()["create pods (dry run)"]; n != 1 {
			t.Errorf("%v: %d questions for %d workloads that are alike and up to date, want 1", args, n, many)
		}
	}

	w.Inject(newer)
	// A budget for what is read whatever there is: the namespace, the pods, each
	// kind of workload, Services, quotas, webhooks, the injector's settings,
	// ProxyConfigs, and the user's rights.
	const fixed = 30
	plan := func(ns string, workloads int) requests {
		t.Helper()
		r := w.requestsOf("sidecars", "-n", ns, "--dry-run", "-o", "name")
		w.wantFrugal(r)
		counts := r.count()
		if n := counts["create pods (dry run)"]; n != workloads {
			t.Errorf("%s: %d questions for %d workloads that move, want one each:\n%s", ns, n, workloads, r)
		}
		if n := len(r) - counts["create pods (dry run)"]; n > fixed {
			t.Errorf("%s: %d requests besides the questions, want at most %d:\n%s", ns, n, fixed, r)
		}
		return r
	}
	fewer, pods, more := plan("budget-few", few), plan("budget-pods", few), plan("budget-many", many)
	if fewer.String() != pods.String() {
		t.Errorf("six times the pods:\n%s\ninstead of\n%s", pods, fewer)
	}
	if grown := len(more) - len(fewer); grown != many-few {
		t.Errorf("%d more workloads take %d more requests:\n%s\ninstead of\n%s", many-few, grown, more, fewer)
	}

	run := func(ns string, workloads int) int {
		t.Helper()
		r := w.requestsOf("sidecars", "-n", ns, "--yes")
		w.wantFrugal(r)
		counts := r.count()
		for request, want := range map[string]int{"create pods (dry run)": workloads, "patch deployments": workloads, "create events": workloads} {
			if counts[request] != want {
				t.Errorf("%s: %d × %s, want %d:\n%s", ns, counts[request], request, want, r)
			}
		}
		watches, total := 0, 0
		for request, n := range counts {
			total += n
			if strings.HasPrefix(request, "watch ") {
				watches += n
			}
		}
		// One for the Deployments, one for the pods, one for warnings.
		if watches > 3 {
			t.Errorf("%s: %d watches:\n%s", ns, watches, r)
		}
		return total
	}
	fewer6, more6 := run("budget-pods", few), run("budget-many", many)
	if grown := more6 - fewer6; grown != 3*(many-few) {
		t.Errorf("%d more workloads take %d more requests to move, want 3 each", many-few, grown)
	}
}
