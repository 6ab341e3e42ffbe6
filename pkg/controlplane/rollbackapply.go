package controlplane

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
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
	defer a.putBackRaises(ctx, p.Raised)
	if p.InjectorFirst() {
		if err := a.formerProxies(ctx, p, o); err != nil {
			return result, err
		}
	}
	checked := !p.InjectorFirst()
	for i := range p.Releases {
		r := &p.Releases[i]
		var err error
		if !checked && r.Component != helm.Gateway {
			checked = true
			err = a.gatewaysBack(ctx, p, o)
		}
		if err == nil {
			err = a.back(ctx, r)
		}
		if err != nil {
			emit.Emit(progress.Event{Kind: progress.Failed, Object: objectOf(r), Message: err.Error()})
			for _, left := range p.Releases[len(result.Releases):] {
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

// back brings one release back.
func (a *applier) back(ctx context.Context, r *ReleasePlan) error {
	out := ReleaseResult{Name: r.Name, Namespace: r.Namespace, HelmRevision: r.HelmRevision, Outcome: outcomeUnchanged, Message: r.Reason}
	defer func() { a.result.Releases = append(a.result.Releases, out) }()
	if err := a.emit.Pause.Wait(ctx); err != nil {
		return err
	}
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
		Adjust: carryBack(a.c, r.serverSide),
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
	if isPlane(r.release) {
		return a.answersAgain(ctx, r)
	}
	return nil
}

// answersAgain asks the injector once the control plane is back. That it does
// not answer is worth a warning: the way back must not hang on the webhook.
func (a *applier) answersAgain(ctx context.Context, r *ReleasePlan) error {
	verified, warning, err := a.verifier(r.Namespace, a.plan.Target, givenOut(r.rendered.Objects)).run(ctx, a.replicas(ctx, r))
	var timeout *gate.Timeout
	switch {
	case errors.As(err, &timeout):
		warning = timeout.Reason
	case err != nil:
		return err
	}
	a.result.Verified = verified
	if warning != "" {
		a.warn(objectOf(r), warning)
	}
	return nil
}
