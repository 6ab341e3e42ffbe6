package controlplane

import (
	"context"

	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// RollbackStep is the name of the way back in events and refusals.
const RollbackStep = "rollback"

// Rollback is the action of a release that goes back.
const Rollback Action = "rollback"

// RollbackOptions are what a user asks of the way back. Of Options it uses
// Revision, Wait, Timeout, Force, Recover, IstioNamespace, Proxies and Now.
type RollbackOptions struct {
	Options
	// To is the revision of the control plane's release to go back to; zero
	// means the newest good one that runs another version.
	To int
	// ProxiesFirst brings the proxies back before their control plane.
	ProxiesFirst bool
	// RollWorkloads gives workloads the proxy that the injector gives out now:
	// these, or all where none is named. Needed with ProxiesFirst, and where
	// gateways have moved.
	RollWorkloads func(ctx context.Context, only []workload.Ref) error
}

// RollbackPlan is what going back would do.
type RollbackPlan struct {
	Cluster  cluster.Identity `json:"cluster"`
	Revision string           `json:"revision"`
	// From and To are the tags of the control plane.
	From         string `json:"from"`
	To           string `json:"to"`
	ProxiesFirst bool   `json:"proxiesFirst"`
	// Gateways are those that the upgrade itself has given the newer proxy:
	// they go back before their control plane.
	Gateways []workload.Ref `json:"gateways"`
	// Workloads are those that get the former proxy before the releases go back, as
	// is expected before the injector gives it out; nil where none has to.
	Workloads *sidecars.Plan `json:"workloads,omitempty"`
	// Releases are in the order in which they go back: that of an upgrade
	// reversed.
	Releases []ReleasePlan `json:"releases"`
	// Raised are numbers of replicas that an upgrade has left raised, and that are
	// put back.
	Raised   []Raise        `json:"raised"`
	Refusals []gate.Refusal `json:"refusals"`
	Warnings []string       `json:"warnings"`

	plane helm.Release // of istiod, as it is now
	old   helm.Release // the revision of it to go back to
}

// FormerProxy gives the image that the injector gives out once the control plane is
// back; empty where the revision does not tell.
func (p *RollbackPlan) FormerProxy() string {
	objects, err := manifestObjects(p.old)
	if err != nil {
		return ""
	}
	return givenOut(objects)
}

// InjectorFirst tells whether the injector gives out the former proxy before
// anything goes back.
func (p *RollbackPlan) InjectorFirst() bool {
	return !p.Empty() && (p.ProxiesFirst || len(p.Gateways) > 0)
}

// Empty tells whether there is nothing to go back.
func (p *RollbackPlan) Empty() bool {
	for _, r := range p.Releases {
		if r.Action == Rollback {
			return false
		}
	}
	return true
}

// chooseRevision finds where a release goes back to: the wanted revision, or
// the newest superseded one whose images are of another version than those of
// the newest. History is newest first. It is a pure function; its error says
// why there is none.
func chooseRevision(history []helm.Release, to int, current *semver.Version, version func(helm.Release) *semver.Version) (helm.Release, error) {
	for _, r := range history[min(1, len(history)):] {
		switch {
		case to != 0 && r.Revision == to:
			if !r.Superseded() && !r.Deployed() {
				return helm.Release{}, gate.BadInputf("revision %d of %s is %s: it never was in force; choose one that helm history shows as superseded", to, r, r.Status)
			}
			return r, nil
		case to != 0, !r.Superseded() && !r.Deployed():
			continue
		}
		if v := version(r); v != nil && (current == nil || !v.Equal(current)) {
			return r, nil
		}
	}
	if to != 0 {
		return helm.Release{}, gate.BadInputf("there is no earlier revision %d of the release; helm history shows which there are", to)
	}
	return helm.Release{}, nil
}

// newerProxies names the proxies that are newer than a control plane of the
// version would be.
func newerProxies(proxies []ProxyVersion, revision string, target *semver.Version) (pods []string, count int, newest *semver.Version) {
	for _, p := range proxies {
		v, err := semver.NewVersion(p.Version)
		if err != nil || !p.belongs(revision) || mesh.Compare(v, target) <= 0 {
			continue
		}
		pods, count = append(pods, p.Pods...), count+p.Count
		if newest == nil || v.GreaterThan(newest) {
			newest = v
		}
	}
	return pods, count, newest
}
