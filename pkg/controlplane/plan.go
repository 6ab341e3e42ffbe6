package controlplane

import (
	"slices"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Plan is what an upgrade of the control plane would do, and why.
type Plan struct {
	Cluster cluster.Identity `json:"cluster"`
	// Target is the tag to go to.
	Target   string        `json:"target"`
	Charts   string        `json:"charts"`
	Revision string        `json:"revision"`
	Releases []ReleasePlan `json:"releases"`
	// Raised are numbers of replicas that are raised for the length of the
	// upgrade, or that an earlier run has left raised, and are put back.
	Raised   []Raise        `json:"raised"`
	Refusals []gate.Refusal `json:"refusals"`
	Warnings []string       `json:"warnings"`

	before *mesh.Mesh
}

// Before is the mesh as far as it has to be well before the plan is applied: the
// control planes of the revision, unless an earlier run left them as they are, and
// the CRDs, unless the same run brings them first. Nil where no release changes.
func (p *Plan) Before() *mesh.Mesh { return p.before }

// changes tells whether a release changes.
func (p *Plan) changes() bool {
	return slices.ContainsFunc(p.Releases, func(r ReleasePlan) bool { return r.Action == Upgrade })
}

// Action is what happens to a release.
type Action string

// The actions.
const (
	Upgrade Action = "upgrade"
	// Await writes nothing, and waits for pods of a run that was stopped.
	Await Action = "wait"
	None  Action = "none"
)

// ReleasePlan is what happens to one release.
type ReleasePlan struct {
	Name      string         `json:"name"`
	Namespace string         `json:"namespace"`
	Component helm.Component `json:"component"`
	Revision  string         `json:"revision"`
	// HelmRevision is the release's newest revision when the plan was made.
	HelmRevision int    `json:"helmRevision"`
	Action       Action `json:"action"`
	Reason       string `json:"reason"`
	ChartFrom    string `json:"chartFrom"`
	ChartTo      string `json:"chartTo"`
	// TagFrom is read from the images that run; empty where the release has no
	// image of its own, as gateways that are injected.
	TagFrom string        `json:"tagFrom,omitempty"`
	TagTo   string        `json:"tagTo,omitempty"`
	Values  []ValueChange `json:"values"`
	// ValuesDiff is a unified diff of the user's values, where that was asked for.
	ValuesDiff string `json:"valuesDiff,omitempty"`
	// UnknownValues are the user's values that the new chart does not use.
	UnknownValues []string       `json:"unknownValues"`
	Objects       []ObjectChange `json:"objects"`
	// ToRevision is the release's revision that a rollback goes to.
	ToRevision int `json:"toRevision,omitempty"`
	// Workloads are waited for.
	Workloads []workload.Ref `json:"workloads"`
	Pending   *Pending       `json:"pending,omitempty"`

	release  helm.Release
	good     int // the revision in force, 0 where there is none
	chart    *helm.Chart
	values   map[string]any
	rendered *helm.Rendered
	// serverSide says how a rollback is written.
	serverSide bool
}

// ValueChange is a value of the user's that changes.
type ValueChange struct {
	Path string `json:"path"`
	From any    `json:"from"`
	To   any    `json:"to"`
}

// ObjectChange is an object that the upgrade adds, changes or removes.
type ObjectChange struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Change    string `json:"change"` // added, changed, removed
	// Diff is a unified diff of its YAML, where that was asked for.
	Diff string `json:"diff,omitempty"`
}

// Pending says that an operation on a release began and did not end.
type Pending struct {
	Status string    `json:"status"`
	Since  time.Time `json:"since"`
	// Age is how long ago that was when the plan was made, in seconds.
	Age int64 `json:"ageSeconds"`
	// LastGood is the revision that was in force before; 0 where none was.
	LastGood int `json:"lastGood"`
	// Ours says that a run of this program began it: the run was killed.
	Ours bool `json:"ours"`
}

// Result is what came of applying a Plan.
type Result struct {
	Releases []ReleaseResult `json:"releases"`
	// Verified is what the injector was seen to give out; empty where it was
	// not asked.
	Verified string   `json:"verified,omitempty"`
	Warnings []string `json:"warnings"`
}

// ReleaseResult is how it went with one release.
type ReleaseResult struct {
	Name         string `json:"name"`
	Namespace    string `json:"namespace"`
	HelmRevision int    `json:"helmRevision"`
	// Outcome is upgraded, unchanged, failed, rolled back or not started.
	Outcome string `json:"outcome"`
	Message string `json:"message,omitempty"`
}

// Empty tells whether there is nothing to do.
func (p *Plan) Empty() bool {
	return len(p.Raised) == 0 && !slices.ContainsFunc(p.Releases, func(r ReleasePlan) bool { return r.Action != None })
}

// Writes tells whether applying the plan changes anything.
func (p *Plan) Writes() bool {
	return len(p.Raised) > 0 || p.changes()
}

// object names a release in refusals.
func (r ReleasePlan) object() string { return "release " + r.Name + " in " + r.Namespace }
