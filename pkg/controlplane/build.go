package controlplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/chart/common"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

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
	if release.Helm2 {
		return r, releaseRefusals(r, mesh.Owners{}, b.o), nil, nil
	}
	ch, err := b.chart(ctx, release.Component)
	if err != nil {
		return r, nil, nil, err
	}
	r.chart, r.ChartTo = ch, ch.String()
	changes := helm.Reuse(tagValues(release.Component, b.o.Tag), userChanges(b.changes, release.Component, b.o))
	r.values = withoutVariants(helm.Reuse(base.Values, changes), b.o.Tag)
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
	if plane := m.ControlPlane(release.IstioRevision); plane != nil && isPlane(release) {
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
	if b.o.Diff {
		if err := r.addDiffs(base.Values, before); err != nil {
			return r, nil, nil, err
		}
	}
	if b.o.AskServer {
		against, err := askServer(ctx, b.c, r, before)
		if err != nil {
			return r, nil, nil, err
		}
		blocked = append(blocked, against...)
	}
	refusals := append(releaseRefusals(r, ownersOf(release, there), b.o), pinRefusal(r, b.target)...)
	warnings := append(pinWarnings(r, b.target), ch.OtherMinorWarning(b.target)...)
	if r.Pending != nil && r.Pending.Ours {
		warnings = append(warnings, fmt.Sprintf("%s: an earlier run was killed in the middle of it; this one goes on from revision %d", r.object(), r.Pending.LastGood))
	}
	for _, path := range r.UnknownValues {
		warnings = append(warnings, fmt.Sprintf("%s: the chart %s does not use the value %s", r.object(), r.ChartTo, path))
	}
	if r.Action != Upgrade {
		return r, nil, warnings, nil // nothing is written that it could stand in the way of
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
	case r.TagFrom != "" && r.TagFrom != r.TagTo:
		r.Action, r.Reason = Upgrade, "it runs "+r.TagFrom
	case release.ChartVersion != r.chart.Version || release.ChartName != r.chart.Name:
		r.Action, r.Reason = Upgrade, "the chart changes"
	default:
		r.Reason = "the chart, the values and all objects are the same"
	}
}

// ownersOf reads who owns a release: from the marks on its record, and on its
// workloads.
func ownersOf(release helm.Release, there live) mesh.Owners {
	owners := mesh.OwnersOf(release.Meta())
	for _, key := range slices.SortedFunc(maps.Keys(there), objectKey.compare) {
		if owners.Keeper() != "" {
			return owners
		}
		if key.kind == workload.Deployment || key.kind == workload.DaemonSet {
			owners = mesh.OwnersOf(there[key])
		}
	}
	return owners
}
