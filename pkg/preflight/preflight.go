// Package preflight judges whether an upgrade is safe to begin, as a list of
// checks. Pure functions judge; what they judge are the plans of the steps, what
// the mesh's reader found, and what the few readers of this package add. It
// writes nothing.
package preflight

import (
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
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
	// Object is what it is about, where that is not its name.
	Object string `json:"-"`
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
	// Tag is the target; empty without one.
	Tag      string
	Mesh     *mesh.Mesh
	Steps    []Step // those that could be planned without a target are left out
	Sidecars *sidecars.Plan
	// Denied are the permissions that the user lacks, by command.
	Denied map[string][]cluster.Permission
	// Kubernetes is the API server's version; empty where it is not known.
	Kubernetes string
	// Servers are the Deployments that the mesh stands or falls with.
	Servers []Server
	// Releases are Istio's Helm releases.
	Releases []helm.Release
	// Images are those that the target brings, and what their registries say.
	Images []Image
	// Istioctl is what injects by hand; nil where nothing was injected so.
	Istioctl *Istioctl
	// Unread names what the user may not read.
	Unread []string
}

// Judge gives the checks in the order in which they are shown.
func Judge(f Facts) []Check {
	return slices.Concat(rights(f), versions(f), installed(f.Mesh), installers(f.Mesh), availability(f), releases(f.Releases),
		definitions(f.Mesh), steps(f.Steps), images(f.Images), injectors(f.Mesh, f.Sidecars), workloads(f.Sidecars), manual(f))
}

// Failed says whether any check is a failure.
func Failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Level == Failure })
}
