package controlplane

import (
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// What an earlier run left half done is gone on from: that its istiod is not ready
// yet stands in nobody's way.
func TestBefore(t *testing.T) {
	t.Parallel()
	m := &mesh.Mesh{
		ControlPlanes: []mesh.ControlPlane{{Namespace: "istio-system", Revision: "default"}, {Namespace: "istio-system", Revision: "canary"}},
		CRDs:          []mesh.CRD{{Name: "gateways.networking.istio.io"}},
	}
	plane := func(status string, action Action) ReleasePlan {
		return ReleasePlan{Action: action, release: helm.Release{Component: helm.Istiod, Status: status}}
	}
	for name, c := range map[string]struct {
		release      ReleasePlan
		raised       []Raise
		options      Options
		planes, crds int
	}{
		"an upgrade":                 {plane("deployed", Upgrade), nil, Options{}, 1, 1},
		"the CRDs come first":        {plane("deployed", Upgrade), nil, Options{CRDsFirst: true}, 1, 0},
		"the last one failed":        {plane("failed", Upgrade), nil, Options{}, 0, 1},
		"the last one was killed":    {plane("pending-upgrade", Upgrade), nil, Options{}, 0, 1},
		"istiod still comes up":      {plane("deployed", Await), nil, Options{}, 0, 1},
		"a replica is lent":          {plane("deployed", Upgrade), []Raise{{}}, Options{}, 1, 1},
		"a replica was left behind":  {plane("deployed", Upgrade), []Raise{{Left: true}}, Options{}, 0, 1},
		"another namespace is meant": {plane("deployed", Upgrade), nil, Options{IstioNamespace: "mesh"}, 0, 1},
	} {
		p := &Plan{Revision: "default", Releases: []ReleasePlan{c.release}, Raised: c.raised}
		if got := p.standing(m, c.options); len(got.ControlPlanes) != c.planes || len(got.CRDs) != c.crds {
			t.Errorf("%s: %d control planes and %d CRDs are looked at, want %d and %d", name, len(got.ControlPlanes), len(got.CRDs), c.planes, c.crds)
		}
	}
}
