package controlplane

import (
	"context"
	"fmt"
	"slices"

	"github.com/Masterminds/semver/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// NewPlan reads what is installed and works out what bringing it to the target
// tag would do. It writes nothing. A tag that is no version, a charts source
// that has not got it, values that cannot be read and a cluster without a
// control plane give a *gate.BadInput; what stands in the way of a plan that
// could be made is in its Refusals.
func NewPlan(ctx context.Context, c *cluster.Cluster, o Options) (*Plan, error) {
	target, ok := mesh.TagVersion(o.Tag)
	if !ok {
		return nil, gate.BadInputf("the tag %q is no version; give one such as 1.31.0 or 1.31.0-distroless", o.Tag)
	}
	changes, err := helm.UserValues(o.ValuesFiles, o.Set)
	if err != nil {
		return nil, err
	}
	m, err := mesh.Read(ctx, c, o.istioNamespace())
	if err != nil {
		return nil, err
	}
	all, broken, warnings, err := readReleases(ctx, c, o)
	if err != nil {
		return nil, err
	}
	chosen, err := selectReleases(all, m, o)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Cluster: c.Identity(), Target: o.Tag, Charts: o.Charts.String(), Revision: chosen.revision,
		Releases: []ReleasePlan{}, Raised: []Raise{}, Refusals: []gate.Refusal{}, Warnings: append([]string{}, warnings...),
	}
	for _, r := range chosen.left {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s serves all control planes, and goes with the default one: upgrade it with that, or by --component %s", r, r.Component))
	}
	unmanaged := p.unmanaged(m, chosen, broken, o)
	p.meshGates(m, chosen, target, o)
	if err := p.proxyGate(ctx, target, o); err != nil {
		return nil, err
	}
	caps, err := helm.Capabilities(c)
	if err != nil {
		return nil, err
	}
	b := builder{c: c, o: o, target: target, changes: changes, caps: caps, charts: map[helm.Component]*helm.Chart{}}
	for _, release := range chosen.releases {
		r, refusals, warnings, err := b.release(ctx, release, m)
		if err != nil {
			return nil, err
		}
		p.Releases = append(p.Releases, r)
		p.Refusals = append(p.Refusals, refusals...)
		p.Warnings = append(p.Warnings, warnings...)
	}
	if p.Raised, err = findRaises(ctx, c, p.Releases, o.TemporaryHA); err != nil {
		return nil, err
	}
	lacking, err := lackingRights(ctx, c, p.Releases)
	p.Refusals = append(p.Refusals, lacking...)
	switch {
	case p.changes():
		p.before = p.standing(m, o)
	case !slices.ContainsFunc(chosen.releases, func(r helm.Release) bool { return r.Helm2 }):
		p.Refusals = []gate.Refusal{} // of what would not be written
	}
	p.Refusals = append(unmanaged, p.Refusals...)
	return p, err
}

// standing gives what Before does.
func (p *Plan) standing(m *mesh.Mesh, o Options) *mesh.Mesh {
	before := &mesh.Mesh{CRDs: m.CRDs, Unreadable: m.Unreadable}
	if o.CRDsFirst {
		before.CRDs, before.Unreadable = nil, nil
	}
	resumes := slices.ContainsFunc(p.Raised, func(r Raise) bool { return r.Left }) ||
		slices.ContainsFunc(p.Releases, func(r ReleasePlan) bool { return isPlane(r.release) && (r.Action == Await || !r.release.Deployed()) })
	for _, plane := range m.ControlPlanes {
		if !resumes && plane.Namespace == o.istioNamespace() && plane.Revision == p.Revision {
			before.ControlPlanes = append(before.ControlPlanes, plane)
		}
	}
	return before
}

// unmanaged refuses what there is no release of.
func (p *Plan) unmanaged(m *mesh.Mesh, chosen selection, broken []helm.Undecodable, o Options) []gate.Refusal {
	refusals := []gate.Refusal{}
	for _, plane := range m.ControlPlanes {
		if plane.Namespace != o.istioNamespace() || plane.Revision != chosen.revision {
			continue
		}
		if !slices.ContainsFunc(chosen.releases, isPlane) && len(o.Components) == 0 {
			refusals = append(refusals, noRelease(plane, broken, o.Tag))
		}
	}
	if len(o.Components) > 0 && len(chosen.releases) == 0 {
		refusals = append(refusals, gate.Refusal{
			Object: "components", Reason: fmt.Sprintf("there is no Helm release of %v for revision %s", o.Components, chosen.revision),
			Cure: "leave --component out to upgrade what there is",
		})
	}
	return refusals
}

// meshGates judges what runs and the CRDs, apart from single releases.
func (p *Plan) meshGates(m *mesh.Mesh, chosen selection, target *semver.Version, o Options) {
	for _, plane := range m.ControlPlanes {
		if plane.Namespace == o.istioNamespace() && plane.Revision == chosen.revision {
			object := fmt.Sprintf("deployment/%s in %s", plane.Deployment, plane.Namespace)
			p.Refusals = append(p.Refusals, skewRefusal(object, plane.Tag, target)...)
			if _, ok := mesh.TagVersion(plane.Tag); !ok {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%s runs the tag %q, which is no version: whether %s is a downgrade or skips a minor version is not known", object, plane.Tag, target))
			}
		}
	}
	switch {
	case o.CRDsFirst:
	case slices.Contains(m.Unreadable, "customresourcedefinitions"):
		p.Warnings = append(p.Warnings, "no right to read the CRDs: whether they are behind the target is not known")
	default:
		p.Refusals = append(p.Refusals, crdRefusal(mesh.CRDsBehind(m.CRDs, target), o.Tag)...)
	}
}

func (p *Plan) proxyGate(ctx context.Context, target *semver.Version, o Options) error {
	if o.Proxies == nil {
		return nil
	}
	proxies, err := o.Proxies(ctx)
	if apierrors.IsForbidden(err) {
		p.Warnings = append(p.Warnings, "no right to list pods: whether proxies are too old for the target is not known")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the proxies' versions: %w", err)
	}
	p.Refusals = append(p.Refusals, proxyRefusal(proxies, p.Revision, target)...)
	return nil
}
