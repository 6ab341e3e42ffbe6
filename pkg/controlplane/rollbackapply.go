package controlplane

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// ApplyRollback does what a plan of NewRollbackPlan, made in this process,
// says. With the proxies first, the injector gives out the former proxy while
// istiod stays, the workloads are rolled, and then the releases go back.
// Refusals end it before the first write, with a *gate.Error.
func ApplyRollback(ctx context.Context, c *cluster.Cluster, p *RollbackPlan, o RollbackOptions, emit progress.Emitter) (*Result, error) {
	result := &Result{Releases: []ReleaseResult{}, Warnings: []string{}}
	if err := gate.Check(RollbackStep, p.Refusals, o.Force); err != nil {
		return result, err
	}
	a := applier{
		c: c, o: o.Options, emit: emit, plan: &Plan{Target: p.To, Revision: p.Revision}, result: result,
		watch: watcher{c: c, emit: emit, timeout: o.timeout(), now: o.now},
	}
	emit.Emit(progress.Event{Kind: progress.StepStarted, Total: len(p.Releases), Message: "control plane back to " + p.To})
	if p.ProxiesFirst {
		if err := a.proxiesFirst(ctx, p, o); err != nil {
			return result, err
		}
	}
	for i := range p.Releases {
		r := &p.Releases[i]
		if err := a.back(ctx, r); err != nil {
			emit.Emit(progress.Event{Kind: progress.Failed, Object: objectOf(r), Message: err.Error()})
			for _, left := range p.Releases[i+1:] {
				result.Releases = append(result.Releases, ReleaseResult{
					Name: left.Name, Namespace: left.Namespace, HelmRevision: left.HelmRevision, Outcome: outcomeNotStarted,
				})
			}
			return result, err
		}
		emit.Emit(progress.Event{
			Kind: progress.Done, Object: objectOf(r), Finished: i + 1, Total: len(p.Releases),
			Message: result.Releases[i].Outcome,
		})
	}
	emit.Emit(progress.Event{Kind: progress.StepFinished, Finished: len(p.Releases), Total: len(p.Releases), Message: "control plane is at " + p.To})
	return result, nil
}

// proxiesFirst makes the injector give out the former proxy and rolls the
// workloads. Istiod keeps its version by pilot.tag, which the release loses
// again when it goes back.
func (a *applier) proxiesFirst(ctx context.Context, p *RollbackPlan, o RollbackOptions) error {
	if o.RollWorkloads == nil {
		return fmt.Errorf("roll the workloads back: no way to do so was given")
	}
	r := a.planeOf(p)
	if r == nil {
		return fmt.Errorf("%s is not in the plan", p.plane)
	}
	values := helm.Reuse(p.plane.Values, map[string]any{
		"global": p.oldTags, "pilot": map[string]any{"tag": p.From},
	})
	if len(valueChanges(p.plane.Values, values)) > 0 {
		a.emit.Emit(progress.Event{Kind: progress.Started, Object: objectOf(r), Message: "istiod stays, sidecars go back to " + p.To})
		between := *r
		between.chart, between.values, between.Action = p.plane.Chart, values, Upgrade
		written, err := a.write(ctx, &between, "Sidecars back to "+p.To)
		if err != nil {
			return err
		}
		r.HelmRevision, r.release = written.Revision, written
	}
	if err := a.watch.await(ctx, workloadsNow(p.plane), nil); err != nil {
		return err
	}
	v := a.verifier(p.plane.Namespace, p.To)
	v.anyAnswer = true
	if _, warning, err := v.run(ctx, 1); err != nil {
		return err
	} else if warning != "" {
		a.warn(r, warning)
	}
	if err := o.RollWorkloads(ctx); err != nil {
		return fmt.Errorf("roll the workloads back: %w", err)
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
	pods, count, newest := newerProxies(proxies, p.Revision, target)
	if count == 0 || o.Force {
		return nil
	}
	return &gate.Stopped{Reason: fmt.Sprintf("%d proxies are still newer than %s (the newest %s): %s; move them and run the command again, or give --force",
		count, p.To, newest, named(pods, count))}
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

// back brings one release back.
func (a *applier) back(ctx context.Context, r *ReleasePlan) error {
	out := ReleaseResult{Name: r.Name, Namespace: r.Namespace, HelmRevision: r.HelmRevision, Outcome: outcomeUnchanged, Message: r.Reason}
	defer func() { a.result.Releases = append(a.result.Releases, out) }()
	if r.Action != Rollback {
		a.emit.Emit(progress.Event{Kind: progress.Skipped, Object: objectOf(r), Message: r.Reason})
		return nil
	}
	old, err := a.watch.podsNow(ctx, r.Workloads)
	if err != nil {
		return err
	}
	a.emit.Emit(progress.Event{Kind: progress.Started, Object: objectOf(r), Message: r.Reason})
	out.Outcome = outcomeFailed
	if err := a.unchanged(ctx, r); err != nil {
		out.Message = err.Error()
		return err
	}
	if err := helm.Rollback(ctx, a.c, r.release, r.ToRevision, helm.ApplyOptions{
		Timeout: a.o.timeout(), Description: fmt.Sprintf("Rollback to %d (%s)", r.ToRevision, a.plan.Target),
		Adjust: carryOver(a.c, r.serverSide),
	}); err != nil {
		out.Message = err.Error()
		return err
	}
	out.Outcome, out.HelmRevision, out.Message = outcomeRolledBack, r.HelmRevision+1, ""
	if !a.o.Wait {
		return nil
	}
	if err := a.watch.await(ctx, r.Workloads, old); err != nil {
		out.Message = err.Error()
		return err
	}
	if r.Component == helm.Istiod || r.Component == helm.Istio {
		return a.answersAgain(ctx, r)
	}
	return nil
}

// answersAgain asks the injector once the control plane is back. That it does
// not answer is worth a warning: the way back must not hang on the webhook.
func (a *applier) answersAgain(ctx context.Context, r *ReleasePlan) error {
	verified, warning, err := a.verifier(r.Namespace, a.plan.Target).run(ctx, a.replicas(ctx, r))
	var timeout *gate.Timeout
	switch {
	case errors.As(err, &timeout):
		warning = timeout.Reason
	case err != nil:
		return err
	}
	a.result.Verified = verified
	if warning != "" {
		a.warn(r, warning)
	}
	return nil
}
