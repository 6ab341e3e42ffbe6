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

// NewRollbackPlan works out what going back would do. It writes nothing. A
// cluster without a control plane, and a release without an earlier version,
// give a *gate.BadInput; what stands in the way is in the plan's Refusals.
func NewRollbackPlan(ctx context.Context, c *cluster.Cluster, o RollbackOptions) (*RollbackPlan, error) {
	m, err := mesh.Read(ctx, c, o.istioNamespace())
	if err != nil {
		return nil, err
	}
	all, warnings, err := readReleases(ctx, c, o.Options)
	if err != nil {
		return nil, err
	}
	o.Components = nil
	chosen, err := selectReleases(all, m, o.Options)
	if err != nil {
		return nil, err
	}
	p := &RollbackPlan{
		Cluster: c.Identity(), Revision: chosen.revision, ProxiesFirst: o.ProxiesFirst,
		Releases: []ReleasePlan{}, Refusals: []gate.Refusal{}, Warnings: append([]string{}, warnings...),
	}
	target, err := p.planPlane(ctx, c, chosen, m, o)
	if err != nil || target == nil {
		return p, err
	}
	for _, r := range chosen.releases {
		if r.Component == helm.Istiod || r.Component == helm.Istio {
			continue
		}
		history, err := helm.History(ctx, c, r.Namespace, r.Name)
		if err != nil {
			return nil, err
		}
		if err := p.add(ctx, c, history, follow(history, target), o); err != nil {
			return nil, err
		}
	}
	slices.Reverse(p.Releases)
	if err := p.proxyGate(ctx, target, o); err != nil {
		return nil, err
	}
	return p, checkRights(ctx, c, p.Releases)
}

// planPlane plans the control plane's own release and gives the version to go
// back to, nil where it cannot go back.
func (p *RollbackPlan) planPlane(ctx context.Context, c *cluster.Cluster, chosen selection, m *mesh.Mesh, o RollbackOptions) (*semver.Version, error) {
	at := slices.IndexFunc(chosen.releases, func(r helm.Release) bool { return r.Component == helm.Istiod || r.Component == helm.Istio })
	if at < 0 {
		plane := m.ControlPlane(chosen.revision)
		if plane == nil {
			return nil, absent(m, o.Options)
		}
		refusal := noRelease(*plane, plane.Tag)
		refusal.Cure = "go back as it was installed"
		p.Refusals = append(p.Refusals, refusal)
		return nil, nil
	}
	p.plane = chosen.releases[at]
	if p.plane.Helm2 {
		p.Refusals = append(p.Refusals, releaseRefusals(ReleasePlan{Name: p.plane.Name, Namespace: p.plane.Namespace, release: p.plane}, mesh.Owners{}, o.Options)...)
		return nil, nil
	}
	history, err := helm.History(ctx, c, p.plane.Namespace, p.plane.Name)
	if err != nil {
		return nil, err
	}
	current := imageVersion(p.plane)
	old, err := chooseRevision(history, o.To, current, imageVersion)
	if err != nil {
		return nil, err
	}
	if old.Revision == 0 {
		return nil, gate.BadInputf("%s has no earlier good revision of another version than %s in its history: there is nothing to go back to", p.plane, current)
	}
	target := imageVersion(old)
	if target == nil {
		return nil, gate.BadInputf("revision %d of %s does not tell its Istio version", old.Revision, p.plane)
	}
	p.From, p.To = tagIn(p.plane), tagIn(old)
	p.oldTags = sidecarValues(old)
	return target, p.add(ctx, c, history, old, o)
}

// add plans one release, given its history, newest first; old is the zero value
// where it stays.
func (p *RollbackPlan) add(ctx context.Context, c *cluster.Cluster, history []helm.Release, old helm.Release, o RollbackOptions) error {
	now := history[0]
	r := ReleasePlan{
		Name: now.Name, Namespace: now.Namespace, Component: now.Component, Revision: now.IstioRevision,
		HelmRevision: now.Revision, Action: None, Reason: "it has no earlier revision of that version",
		ChartFrom: now.ChartName + "-" + now.ChartVersion, ChartTo: now.ChartName + "-" + now.ChartVersion, release: now,
		Values: []ValueChange{}, UnknownValues: []string{}, Objects: []ObjectChange{},
	}
	r.good = lastGood(history).Revision
	if now.Pending() {
		r.Pending = pendingOf(c, now, lastGood(history), o.Options)
	}
	if old.Revision == 0 {
		p.Releases = append(p.Releases, r)
		return nil
	}
	before, err := manifestObjects(now)
	if err != nil {
		return err
	}
	after, err := manifestObjects(old)
	if err != nil {
		return err
	}
	r.Action, r.Reason = Rollback, fmt.Sprintf("back to revision %d", old.Revision)
	r.ChartTo, r.TagFrom, r.TagTo = old.ChartName+"-"+old.ChartVersion, tagOf(before), tagOf(after)
	r.ToRevision, r.values, r.serverSide = old.Revision, old.Values, old.ServerSide
	r.rendered = &helm.Rendered{Manifest: old.Manifest, Objects: after}
	r.Values = valueChanges(now.Values, old.Values)
	r.Objects = objectChanges(before, after, r.Namespace)
	r.Workloads = workloadsOf(after, r.Namespace)
	there, err := readLive(ctx, c, r)
	if err != nil {
		return err
	}
	blocked, err := liveRefusals(r, there)
	if err != nil {
		return err
	}
	p.Refusals = append(p.Refusals, releaseRefusals(r, ownersOf(now, there), o.Options)...)
	p.Refusals = append(p.Refusals, blocked...)
	p.Releases = append(p.Releases, r)
	return nil
}

// follow finds where another release goes when its control plane goes back to a
// version: to its newest good revision of that version, by its image or, for
// gateways, which have none, by its chart.
func follow(history []helm.Release, target *semver.Version) helm.Release {
	version := func(r helm.Release) *semver.Version {
		if v := imageVersion(r); v != nil {
			return v
		}
		v, err := semver.NewVersion(r.ChartVersion)
		if err != nil || mesh.IsPlaceholder(r.ChartVersion) {
			return nil
		}
		return v
	}
	if v := version(history[0]); v == nil || v.Equal(target) {
		return helm.Release{}
	}
	for _, r := range history[1:] {
		if v := version(r); (r.Superseded() || r.Deployed()) && v != nil && v.Equal(target) {
			return r
		}
	}
	return helm.Release{}
}

func (p *RollbackPlan) proxyGate(ctx context.Context, target *semver.Version, o RollbackOptions) error {
	if p.ProxiesFirst {
		if p.plane.Component == helm.Istio {
			p.Refusals = append(p.Refusals, gate.Refusal{
				Object: p.plane.String(),
				Reason: "proxies cannot go first with the chart istio: Helm does not store the charts within it",
				Cure:   "run control-plane with the former --tag and --charts and --force, then sidecars",
			})
		}
		return nil
	}
	if o.Proxies == nil {
		return nil
	}
	proxies, err := o.Proxies(ctx)
	if apierrors.IsForbidden(err) {
		p.Warnings = append(p.Warnings, "no right to list pods: whether proxies are newer than the control plane would be is not known")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the proxies' versions: %w", err)
	}
	if pods, count, newest := newerProxies(proxies, p.Revision, target); count > 0 {
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: fmt.Sprintf("%d proxies", count), Forceable: true,
			Reason: fmt.Sprintf("they would be newer than a control plane of %s, the newest being %s: %s", target, newest, named(pods, count)),
			Cure:   "run kubectl istio-upgrade rollback --proxies-first",
		})
	}
	return nil
}

// imageVersion gives the Istio version of a stored revision's images, nil where
// they do not tell.
func imageVersion(r helm.Release) *semver.Version {
	v, ok := mesh.TagVersion(tagIn(r))
	if !ok {
		return nil
	}
	return v
}

func tagIn(r helm.Release) string {
	objects, err := helm.ParseManifest(r.Manifest)
	if err != nil {
		return ""
	}
	return tagOf(objects)
}

// sidecarValues are the values by which a revision chose the sidecars' image:
// global.hub, tag and variant, the user's or its chart's own.
func sidecarValues(r helm.Release) map[string]any {
	global, _ := helm.Reuse(r.Chart.Defaults(), r.Values)["global"].(map[string]any)
	values := map[string]any{}
	for _, key := range []string{"hub", "tag", "variant"} {
		if value, ok := global[key]; ok {
			values[key] = value
		}
	}
	if _, ok := values["tag"]; !ok {
		values["tag"] = tagIn(r)
	}
	return values
}
