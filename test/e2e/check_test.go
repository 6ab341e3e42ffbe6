package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// finding is a check as -o json gives it.
type finding struct{ Category, Name, Level, Cause, Cure string }

// findings runs check and gives what it found.
func (w *world) findings(code int, args ...string) []finding {
	w.T.Helper()
	o := w.Must(code, append([]string{"check", "-o", "json"}, args...)...)
	var doc struct{ Checks []finding }
	if err := json.Unmarshal([]byte(o.Stdout), &doc); err != nil || len(doc.Checks) == 0 {
		w.T.Fatalf("no checks (%v) in\n%s", err, o)
	}
	return doc.Checks
}

func find(t *testing.T, all []finding, text string) finding {
	t.Helper()
	for _, f := range all {
		if strings.Contains(f.Name+" "+f.Cause, text) {
			return f
		}
	}
	t.Fatalf("nothing is said of %q: %+v", text, all)
	return finding{}
}

// Check reads only: no request of it changes anything, with and without a
// target.
func TestCheckReadsOnly(t *testing.T) {
	w := sharedCluster(t)
	const ns = "check-reads"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String())
	w.AwaitReady(ns, 2)
	before, err := w.AuditEvents(t.Context(), "kubectl-istio-upgrade/")
	w.Check(err)

	w.Must(0, "check", "-n", ns)
	o := w.Must(0, "check", "-n", ns, "--tag", newer, "--charts", clustertest.Parts.PackagedCharts())

	after, err := w.AuditEvents(t.Context(), "kubectl-istio-upgrade/")
	w.Check(err)
	if len(after) == len(before) {
		t.Fatal("the audit log shows no request of check")
	}
	for _, e := range after[len(before):] {
		if e.Writes() {
			t.Errorf("check wrote: %s %s", e.Verb, e.RequestURI)
		}
	}
	// A registry that cannot be reached from here is no reason not to go.
	w.Want(o, "could not be asked from here", "✓ nothing refuses it", "Istio 1.")
}

// A workload that would lose its sidecar is a ×, with its name, the cause and
// what to do.
func TestCheckFailsWhereASidecarWouldBeLost(t *testing.T) {
	w := sharedCluster(t)
	const ns = "check-loses"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String())
	w.AwaitReady(ns, 2)
	if all := w.findings(0, "-n", ns); find(t, all, "with a proxy, or that should have one").Level != "ok" {
		t.Errorf("%+v", all)
	}
	w.RunKubectl("label", "namespace", ns, "istio-injection-")

	lost := find(t, w.findings(1, "-n", ns), "would lose the sidecar")

	if lost.Level != "failure" || !strings.Contains(lost.Cause, "deployment/web in "+ns) || lost.Cure == "" {
		t.Errorf("%+v", lost)
	}
}

// A budget without room, and a gateway of one replica, are said of the gateway
// that they concern.
func TestCheckJudgesGateways(t *testing.T) {
	w := sharedCluster(t)
	const ns = "check-gateways"
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "edge", Namespace: ns, Replicas: 1, PodNotes: "inject.istio.io/templates: gateway"}.String(),
		`apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: all-of-them, namespace: check-gateways}
spec: {minAvailable: 1, selector: {matchLabels: {app: edge}}}`,
	)
	w.AwaitReady(ns, 1)
	w.Eventually("the budget", func() string {
		if w.RunKubectl("-n", ns, "get", "pdb", "all-of-them", "-o", "jsonpath={.status.currentHealthy}") != "1" {
			return "it has not seen the pod"
		}
		return ""
	})

	all := w.findings(0, "-n", ns)

	if f := find(t, all, "deployment/edge in "+ns+" is highly available"); f.Level != "warning" || f.Category != "gateways" {
		t.Errorf("%+v", f)
	}
	if f := find(t, all, "poddisruptionbudget/all-of-them"); f.Level != "warning" || f.Cure == "" {
		t.Errorf("%+v", f)
	}
}

// Without a cluster there is one clear line.
func TestKubeconfigThatIsNotThere(t *testing.T) {
	w := sharedCluster(t)
	o := w.Must(1, "status", "--kubeconfig", "/nowhere/config")
	if strings.Count(o.Stderr, "\n") != 1 || !strings.Contains(o.Stderr, "/nowhere/config") || strings.Contains(o.Stderr, "does not answer") {
		t.Errorf("%s", o)
	}
	w.OtherKubeconfig = "/nowhere/else"
	o = w.Must(1, "status")
	if strings.Count(o.Stderr, "\n") != 1 || !strings.Contains(o.Stderr, "/nowhere/else") {
		t.Errorf("%s", o)
	}
}
