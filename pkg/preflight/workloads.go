package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// workloads sums the plan of the workloads up: what stands in the way, and what
// would be disturbed.
func workloads(p *sidecars.Plan) []Check {
	if p == nil {
		return nil
	}
	byVerdict, byImpact := map[sidecars.Verdict][]string{}, map[sidecars.Impact][]string{}
	for i := range p.Items {
		item := &p.Items[i]
		byVerdict[item.Verdict] = append(byVerdict[item.Verdict], item.In())
		if item.Impact != "" {
			byImpact[item.Impact] = append(byImpact[item.Impact], item.In())
		}
	}
	checks := []Check{{Category: "workloads", Name: fmt.Sprintf("%d with a proxy, or that should have one", len(p.Items)), Level: OK}}
	add := func(names []string, level Level, name, cure string) {
		if len(names) > 0 {
			checks = append(checks, Check{Category: "workloads", Name: fmt.Sprintf("%d %s", len(names), name), Level: level, Cause: some(names), Cure: cure})
		}
	}
	add(byVerdict[sidecars.Loses], Failure, "would lose the sidecar when re-created", "status -o wide says why for each; mend the label or the namespace")
	add(byVerdict[sidecars.Frozen], Warning, "keep an old sidecar in their template", "uninject them, and let the webhook inject")
	add(byVerdict[sidecars.Missing], Warning, "should have a sidecar and have none", "sidecars restarts them")
	add(byVerdict[sidecars.Pinned], Warning, "fix their proxy's image themselves", "they are not moved")
	add(byImpact[sidecars.Refused], Warning, "could not create their new pods", "status -o wide says what refuses them")
	add(byImpact[sidecars.Outage], Warning, "would be down for a moment", "they are left out without --allow-downtime")
	add(byImpact[sidecars.AtRisk], Warning, "are at risk", "the plan of sidecars says why for each")
	return checks
}

// Istioctl is the binary that injects by hand.
type Istioctl struct {
	// Version is what it says of itself; Err why it cannot be used.
	Version string
	Err     error
}

// manual judges the istioctl for workloads that were injected by hand: there,
// and of the minor version that it is to inject.
func manual(f Facts) []Check {
	if f.Istioctl == nil {
		return nil
	}
	check := Check{
		Category: "workloads", Name: "istioctl is there for what was injected by hand", Level: OK,
		Cure: "install the istioctl of the version that is to be injected, or give --istioctl",
	}
	want := mesh.BaseTag(f.Tag)
	if want == "" && len(f.Mesh.ControlPlanes) > 0 {
		want = mesh.BaseTag(f.Mesh.ControlPlanes[0].Tag)
	}
	same, known := inject.SameMinor(f.Istioctl.Version, want)
	switch {
	case f.Istioctl.Err != nil:
		check.Level, check.Cause = injectingFails(f.Sidecars), f.Istioctl.Err.Error()
	case known && !same:
		check.Level, check.Cause = injectingFails(f.Sidecars), fmt.Sprintf("it is %s, and %s is to be injected", f.Istioctl.Version, want)
	case !known:
		check.Level, check.Cause = Warning, fmt.Sprintf("whether its version (%s) is that of %s is not known", cmp.Or(f.Istioctl.Version, "none"), cmp.Or(want, "the control plane"))
	default:
		check.Cure = ""
	}
	return []Check{check}
}

// injectingFails is how bad it is that istioctl cannot be used: no failure while
// nothing is to be injected by hand.
func injectingFails(p *sidecars.Plan) Level {
	if p != nil && slices.ContainsFunc(p.Items, func(i sidecars.Item) bool { return i.Verdict == sidecars.ByHand && i.Lags }) {
		return Failure
	}
	return Warning
}

// some names the first few of many.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
