package controlplane

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// formerProxies makes the injector give out the former proxy while istiod and
// its chart stay, and with --proxies-first rolls the workloads.
func (a *applier) formerProxies(ctx context.Context, p *RollbackPlan, o RollbackOptions) error {
	if o.RollWorkloads == nil {
		return errors.New("roll the workloads back: no way to do so was given")
	}
	r := a.planeOf(p)
	if r == nil {
		return fmt.Errorf("%s is not in the plan", p.plane)
	}
	between, err := betweenOf(p, *r)
	if err != nil {
		return err
	}
	await := workloadsNow(p.plane)
	old, err := a.watch.podsNow(ctx, await)
	if err != nil {
		return err
	}
	if between.Action == Upgrade {
		a.emit.Emit(progress.Event{Kind: progress.Started, Object: objectOf(r), Message: "istiod stays, sidecars go back to " + p.To})
		written, err := a.write(ctx, &between, "Sidecars back to "+p.To)
		if err != nil {
			return err
		}
		r.HelmRevision, r.release = written.Revision, written
	} else {
		old = nil
	}
	if err := a.watch.await(ctx, await, old); err != nil {
		return err
	}
	former, err := manifestObjects(p.old)
	if err != nil {
		return err
	}
	v := a.verifier(p.plane.Namespace, p.To, givenOut(former))
	v.anyAnswer = true
	if _, warning, err := v.run(ctx, 1); err != nil {
		return err
	} else if warning != "" {
		a.warn(objectOf(r), warning)
	}
	if !p.ProxiesFirst {
		return nil
	}
	if err := o.RollWorkloads(ctx, nil); err != nil {
		return fmt.Errorf("roll the workloads back: %w", err)
	}
	return a.proxiesBack(ctx, p, o)
}

// betweenOf gives the control plane's release as it is while proxies go back:
// the chart of the newer version, and the former proxy given out. Charts of today
// do that by their values: pilot.image holds istiod, which the release loses again
// when it goes back. Named in full, whatever global.hub, tag and variant say
// (istio/istio:manifests/charts/istio-control/istio-discovery/templates/deployment.yaml).
// Of the chart istio only what it wrote is at hand. A revision that never came into
// force says what was to be, not what is, and is written once more.
func betweenOf(p *RollbackPlan, r ReleasePlan) (ReleasePlan, error) {
	r.Action = None
	now, err := manifestObjects(p.plane)
	if err != nil {
		return r, err
	}
	if p.plane.Component != helm.Istio {
		r.chart = p.plane.Chart
		r.values = helm.Reuse(p.plane.Values, map[string]any{
			"global": sidecarValues(p.old), "pilot": map[string]any{"image": imageOf(now)},
		})
		if !p.plane.Deployed() || len(valueChanges(p.plane.Values, r.values)) > 0 {
			r.Action = Upgrade
		}
		return r, nil
	}
	former, err := manifestObjects(p.old)
	if err != nil {
		return r, err
	}
	objects, err := legacyBetween(now, proxyImages(now), proxyImages(former))
	if err != nil {
		return r, err
	}
	if p.plane.Deployed() && len(objectChanges(now, objects, p.plane.Namespace)) == 0 {
		return r, nil
	}
	r.Action, r.values = Upgrade, p.plane.Values
	r.chart, err = helm.ManifestChart(p.plane, objects)
	return r, err
}

// gatewaysBack sees to it that the gateways have the former proxy before the
// first component goes back. Charts before 1.23 do not roll a gateway's pods by
// themselves.
func (a *applier) gatewaysBack(ctx context.Context, p *RollbackPlan, o RollbackOptions) error {
	target, ok := mesh.TagVersion(p.To)
	if o.Proxies == nil || !ok || p.ProxiesFirst {
		return nil
	}
	proxies, err := o.Proxies(ctx)
	if err != nil {
		return fmt.Errorf("read the proxies' versions: %w", err)
	}
	var behind []workload.Ref
	for _, ref := range p.Gateways {
		_, with, _ := newerProxies(proxies, p.Revision, target)
		if _, otherwise, _ := newerProxies(without(proxies, []workload.Ref{ref}), p.Revision, target); with > otherwise {
			behind = append(behind, ref)
		}
	}
	if len(behind) > 0 {
		if err := o.RollWorkloads(ctx, behind); err != nil {
			return fmt.Errorf("roll the gateways back: %w", err)
		}
	}
	return a.proxiesBack(ctx, p, o)
}

// proxiesBack looks whether a proxy is left that the former control plane would
// be too old for.
func (a *applier) proxiesBack(ctx context.Context, p *RollbackPlan, o RollbackOptions) error {
	target, ok := mesh.TagVersion(p.To)
	if o.Proxies == nil || !ok {
		return nil
	}
	proxies, err := o.Proxies(ctx)
	if err != nil {
		return fmt.Errorf("read the proxies' versions: %w", err)
	}
	var components []workload.Ref // go back with their release
	for _, r := range p.Releases {
		if r.Action == Rollback {
			components = append(components, componentsIn(r)...)
		}
	}
	pods, count, newest := newerProxies(without(proxies, components), p.Revision, target)
	if count == 0 || o.Force {
		return nil
	}
	return &gate.Stopped{Reason: fmt.Sprintf("%d proxies are still newer than %s (the newest %s): %s; the injector gives out %s already, and the releases are as they were; delete pods that nothing replaces, give --allow-downtime where their own strategy holds them, and run the command again, or give --force to leave them newer than their control plane",
		count, p.To, newest, named(pods, count), p.To)}
}

// planeOf finds the control plane's release in the plan.
func (a *applier) planeOf(p *RollbackPlan) *ReleasePlan {
	for i := range p.Releases {
		if p.Releases[i].Name == p.plane.Name && p.Releases[i].Namespace == p.plane.Namespace {
			return &p.Releases[i]
		}
	}
	return nil
}
