package preflight

import (
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// injectors judges the webhooks: whether they answer, and whether one stands in
// its own way.
func injectors(m *mesh.Mesh, p *sidecars.Plan) []Check {
	var checks []Check
	down := map[string]string{}
	if p != nil {
		for _, r := range p.Refusals {
			down[r.Object] = r.Reason
		}
	}
	seen := map[string]bool{}
	for i := range m.Injectors {
		in := &m.Injectors[i]
		if seen[in.Revision] || in.Deactivated {
			continue
		}
		seen[in.Revision] = true
		object := "the injector of revision " + in.Revision
		check := Check{Category: "injector", Name: object + " answers", Level: OK}
		if reason, bad := down[object]; bad {
			check.Level, check.Cause, check.Cure = Failure, reason, "bring istiod back"
		} else if in.CABundleEmpty {
			check.Level, check.Cause = Failure, "its webhook "+in.Configuration+" has no caBundle"
			check.Cure = "istiod fills it in when it runs: look at its log"
		} else if why := unasked(p, in.Revision); why != "" {
			check.Level, check.Cause, check.Cure = Warning, "it was not asked: "+why, "whether it answers is unknown until the first pod is created"
		}
		checks = append(checks, check)
	}
	return append(checks, ownNamespace(m)...)
}

func unasked(p *sidecars.Plan, revision string) string {
	if p == nil {
		return ""
	}
	return p.Unanswered[revision]
}

// ownNamespace warns of an injector that must answer before its own pods can be
// created: after an outage of all replicas none would come back.
func ownNamespace(m *mesh.Mesh) []Check {
	for i := range m.ControlPlanes {
		p := &m.ControlPlanes[i]
		pod := map[string]string{"app": "istiod", "istio": "pilot", "sidecar.istio.io/inject": "false"}
		for _, in := range mesh.Serving(m.Injectors, map[string]string{}, pod, p.Namespace) {
			if in.FailurePolicy == "Fail" {
				return []Check{{
					Category: "injector", Name: "does not guard its own namespace", Level: Warning,
					Cause: "webhook " + in.Configuration + " is asked for istiod's own pods and must not fail",
					Cure:  "leave namespace " + p.Namespace + " out of its namespaceSelector",
				}}
			}
		}
	}
	return nil
}
