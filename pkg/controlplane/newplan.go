package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/chart/common"
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
	all, warnings, err := readReleases(ctx, c, o)
	if err != nil {
		return nil, err
	}
	chosen, err := selectReleases(all, m, o)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Cluster: c.Identity(), Target: o.Tag, Charts: o.Charts.String(), Revision: chosen.revision,
		Releases: []ReleasePlan{}, Refusals: []gate.Refusal{}, Warnings: append([]string{}, warnings...),
	}
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
	return p, checkRights(ctx, c, p.Releases)
}

// meshGates judges what runs and the CRDs, apart from single releases.
func (p *Plan) meshGates(m *mesh.Mesh, chosen selection, target *semver.Version, o Options) {
	for _, plane := range m.ControlPlanes {
		if plane.Namespace != o.istioNamespace() || plane.Revision != chosen.revision {
			continue
		}
		object := fmt.Sprintf("deployment/%s in %s", plane.Deployment, plane.Namespace)
		p.Refusals = append(p.Refusals, skewRefusal(object, plane.Tag, target)...)
		owned := slices.ContainsFunc(chosen.releases, func(r helm.Release) bool {
			return r.Component == helm.Istiod || r.Component == helm.Istio
		})
		if !owned && len(o.Components) == 0 {
			p.Refusals = append(p.Refusals, noRelease(plane, o.Tag))
		}
	}
	if len(o.Components) > 0 && len(chosen.releases) == 0 {
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: "components", Reason: fmt.Sprintf("there is no Helm release of %v for revision %s", o.Components, chosen.revision),
			Cure: "leave --component out to upgrade what there is",
		})
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

// builder makes the plans of single releases.
type builder struct {
	c       *cluster.Cluster
	o       Options
	target  *semver.Version
	changes map[string]any
	caps    *common.Capabilities
	charts  map[helm.Component]*helm.Chart
}

// chart loads each component's chart once.
func (b *builder) chart(ctx context.Context, component helm.Component) (*helm.Chart, error) {
	if ch := b.charts[component]; ch != nil {
		return ch, nil
	}
	ch, err := b.o.Charts.Load(ctx, component, b.o.Tag)
	if err == nil {
		b.charts[component] = ch
	}
	return ch, err
}

// release plans one release: its new chart and values, rendered, against what
// is stored and what is there.
func (b *builder) release(ctx context.Context, release helm.Release, m *mesh.Mesh) (ReleasePlan, []gate.Refusal, []string, error) {
	r := ReleasePlan{
		Name: release.Name, Namespace: release.Namespace, Component: release.Component, Revision: release.IstioRevision,
		HelmRevision: release.Revision, Action: None, ChartFrom: release.ChartName + "-" + release.ChartVersion,
		release: release, Values: []ValueChange{}, UnknownValues: []string{}, Objects: []ObjectChange{},
	}
	base, err := b.base(ctx, &r)
	if err != nil {
		return r, nil, nil, err
	}
	refusals := releaseRefusals(r, ownersOf(release, m), b.o)
	if release.Helm2 {
		return r, refusals, nil, nil
	}
	ch, err := b.chart(ctx, release.Component)
	if err != nil {
		return r, nil, nil, err
	}
	r.chart, r.ChartTo = ch, ch.String()
	changes := helm.Reuse(tagValues(release.Component, b.o.Tag, base.Values), userChanges(b.changes, release.Component, b.o))
	r.values = helm.Reuse(base.Values, changes)
	if err := b.render(ctx, &r); err != nil {
		return r, nil, nil, err
	}
	before, err := manifestObjects(base)
	if err != nil {
		return r, nil, nil, err
	}
	r.Values = valueChanges(base.Values, r.values)
	r.UnknownValues = unknownValues(ch, base.Values)
	r.Objects = objectChanges(before, r.rendered.Objects, r.Namespace)
	r.Workloads = workloadsOf(r.rendered.Objects, r.Namespace)
	r.TagFrom, r.TagTo = tagOf(before), tagOf(r.rendered.Objects)
	if plane := m.ControlPlane(release.IstioRevision); plane != nil && (release.Component == helm.Istiod || release.Component == helm.Istio) {
		r.TagFrom = plane.Tag
	}
	r.decide(release)
	there, err := readLive(ctx, b.c, r)
	if err != nil {
		return r, nil, nil, err
	}
	if r.Action == None {
		if waiting := there.notReady(r.Workloads); waiting != "" {
			r.Action, r.Reason = Await, waiting
		}
	}
	blocked, err := liveRefusals(r, there)
	if err != nil {
		return r, nil, nil, err
	}
	warnings := append(pinWarnings(r, b.target), chartWarning(ch, b.target)...)
	if r.Pending != nil && r.Pending.Ours {
		warnings = append(warnings, fmt.Sprintf("%s: an earlier run was killed in the middle of it; this one goes on from revision %d", r.object(), r.Pending.LastGood))
	}
	for _, path := range r.UnknownValues {
		warnings = append(warnings, fmt.Sprintf("%s: the chart %s does not use the value %s", r.object(), r.ChartTo, path))
	}
	return r, append(refusals, blocked...), warnings, nil
}

// base is the revision whose values are kept: the one in force, which is the
// newest unless that failed or never ended. It notes a release that is pending.
func (b *builder) base(ctx context.Context, r *ReleasePlan) (helm.Release, error) {
	r.good = r.release.Revision
	if r.release.Helm2 || r.release.Deployed() {
		return r.release, nil
	}
	history, err := helm.History(ctx, b.c, r.Namespace, r.Name)
	if err != nil {
		return r.release, err
	}
	good := lastGood(history)
	r.good = good.Revision
	if r.release.Pending() {
		r.Pending = pendingOf(b.c, r.release, good, b.o)
	}
	if good.Revision == 0 {
		return r.release, nil
	}
	return good, nil
}

// pendingOf tells of an operation that did not end. Whose it was is told by the
// field manager of the record, which the API server takes from the user agent.
func pendingOf(c *cluster.Cluster, r, good helm.Release, o Options) *Pending {
	program, _, _ := strings.Cut(c.Config.UserAgent, "/")
	return &Pending{
		Status: r.Status, Since: r.Updated, Age: int64(o.now().Sub(r.Updated).Seconds()),
		LastGood: good.Revision, Ours: program != "" && r.StoredBy == program,
	}
}

// lastGood gives the newest revision of a history, newest first, that is or was
// in force; the zero value where there is none.
func lastGood(history []helm.Release) helm.Release {
	for _, status := range []func(helm.Release) bool{helm.Release.Deployed, helm.Release.Superseded} {
		if at := slices.IndexFunc(history, status); at >= 0 {
			return history[at]
		}
	}
	return helm.Release{}
}

// render makes the objects, and once more where --ensure-ha changes values.
func (b *builder) render(ctx context.Context, r *ReleasePlan) error {
	var err error
	if r.rendered, err = helm.Render(ctx, b.c, r.chart, r.values, r.release, true, b.caps); err != nil || !b.o.EnsureHA {
		return err
	}
	raise := highlyAvailable(r.Component, r.rendered.Objects)
	if len(raise) == 0 {
		return nil
	}
	r.values = helm.Reuse(r.values, raise)
	r.rendered, err = helm.Render(ctx, b.c, r.chart, r.values, r.release, true, b.caps)
	return err
}

// decide sets the action and its reason.
func (r *ReleasePlan) decide(release helm.Release) {
	switch {
	case release.Pending():
		r.Action, r.Reason = Upgrade, "its last operation did not end"
	case !release.Deployed():
		r.Action, r.Reason = Upgrade, "its last revision is "+release.Status
	case len(r.Objects) > 0:
		r.Action, r.Reason = Upgrade, fmt.Sprintf("%d objects change", len(r.Objects))
	case len(r.Values) > 0:
		r.Action, r.Reason = Upgrade, "values change"
	case release.ChartVersion != r.chart.Version || release.ChartName != r.chart.Name:
		r.Action, r.Reason = Upgrade, "the chart changes"
	default:
		r.Reason = "the chart, the values and all objects are the same"
	}
}

// ownersOf reads who owns a release: from the marks on its record, and on the
// control plane's Deployment.
func ownersOf(release helm.Release, m *mesh.Mesh) mesh.Owners {
	owners := mesh.OwnersOf(release.Meta())
	if owners.GitOps() != "" || release.Component != helm.Istiod && release.Component != helm.Istio {
		return owners
	}
	if plane := m.ControlPlane(release.IstioRevision); plane != nil && plane.Namespace == release.Namespace {
		return plane.Owners
	}
	return owners
}
