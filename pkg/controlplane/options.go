// Package controlplane is step 2 of an upgrade: it brings the Helm releases of
// istiod, cni, ztunnel and the gateways (or, of Istio 1.1 to 1.5, the release
// istio) to a target tag, and it takes them back.
package controlplane

import (
	"context"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// Step is the step's name in events and refusals.
const Step = "control-plane"

// Options are what a user asks of the step.
type Options struct {
	// Tag is the image tag to go to, with its variant if it has one.
	Tag string
	// Revision chooses among several control planes: a revision or a tag that
	// leads to one. Empty means the default one, or the only one.
	Revision string
	Charts   helm.Source
	// Set and ValuesFiles change values of istiod's release, and their
	// global.* those of cni and ztunnel. With Components they change those of
	// the releases named there.
	Set         []string
	ValuesFiles []string
	EnsureHA    bool
	// TemporaryHA gives what has a single replica a second one for the length of
	// the upgrade.
	TemporaryHA bool
	// Components are the only ones to be upgraded; empty means all.
	Components        []helm.Component
	RollbackOnFailure bool
	// Recover goes on from a release that is stuck in a pending state.
	Recover bool
	// Wait waits for pods and asks the injector; Timeout is how long a release
	// may be without progress.
	Wait    bool
	Timeout time.Duration
	Force   bool
	// Diff has the plan hold what changes as unified diffs; AskServer has the API
	// server judge, by dry-runs, what would be written.
	Diff, AskServer bool
	IstioNamespace  string
	// CRDsFirst says that the same run brings the CRDs to the target before
	// this step, so that their being behind is no obstacle to the plan.
	CRDsFirst bool
	// Proxies gives the versions of the proxies that run, as ReadProxies does;
	// nil where they are not known.
	Proxies func(ctx context.Context) ([]ProxyVersion, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

func (o Options) timeout() time.Duration {
	if o.Timeout <= 0 {
		return 10 * time.Minute
	}
	return o.Timeout
}

func (o Options) istioNamespace() string {
	if o.IstioNamespace == "" {
		return "istio-system"
	}
	return o.IstioNamespace
}
