package plugin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// realisticPlan has workloads of every impact, in two namespaces.
func realisticPlan() *sidecars.Plan {
	from := []sidecars.ProxyCount{{ProxyForm: sidecars.ProxyForm{Version: "1.30.2"}, Pods: 2}}
	to := &sidecars.ProxyForm{Version: "1.31.0"}
	plan := &sidecars.Plan{Scope: "all namespaces"}
	for i := range 12 {
		item := sidecars.Item{
			Ref:     workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "payments", Name: fmt.Sprintf("reconciliation-worker-%d", i)},
			Verdict: sidecars.Stale, Lags: true, Proxies: from, To: to, How: sidecars.Restart, Impact: sidecars.NoImpact, Pods: 2, Ready: 2,
		}
		switch {
		case i == 5:
			item.Impact, item.ImpactReason = sidecars.Outage, "one replica and no surge"
		case i%4 == 1:
			item.Impact, item.ImpactReason = sidecars.AtRisk, "it has no readiness probe, so that a new pod counts as ready before it is; its grace period of 5s is shorter than the proxy's drain of 45s"
		}
		plan.Items = append(plan.Items, item)
	}
	return plan
}

// The worst stands first, and rows fit a terminal of 80 columns however long the
// reasons are.
func TestPlanFitsATerminal(t *testing.T) {
	var b strings.Builder
	if err := sidecarsTable(realisticPlan())(&b, false); err != nil {
		t.Fatal(err)
	}
	order := []string{"Impact of moving: 1 outage, 2 at risk, 9 none", "Moves, 1.30.2 → 1.31.0:", "outage: one replica", "at risk: it has no readiness probe", "no impact: a pod is ready at every moment (9)"}
	rest := b.String()
	for _, want := range order {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q after what stands before it in\n%s", want, &b)
		}
		rest = after
	}
	rows := 0
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, "deployment/") {
			rows++
			if w := ansi.StringWidth(strings.TrimSpace(line)); w > 78 {
				t.Errorf("%d columns: %s", w, line)
			}
		}
	}
	if rows != 12 {
		t.Errorf("%d rows of 12:\n%s", rows, &b)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("colours where no terminal is")
	}
}

// What is marked is the impact, the last of the words that are alike.
func TestMarked(t *testing.T) {
	got := marked("shop  none  restart  none\nshop  web   restart  outage: one replica\nshop  db\n",
		[]mark{{"none", live.Good}, {"outage: one replica", live.Bad}})
	want := "shop  none  restart  \x1b[32mnone\x1b[m\nshop  web   restart  \x1b[31moutage: one replica\x1b[m\nshop  db\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What becomes of a file's objects stands above in numbers, and why by each.
func TestFilesPlanIsSummedUp(t *testing.T) {
	object := func(name string, action sidecars.FileAction, impact sidecars.Impact, reason, held string) sidecars.FileObject {
		return sidecars.FileObject{Ref: workload.Ref{Kind: "Deployment", Namespace: "shop", Name: name}, Action: action, Impact: impact, Reason: reason, Held: held}
	}
	plan := &sidecars.FilesPlan{Objects: []sidecars.FileObject{
		object("a", sidecars.Changed, sidecars.NoImpact, "", ""),
		object("b", sidecars.Changed, sidecars.AtRisk, "the quota has no room", ""),
		object("c", sidecars.Unchanged, "", "", ""),
		object("d", sidecars.Changed, sidecars.Outage, "one replica", "it would be an outage"),
	}}
	var b strings.Builder
	if err := filesTable(plan)(&b, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"4 objects: 2 changed, 1 unchanged, 1 held, 1 at risk\n", "no impact: a pod is ready at every moment (1)\n",
		"at risk: the quota has no room (1)\n", "unchanged (1)\n", "held: it would be an outage (1)\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestReleasesFitATerminal(t *testing.T) {
	plan := &controlplane.Plan{Target: "1.31.0", Releases: []controlplane.ReleasePlan{
		{Name: "istiod", Namespace: "istio-system", Component: helm.Istiod, Action: controlplane.Upgrade, ChartFrom: "istiod-1.30.2", ChartTo: "istiod-1.31.0", TagFrom: "1.30.2", TagTo: "1.31.0"},
		{Name: "istio-ingress", Namespace: "istio-ingress", Component: helm.Gateway, Action: controlplane.None, Reason: "its chart, values and manifest are the same", ChartFrom: "gateway-1.31.0", ChartTo: "gateway-1.31.0"},
	}}
	var b strings.Builder
	if err := controlPlaneTable(plan)(&b, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if w := ansi.StringWidth(strings.TrimRight(line, " \n")); w > 80 && !strings.HasPrefix(line, "Plan for") {
			t.Errorf("%d columns: %s", w, line)
		}
	}
	for _, want := range []string{"istiod-1.30.2 → 1.31.0", "1.30.2 → 1.31.0", "  istio-ingress: its chart, values and manifest are the same"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}
