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
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// NewRollbackPlan works out what going back would do. It writes nothing. A
// cluster without a control plane, and a release without an earlier version,
// give a *gate.BadInput; what stands in the way is in the plan's Refusals.
func NewRollbackPlan(ctx context.Context, c *cluster.Cluster, o RollbackOptions) (*RollbackPlan, error) {
	m, err := mesh.Read(ctx, c, o.istioNamespace())
	if err != nil {
		return nil, err
	}
	all, broken, warnings, err := readReleases(ctx, c, o.Options)
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
		Gateways: []workload.Ref{}, Raised: []Raise{},
		Releases: []ReleasePlan{}, Refusals: []gate.Refusal{}, Warnings: append([]string{}, warnings...),
	}
	target, err := p.planPlane(ctx, c, chosen, m, broken, o)
	if err != nil || target == nil {
		return p, err
	}
	for _, r := range chosen.releases {
		if isPlane(r) {
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
	if p.Raised, err = findRaises(ctx, c, p.Releases, false); err != nil {
		return nil, err
	}
	lacking, err := lackingRights(ctx, c, p.Releases)
	p.Refusals = append(p.Refusals, lacking...)
	return p, err
}

// planPlane plans the control plane's own release and gives the version to go
// back to, nil where it cannot go back.
func (p *RollbackPlan) planPlane(ctx context.Context, c *cluster.Cluster, chosen selection, m *mesh.Mesh, broken []helm.Undecodable, o RollbackOptions) (*semver.Version, error) {
	at := slices.IndexFunc(chosen.releases, isPlane)
	if at < 0 {
		plane := m.ControlPlane(chosen.revision)
		if plane == nil {
			return nil, absent(m, o.Options)
		}
		refusal := noRelease(*plane, broken, plane.Tag)
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
	from := p.plane
	if to := p.plane.RollbackTo; to != 0 && o.To == 0 {
		if p.plane.Deployed() {
			p.From, p.To = tagIn(p.plane), tagIn(p.plane)
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s is back at its revision %d already; give --to to go further", p.plane, to))
			return nil, nil
		}
		o.To, from = to, lastGood(history) // what was begun goes on
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
		return nil, gate.BadInputf("revision %d of %s does not tell its Istio version; choose another with --to", old.Revision, p.plane)
	}
	p.From, p.To = tagIn(from), tagIn(old)
	p.old = old
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
	kept, err := keptReplicas(r, there)
	if err != nil {
		return err
	}
	p.Warnings = append(p.Warnings, kept...)
	p.Refusals = append(p.Refusals, releaseRefusals(r, ownersOf(now, there), o.Options)...)
	p.Refusals = append(p.Refusals, blocked...)
	p.Releases = append(p.Releases, r)
	return nil
}

// keptReplicas tells of the Deployments that keep more replicas than the revision
// had to which a release goes back.
func keptReplicas(r ReleasePlan, there live) ([]string, error) {
	var out []string
	scaled := autoscaled(r.rendered.Objects)
	for _, o := range r.rendered.Objects {
		key := keyOf(o, r.Namespace)
		if key.kind != workload.Deployment || there[key] == nil || scaled[key.name] {
			continue
		}
		now, then, err := replicasOf(there[key], o)
		if err != nil {
			return nil, err
		}
		if then < now {
			out = append(out, fmt.Sprintf("deployment/%s in %s keeps its %d replicas; revision %d of %s had %d", key.name, key.namespace, now, r.ToRevision, r.Name, then))
		}
	}
	return out, nil
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
	if v := version(history[0]); v == nil || v.Equal(target) && history[0].Deployed() {
		return helm.Release{}
	}
	for _, r := range history[1:] {
		if v := version(r); (r.Superseded() || r.Deployed()) && v != nil && v.Equal(target) {
			return r
		}
	}
	return helm.Release{}
}

// proxyGate judges the proxies that run. Gateways of releases that go back have
// been moved by the upgrade itself, and go back with it; any other proxy that
// would be newer than its control plane stands in the way.
func (p *RollbackPlan) proxyGate(ctx context.Context, target *semver.Version, o RollbackOptions) error {
	if p.ProxiesFirst || o.Proxies == nil {
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
	p.judgeProxies(proxies, target, o.Wait)
	return nil
}

// judgeProxies finds the gateways that have to go back first, and refuses what
// else is newer than the target.
func (p *RollbackPlan) judgeProxies(proxies []ProxyVersion, target *semver.Version, wait bool) {
	var components, gateways []workload.Ref
	for _, r := range p.Releases {
		if r.Action == Rollback {
			components, gateways = append(components, componentsIn(r)...), append(gateways, gatewaysIn(r)...)
		}
	}
	others := without(proxies, append(components, gateways...))
	if pods, count, newest := newerProxies(others, p.Revision, target); count > 0 {
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: fmt.Sprintf("%d proxies", count), Forceable: true,
			Reason: fmt.Sprintf("they would be newer than a control plane of %s, the newest being %s: %s", target, newest, named(pods, count)),
			Cure:   "run kubectl istio-upgrade rollback --proxies-first",
		})
	}
	if _, count, _ := newerProxies(without(proxies, components), p.Revision, target); count == 0 {
		return
	}
	for _, ref := range gateways {
		rest := slices.DeleteFunc(slices.Clone(gateways), func(other workload.Ref) bool { return other == ref })
		all := slices.Concat(components, rest)
		_, with, _ := newerProxies(without(proxies, all), p.Revision, target)
		_, otherwise, _ := newerProxies(without(proxies, append(all, ref)), p.Revision, target)
		if with > otherwise {
			p.Gateways = append(p.Gateways, ref)
		}
	}
	if len(p.Gateways) > 0 && !wait {
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: p.plane.String(),
			Reason: "gateways have the newer proxy and must be back before their control plane, which has to be waited for",
			Cure:   "leave --wait=false out",
		})
	}
}
