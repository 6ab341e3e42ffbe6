// Package preflight judges whether an upgrade is safe to begin, as a list of
// checks. It reads nothing itself: its facts are what the steps' own plans and
// the mesh's reader found.
package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// Level says how bad a check's finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Failure Level = "failure"
)

// Check is one finding: what was looked at, how it is, and where it is not well
// the cause and the cure, one line each.
type Check struct {
	Category string `json:"category"`
	Name     string `json:"name"`
	Level    Level  `json:"level"`
	Cause    string `json:"cause,omitempty"`
	Cure     string `json:"cure,omitempty"`
}

// Step is what planning a step found: its refusals and warnings, or why it could
// not be planned.
type Step struct {
	Name     string
	Refusals []gate.Refusal
	Warnings []string
	Err      error
}

// Facts are what the checks judge.
type Facts struct {
	Mesh     *mesh.Mesh
	Steps    []Step // those that could be planned without a target are left out
	Sidecars *sidecars.Plan
	// Denied are the permissions that the user lacks, by command.
	Denied map[string][]cluster.Permission
	// Istioctl says whether the program was found; nil where it is not needed.
	Istioctl error
}

// Judge gives the checks in the order in which they are shown.
func Judge(f Facts) []Check {
	return slices.Concat(rights(f), installed(f.Mesh), availability(f.Mesh), definitions(f.Mesh),
		steps(f.Steps), injectors(f.Mesh, f.Sidecars), workloads(f.Sidecars), manual(f))
}

// Failed says whether any check is a failure.
func Failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Level == Failure })
}

func rights(f Facts) []Check {
	var checks []Check
	commands := []string{}
	for command := range f.Denied {
		commands = append(commands, command)
	}
	slices.Sort(commands)
	for _, command := range commands {
		check := Check{Category: "rights", Name: "what " + command + " needs", Level: OK}
		if denied := f.Denied[command]; len(denied) > 0 {
			var lacking []string
			for _, p := range denied {
				lacking = append(lacking, p.String())
			}
			check.Level, check.Cause = Warning, "you may not "+strings.Join(lacking, "; not ")
			check.Cure = "ask for a role with these rules, or leave that command to someone who has it"
		}
		checks = append(checks, check)
	}
	return checks
}

func installed(m *mesh.Mesh) []Check {
	if len(m.ControlPlanes) > 0 {
		var names []string
		for _, p := range m.ControlPlanes {
			names = append(names, fmt.Sprintf("%s %s", p.Revision, p.Tag))
		}
		return []Check{{Category: "control plane", Name: "installed: " + strings.Join(names, ", "), Level: OK}}
	}
	if len(m.Injectors) > 0 {
		return []Check{{Category: "control plane", Name: "a remote cluster: an injector and no control plane", Level: OK}}
	}
	return []Check{{
		Category: "control plane", Name: "installed", Level: Failure,
		Cause: "neither a control plane nor an injector was found", Cure: "look at --context and --istio-namespace",
	}}
}

// availability judges how many replicas each control plane has, now and at
// least, and who owns it.
func availability(m *mesh.Mesh) []Check {
	var checks []Check
	for i := range m.ControlPlanes {
		p := &m.ControlPlanes[i]
		where := "deployment/" + p.Deployment + " in " + p.Namespace
		ready := Check{Category: "control plane", Name: where + " is ready", Level: OK}
		if p.Ready < p.Replicas || p.Replicas == 0 {
			ready.Level, ready.Cause = Failure, fmt.Sprintf("%d of %d replicas are ready", p.Ready, p.Replicas)
			ready.Cure = "bring it up before anything else: kubectl -n " + p.Namespace + " describe deployment " + p.Deployment
		}
		available := Check{Category: "control plane", Name: where + " is highly available", Level: OK}
		switch {
		case p.Replicas < 2:
			available.Level, available.Cause = Warning, "one replica: while it is replaced no pod can be injected"
		case p.HPAMin == 1:
			available.Level, available.Cause = Warning, "its autoscaler may go down to one replica"
		}
		if available.Level != OK {
			available.Cure = "control-plane --ensure-ha gives it two by the chart's own values"
		}
		checks = append(checks, ready, available)
		if o := p.Owners; o.Istioctl && o.Helm != nil {
			checks = append(checks, Check{
				Category: "control plane", Name: where + " has one installer", Level: Warning,
				Cause: "it bears the marks of istioctl and of the Helm release " + o.Helm.Name,
				Cure:  "choose one; remove the labels of the other",
			})
		}
	}
	return checks
}

func definitions(m *mesh.Mesh) []Check {
	if slices.Contains(m.Unreadable, "customresourcedefinitions") {
		return []Check{{Category: "CRDs", Name: "readable", Level: Warning, Cause: "you may not list CustomResourceDefinitions", Cure: "whether they fit the target is unknown"}}
	}
	check := Check{Category: "CRDs", Name: fmt.Sprintf("%d definitions are established", len(m.CRDs)), Level: OK}
	for i := range m.CRDs {
		if !m.CRDs[i].Established {
			check.Level, check.Cause = Failure, m.CRDs[i].Name+" is not established"
			check.Cure = "kubectl describe crd " + m.CRDs[i].Name
		}
	}
	return []Check{check}
}

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
		}
		checks = append(checks, check)
	}
	return append(checks, ownNamespace(m)...)
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

func manual(f Facts) []Check {
	if f.Istioctl == nil {
		return nil
	}
	return []Check{{
		Category: "workloads", Name: "istioctl is there for what was injected by hand", Level: Failure,
		Cause: f.Istioctl.Error(), Cure: "install the istioctl of the target's version, or give --istioctl",
	}}
}

// some names the first few of many.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
