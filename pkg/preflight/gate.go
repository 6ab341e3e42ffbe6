package preflight

import (
	"cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// concerns tells which checks keep a step from being applied, besides what its own
// plan refuses. The plan of crds refuses by itself all that concerns it, and that
// of sidecars asks the injector, which answers for istiod.
var concerns = map[string]func(Facts) [][]Check{
	"control-plane": func(f Facts) [][]Check {
		return [][]Check{readiness(f.Mesh), definitions(f.Mesh), images(f.Images)}
	},
}

// Refusals gives what keeps a step from being applied: the failures among the
// checks that concern it. A user may know better: --force overrides them.
func Refusals(step string, f Facts) []gate.Refusal {
	var refusals []gate.Refusal
	if checks, ok := concerns[step]; ok {
		for _, some := range checks(f) {
			for _, c := range some {
				if c.Level == Failure {
					refusals = append(refusals, gate.Refusal{Object: cmp.Or(c.Object, c.Name), Reason: c.Cause, Cure: c.Cure, Forceable: true})
				}
			}
		}
	}
	return refusals
}
