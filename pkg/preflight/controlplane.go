package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

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
	hidden := slices.DeleteFunc(slices.Clone(m.Unreadable), func(what string) bool { return what == "customresourcedefinitions" })
	if len(hidden) > 0 {
		return []Check{{
			Category: "control plane", Name: "installed", Level: Warning,
			Cause: "you may not read: " + strings.Join(hidden, ", "), Cure: "whether there is one is unknown; docs/rbac.md has the rights",
		}}
	}
	return []Check{{
		Category: "control plane", Name: "installed", Level: Failure,
		Cause: "neither a control plane nor an injector was found", Cure: "look at --context and --istio-namespace",
	}}
}

// installers warns of control planes that more than one installer, or a GitOps
// tool, lays claim to.
func installers(m *mesh.Mesh) []Check {
	var checks []Check
	for i := range m.ControlPlanes {
		p := &m.ControlPlanes[i]
		where := "deployment/" + p.Deployment + " in " + p.Namespace
		switch o := p.Owners; {
		case o.Istioctl && o.Helm != nil:
			checks = append(checks, Check{
				Category: "control plane", Name: where + " has one installer", Level: Warning,
				Cause: "it bears the marks of istioctl and of the Helm release " + o.Helm.Name,
				Cure:  "choose one; remove the labels of the other",
			})
		case o.GitOps() != "":
			checks = append(checks, Check{
				Category: "control plane", Name: where + " is upgraded by its owner", Level: Warning,
				Cause: o.GitOps() + " would undo a change from here", Cure: "change the version there, then run sidecars",
			})
		case o.Count() == 0:
			checks = append(checks, Check{
				Category: "control plane", Name: where + " has an installer", Level: Warning,
				Cause: "it bears the marks of none", Cure: "upgrade it as it was installed, then run sidecars",
			})
		}
	}
	return checks
}

// readiness judges whether the control planes are ready.
func readiness(m *mesh.Mesh) []Check {
	var checks []Check
	for i := range m.ControlPlanes {
		p := &m.ControlPlanes[i]
		object := "deployment/" + p.Deployment + " in " + p.Namespace
		ready := Check{Category: "control plane", Name: object + " is ready", Level: OK, Object: object}
		switch {
		case p.Replicas == 0:
			ready.Level, ready.Cause = Failure, "it is scaled to zero: no pod can be injected"
			ready.Cure = "kubectl -n " + p.Namespace + " scale deployment " + p.Deployment + " --replicas=1 brings it back"
		case p.Ready < p.Replicas:
			ready.Level, ready.Cause = Failure, fmt.Sprintf("%d of %d replicas are ready", p.Ready, p.Replicas)
			ready.Cure = "bring it up before anything else: kubectl -n " + p.Namespace + " describe deployment " + p.Deployment
		}
		checks = append(checks, ready)
	}
	return checks
}

// availability judges for each Deployment that the mesh stands or falls with
// whether it is ready, how many replicas it has, now and at least, and whether
// its nodes can be drained.
func availability(f Facts) []Check {
	checks := readiness(f.Mesh)
	servers := f.Servers
	for i := range f.Mesh.ControlPlanes {
		p := &f.Mesh.ControlPlanes[i]
		if !hasServer(servers, p.Namespace, p.Deployment) {
			servers = append(servers, Server{Namespace: p.Namespace, Name: p.Deployment, Role: Injecting, Replicas: p.Replicas, Ready: p.Ready, HPAMin: p.HPAMin})
		}
	}
	for i := range servers {
		checks = append(checks, servers[i].judge()...)
	}
	return checks
}

func hasServer(servers []Server, namespace, name string) bool {
	for i := range servers {
		if servers[i].Namespace == namespace && servers[i].Name == name {
			return true
		}
	}
	return false
}
