package preflight

import "github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"

// steps gives what the plans of the steps found, each refusal a failure.
func steps(all []Step) []Check {
	var checks []Check
	for _, s := range all {
		if s.Err != nil {
			checks = append(checks, Check{Category: s.Name, Name: "can be planned", Level: Failure, Cause: s.Err.Error(), Cure: "see the message"})
			continue
		}
		if len(s.Refusals) == 0 {
			checks = append(checks, Check{Category: s.Name, Name: "nothing refuses it", Level: OK})
		}
		for _, r := range s.Refusals {
			if r.Object == cluster.YourRights {
				continue // said of all commands at once
			}
			name := r.Object
			if name == "" {
				name = "refused"
			}
			checks = append(checks, Check{Category: s.Name, Name: name, Level: Failure, Cause: r.Reason, Cure: r.Cure})
		}
		for _, w := range s.Warnings {
			checks = append(checks, Check{Category: s.Name, Name: "warning", Level: Warning, Cause: w})
		}
	}
	return checks
}
