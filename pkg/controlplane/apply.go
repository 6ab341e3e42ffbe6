package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// The outcomes of a release.
const (
	outcomeUpgraded   = "upgraded"
	outcomeUnchanged  = "unchanged"
	outcomeFailed     = "failed"
	outcomeRolledBack = "rolled back"
	outcomeNotStarted = "not started"
)

// Apply does what a plan of NewPlan, made in this process, says: one release
// after the other, each waited for before the next, and the injector asked
// once istiod is new. Refusals of the plan end it before the first write, with
// a *gate.Error; so does a release that has changed since, with a
// *gate.Stopped. The Result is given with an error too.
func Apply(ctx context.Context, c *cluster.Cluster, p *Plan, o Options, emit progress.Emitter) (*Result, error) {
	result := &Result{Releases: []ReleaseResult{}, Warnings: []string{}}
	if err := gate.Check(Step, p.Refusals, o.Force); err != nil {
		return result, err
	}
	a := applier{
		c: c, o: o, emit: emit, plan: p, result: result,
		watch: watcher{c: c, emit: emit, timeout: o.timeout(), now: o.now},
	}
	emit.Emit(progress.Event{Kind: progress.StepStarted, Total: len(p.Releases), Message: "control plane to " + p.Target})
	defer a.putBackRaises(ctx, p.Raised)
	if err := a.raise(ctx, p.Raised); err != nil {
		return result, err
	}
	for i := range p.Releases {
		r := &p.Releases[i]
		if err := a.release(ctx, r); err != nil {
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
	emit.Emit(progress.Event{Kind: progress.StepFinished, Finished: len(p.Releases), Total: len(p.Releases), Message: "control plane is at " + p.Target})
	return result, nil
}

type applier struct {
	c      *cluster.Cluster
	o      Options
	emit   progress.Emitter
	plan   *Plan
	result *Result
	watch  watcher

	warning sync.Mutex // workloads are waited for side by side
}

func objectOf(r *ReleasePlan) progress.Object {
	return progress.Object{Kind: "release", Namespace: r.Namespace, Name: r.Name}
}

// release brings one release to its plan.
func (a *applier) release(ctx context.Context, r *ReleasePlan) error {
	out := ReleaseResult{Name: r.Name, Namespace: r.Namespace, HelmRevision: r.HelmRevision, Outcome: outcomeUnchanged, Message: r.Reason}
	defer func() { a.result.Releases = append(a.result.Releases, out) }()
	if err := a.emit.Pause.Wait(ctx); err != nil {
		return err
	}
	old, err := a.watch.podsNow(ctx, r.Workloads)
	if err != nil {
		return err
	}
	written := r.release
	if r.Action == Upgrade {
		a.emit.Emit(progress.Event{Kind: progress.Started, Object: objectOf(r), Message: r.ChartFrom + " to " + r.ChartTo})
		out.Outcome = outcomeFailed
		if written, err = a.write(ctx, r, "Upgrade to "+a.plan.Target); err != nil {
			out.Message = err.Error()
			return a.putBack(ctx, r, written, &out, err)
		}
		out.Outcome, out.HelmRevision, out.Message = outcomeUpgraded, written.Revision, ""
	} else {
		a.emit.Emit(progress.Event{Kind: progress.Skipped, Object: objectOf(r), Message: r.Reason})
		old = nil // whose pods they are is not ours to say
	}
	if !a.o.Wait || r.Action == None {
		return nil
	}
	if err := a.ready(ctx, r, old); err != nil {
		out.Outcome, out.Message = outcomeFailed, err.Error()
		if ctx.Err() != nil {
			return fmt.Errorf("stopped while %s came up, which it goes on doing by itself; the same command watches it to its end: %w", r.object(), context.Cause(ctx))
		}
		if r.Action != Upgrade {
			return err
		}
		if markErr := helm.MarkFailed(ctx, a.c, written, err.Error(), r.good); markErr != nil {
			err = errors.Join(err, markErr)
		}
		return a.putBack(ctx, r, written, &out, err)
	}
	return nil
}

// write makes the new revision, unless the release is not as it was planned
// for.
func (a *applier) write(ctx context.Context, r *ReleasePlan, description string) (helm.Release, error) {
	if err := a.unchanged(ctx, r); err != nil {
		return helm.Release{}, err
	}
	return helm.Upgrade(ctx, a.c, r.release, r.chart, r.values, helm.ApplyOptions{
		Timeout: a.o.timeout(), Description: description, KeepHistory: r.ToRevision != 0,
		Adjust: carryOver(a.c, r.release.ServerSide),
	})
}

// unchanged looks whether the release is as it was planned for, and ends an
// operation on it that never ended, for which the plan has the go-ahead.
func (a *applier) unchanged(ctx context.Context, r *ReleasePlan) error {
	now, err := helm.Last(ctx, a.c, r.Namespace, r.Name)
	if err != nil {
		return err
	}
	if now.Revision != r.HelmRevision || now.Status != r.release.Status {
		return &gate.Stopped{Reason: fmt.Sprintf("%s is at revision %d (%s) now, not at %d (%s) as in the plan: somebody works on it; run the command again",
			r.object(), now.Revision, now.Status, r.HelmRevision, r.release.Status)}
	}
	if !now.Pending() {
		return nil
	}
	return helm.MarkFailed(ctx, a.c, now, "it never ended; kubectl istio-upgrade went on from there", r.good)
}

// verifier asks the injector for an image, or for a tag where none is named.
func (a *applier) verifier(istioNamespace, tag, image string) verifier {
	return verifier{
		c: a.c, emit: a.emit, timeout: a.o.timeout(), now: a.o.now,
		istioNamespace: istioNamespace, revision: a.plan.Revision, tag: tag, image: image,
	}
}

func (a *applier) warn(about progress.Object, warning string) {
	a.warning.Lock()
	defer a.warning.Unlock()
	a.result.Warnings = append(a.result.Warnings, warning)
	a.emit.Emit(progress.Event{Kind: progress.Warning, Object: about, Message: warning})
}

// ready waits for the release's workloads, and for istiod's to answer for the
// new version.
func (a *applier) ready(ctx context.Context, r *ReleasePlan, old map[uid]bool) error {
	watch := a.watch
	watch.unmet = func(text string) { a.warn(objectOf(r), text) }
	if a.o.EnsureHA {
		watch.least = autoscaledTo(r.rendered.Objects, r.Namespace)
	}
	if err := watch.await(ctx, r.Workloads, old); err != nil {
		return err
	}
	if r.Component != helm.Istiod && r.Component != helm.Istio {
		return nil
	}
	v := a.verifier(r.Namespace, injectedTag(r, a.plan.Target), givenOut(r.rendered.Objects))
	verified, warning, err := v.run(ctx, a.replicas(ctx, r))
	if err != nil {
		return err
	}
	a.result.Verified = verified
	if warning != "" {
		a.warn(objectOf(r), warning)
	}
	return nil
}

// workloadsNow gives the workloads of a release as it was stored.
func workloadsNow(r helm.Release) []workload.Ref {
	objects, err := manifestObjects(r)
	if err != nil {
		return nil
	}
	return workloadsOf(objects, r.Namespace)
}

// replicas gives how many istiods answer.
func (a *applier) replicas(ctx context.Context, r *ReleasePlan) int {
	most := 1
	for _, ref := range r.Workloads {
		if ref.Kind != workload.Deployment {
			continue
		}
		if w, err := a.watch.get(ctx, ref); err == nil {
			most = max(most, int(w.Desired))
		}
	}
	return most
}

// putBack rolls a failed release back, where that was asked for and a revision
// was written.
func (a *applier) putBack(ctx context.Context, r *ReleasePlan, failed helm.Release, out *ReleaseResult, cause error) error {
	good := r.good
	if !a.o.RollbackOnFailure || failed.Revision == 0 || good == 0 || ctx.Err() != nil {
		if failed.Revision == 0 {
			return cause
		}
		out.HelmRevision = failed.Revision
		if good == 0 {
			return fmt.Errorf("%w; release %s in %s is at the failed revision %d and has no good one to go back to: mend the cause and run the command again",
				cause, r.Name, r.Namespace, failed.Revision)
		}
		return fmt.Errorf("%w; the release is at the failed revision %d: mend the cause and run the command again, or run helm rollback %s %d -n %s",
			cause, failed.Revision, r.Name, good, r.Namespace)
	}
	a.emit.Emit(progress.Event{Kind: progress.Updated, Object: objectOf(r), Message: fmt.Sprintf("failed; back to revision %d", good)})
	old, err := a.watch.podsNow(ctx, r.Workloads)
	if err != nil {
		return errors.Join(cause, err)
	}
	if err := helm.Rollback(ctx, a.c, r.release, good, helm.ApplyOptions{
		Timeout: a.o.timeout(), Description: fmt.Sprintf("Rollback to %d", good), Adjust: carryOver(a.c, r.release.ServerSide),
	}); err != nil {
		return errors.Join(cause, err)
	}
	back, err := helm.Last(ctx, a.c, r.Namespace, r.Name)
	if err != nil {
		return errors.Join(cause, err)
	}
	if err := a.watch.await(ctx, workloadsNow(back), old); err != nil {
		return errors.Join(cause, fmt.Errorf("after the rollback: %w", err))
	}
	out.Outcome, out.HelmRevision = outcomeRolledBack, failed.Revision+1
	return fmt.Errorf("%w; the release was rolled back to revision %d", cause, good)
}
