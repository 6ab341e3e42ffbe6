package preflight

import (
	"maps"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

func rights(f Facts) []Check {
	var checks []Check
	for _, command := range slices.Sorted(maps.Keys(f.Denied)) {
		check := Check{Category: "rights", Name: "what " + command + " needs", Level: OK}
		if denied := f.Denied[command]; len(denied) > 0 {
			var lacking []string
			for _, p := range denied {
				lacking = append(lacking, p.String())
			}
			check.Level, check.Cause = Warning, "you may not "+strings.Join(lacking, "; not ")
			check.Cure = "ask for a role with these rules (docs/rbac.md), or leave that command to someone who has it"
		}
		checks = append(checks, check)
	}
	for _, step := range f.Steps {
		check := Check{Category: "rights", Name: "what " + step.Name + " needs", Level: OK}
		for _, r := range step.Refusals {
			if r.Object == cluster.YourRights {
				check.Level, check.Cause, check.Cure = Warning, r.Reason, r.Cure
			}
		}
		if step.Err == nil {
			checks = append(checks, check)
		}
	}
	if len(f.Unread) > 0 {
		checks = append(checks, Check{
			Category: "rights", Name: "what check reads", Level: Warning,
			Cause: "you may not read " + strings.Join(f.Unread, ", "), Cure: "what these would show is not judged",
		})
	}
	return checks
}
