package sidecars

import (
	"fmt"
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// refusals gives what must not be started at all: injectors that do not answer.
func refusals(subjects []*subject) []gate.Refusal {
	var out []gate.Refusal
	told := map[string]bool{}
	for _, s := range subjects {
		if s.Answer.Outcome != injectorDown || told[s.revision()] {
			continue
		}
		told[s.revision()] = true
		out = append(out, gate.Refusal{
			Object: "the injector of revision " + s.revision(), Forceable: false,
			Reason: "it does not answer, so new pods could not be created or would come up without a sidecar: " + s.Answer.Message,
			Cure:   "bring istiod back, then run this again",
		})
	}
	return out
}

// unanswered gives the revisions whose injectors have told nothing of any workload,
// and why.
func unanswered(injectors []mesh.Injector, subjects []*subject) map[string]string {
	out := map[string]string{}
	for i := range injectors {
		out[injectors[i].Revision] = "no workload that it serves was there to ask it for"
	}
	for _, s := range subjects {
		if len(s.Serving) > 0 {
			switch s.Answer.Outcome {
			case unsupported:
				out[s.Serving[0].Revision] = "it refuses dry runs"
			case notAllowed:
				out[s.Serving[0].Revision] = "you may not create pods, not even as a dry run"
			}
		}
	}
	for _, s := range subjects {
		if len(s.Serving) > 0 && s.Answer.Told {
			delete(out, s.Serving[0].Revision)
		}
	}
	return out
}

// warnings gives what a person should know before confirming.
func warnings(seen *observation, subjects []*subject) []string {
	var out []string
	unread := slices.Clone(seen.unread)
	slices.Sort(unread)
	for _, what := range slices.Compact(unread) {
		out = append(out, "not permitted to read "+what+": what depends on it is unknown")
	}
	unknown := 0
	for _, s := range subjects {
		if s.item.AdmissionUnknown {
			unknown++
		}
	}
	if unknown > 0 {
		out = append(out, fmt.Sprintf("whether the new pods would be admitted is unknown for %d workloads: no dry run could be made; start with --canary 1", unknown))
	}
	return out
}
