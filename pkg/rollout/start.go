package rollout

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// startMore starts as many workloads as may move at a time.
func (e *Engine) startMore(ctx context.Context) {
	if e.stopped() || ctx.Err() != nil || e.Paused != nil && e.Paused() {
		return
	}
	for {
		r := e.next()
		if r == nil {
			return
		}
		v := e.see(r)
		e.begin(ctx, r, v)
		if r.phase == underway {
			e.feed.changed(r.Ref)
		}
		if r.phase != sending {
			continue
		}
		e.group.Go(func() error {
			began := time.Now()
			r.err = e.send(ctx, r, v.W)
			r.took = time.Since(began)
			if r.err == nil && (r.Resume || r.Anew) {
				r.err = e.clearStuck(ctx, v, func(pod *corev1.Pod) bool {
					return workload.Trouble(pod) != "" || r.Anew && !r.Promise.KeptBy(pod)
				})
			}
			e.sent <- r
			return nil
		})
	}
}

// see gives what is known of a workload: what the watches show, or what the plan
// saw of one that is not watched.
func (e *Engine) see(r *run) sight {
	if r.Unwatched {
		return sight{W: r.Seen}
	}
	return e.feed.see(r.Ref)
}

// next gives the workload that is to start now, nil where none is: canaries
// first and alone, gateways last, and not two behind the same Service while
// there is another choice.
func (e *Engine) next() *run {
	active := 0
	busy := map[string]bool{}
	for _, r := range e.runs {
		if r.phase.busy() {
			active++
			for _, s := range r.Services {
				busy[r.Ref.Namespace+"/"+s] = true
			}
		}
	}
	if active >= e.pace.limit(e.Options.MaxParallel) || e.canariesGoOn(active) {
		return nil
	}
	var second *run
	sidecarsLeft := false
	for _, r := range e.runs {
		if r.phase == ended {
			continue
		}
		if r.Gateway && sidecarsLeft {
			break // gateways stand last; they wait until the sidecars are done
		}
		sidecarsLeft = sidecarsLeft || !r.Gateway
		if r.phase != waiting || !e.startable(r) {
			continue
		}
		conflict := false
		for _, s := range r.Services {
			conflict = conflict || busy[r.Ref.Namespace+"/"+s]
		}
		if !conflict {
			return r
		}
		if second == nil {
			second = r
		}
	}
	if second == nil && active == 0 {
		return e.giveUp()
	}
	return second
}

// canariesGoOn says whether the canaries, with so many workloads on their way,
// leave no place for another, or still soak. As many workloads as there are to
// be canaries must have come through: one that was skipped has proven nothing,
// and the next one takes its place.
func (e *Engine) canariesGoOn(active int) bool {
	if e.Options.Canary <= 0 || e.canaryDone {
		return time.Now().Before(e.soakUntil)
	}
	proven, left := 0, false
	for _, r := range e.runs {
		left = left || r.phase != ended
		if r.phase == ended && e.proves(r) {
			proven++
		}
	}
	if proven < e.Options.Canary {
		return proven+active >= e.Options.Canary
	}
	e.canaryDone = true
	if left && e.Options.Soak > 0 {
		e.soakUntil = time.Now().Add(e.Options.Soak)
		e.Emit(progress.Event{Kind: progress.Waiting, Message: fmt.Sprintf("the canary is done; soaking for %s", e.Options.Soak)})
	}
	return time.Now().Before(e.soakUntil)
}

// proves says whether a workload that has ended counts as a canary: its pods
// were replaced under our eyes and came up. Who goes on whatever happens counts
// failures too.
func (e *Engine) proves(r *run) bool {
	if e.Options.OnFailure == Continue && r.result.Outcome.Bad() {
		return true
	}
	return r.result.Outcome == Done && !r.result.Started.IsZero() && !r.Unwatched
}

// startable says whether a workload may be started as it is now; one that may
// not is named once, and looked at again while others move.
func (e *Engine) startable(r *run) bool {
	why := obstacle(&r.Move, e.see(r), r.overdue)
	if why == "" && slices.ContainsFunc(e.runs, func(o *run) bool {
		return o.starved && o.phase.busy() && o.Ref.Namespace == r.Ref.Namespace
	}) {
		why = "the quota of its namespace has no room for one more at a time"
	}
	if why != "" && why != r.deferred {
		r.deferred = why
		e.Emit(progress.Event{Kind: progress.Waiting, Object: object(r.Ref), Message: why})
	}
	return why == ""
}

// obstacle says why a workload is not started as it is now, "" where nothing
// stands in the way. What it waits for is overdue where that has made no progress
// for too long.
func obstacle(m *Move, v sight, overdue bool) string {
	w := v.W
	switch {
	case w == nil || w.Deleting, m.Unwatched:
		return ""
	case !m.writes() && !m.Evict, m.Resume && !w.Paused && w.Desired > 0:
		return ""
	case w.Paused:
		return "it is paused"
	case w.Desired == 0:
		return "it is scaled to zero: its next pods will be new"
	case w.RestartAt != "" && w.RestartAt != w.RestartedAt:
		return "it is being restarted"
	case m.Anew && (overdue || troubled(v)) && m.hangs(v):
		return ""
	case w.Status.ObservedGeneration < w.Generation || !m.Evict && !complete(w, false):
		if w.Status.Available < w.Desired && w.Status.Updated >= w.Desired {
			if m.Cures {
				return ""
			}
			return fmt.Sprintf("it is unhealthy already: %d of %d pods are available", w.Status.Available, w.Desired)
		}
		return "it is in the middle of a rollout"
	case w.Status.Ready < w.Desired && !m.Cures:
		return fmt.Sprintf("it is unhealthy already: %d of %d pods are ready", w.Status.Ready, w.Desired)
	}
	return ""
}

// hangs says whether a pod that is not as promised does not come up.
func (m *Move) hangs(v sight) bool {
	return slices.ContainsFunc(v.Pods, func(pod *corev1.Pod) bool {
		return pod.DeletionTimestamp == nil && !workload.Ready(pod) && !m.Promise.KeptBy(pod)
	})
}

// giveUp ends one of the workloads that cannot be started when nothing else
// moves any more. What passes by itself is waited for, as long as it gets on.
func (e *Engine) giveUp() *run {
	now := time.Now()
	for _, r := range e.runs {
		if r.phase != waiting {
			continue
		}
		v := e.see(r)
		if !passes(&r.Move, v) {
			return r
		}
		s := v.W.Status
		r.watchTemplate(v.W)
		if r.gotOn(fingerprint{Updated: s.Updated, Ready: s.Ready, Rolled: s.Updated, Available: s.Available, Desired: v.W.Desired, Observed: s.ObservedGeneration}, now); now.Sub(r.progress) >= e.Options.Timeout {
			r.overdue = true
			return r
		}
	}
	return nil
}

// passes says whether what keeps a workload from being started ends by itself: a
// rollout or a restart that is under way and in no trouble, or pods that have not
// been ready for long enough. Pods that are evicted need no rollout to end.
func passes(m *Move, v sight) bool {
	w := v.W
	switch {
	case w == nil || m.Evict || w.Deleting || w.Paused || w.Desired == 0 || troubled(v):
		return false
	case w.Status.ObservedGeneration < w.Generation, w.RestartAt != "" && w.RestartAt != w.RestartedAt:
		return true
	}
	return !complete(w, false) && (w.Status.Updated < w.Desired || w.Status.Ready >= w.Desired)
}

// begin takes a workload's turn: it ends at once where nothing is to be done or
// nothing can be done.
func (e *Engine) begin(ctx context.Context, r *run, v sight) {
	now := time.Now()
	why := obstacle(&r.Move, v, r.overdue)
	if why == "" && r.Holds != nil && v.W != nil {
		why = r.Holds(v.W)
	}
	switch {
	case v.W == nil || v.W.Deleting:
		e.end(ctx, r, Skipped, wasDeleted)
		return
	case why != "":
		e.end(ctx, r, Skipped, why)
		return
	case (r.writes() || r.Evict) && r.Promise.Known && !r.Force && !r.Resume && allKept(r.Promise, v):
		e.end(ctx, r, Done, "its pods are new already")
		return
	}
	r.phase, r.result.Started, r.progress = sending, now.UTC(), now
	r.print, r.looked, r.template, r.anew = fingerprint{}, false, seen{}, 0
	follow := !r.writes() || r.Resume && !stuck(v)
	r.start = start{Generation: v.W.Generation, Old: map[types.UID]bool{}}
	for _, pod := range v.Pods {
		r.start.Old[pod.UID] = !follow || !r.Promise.KeptBy(pod)
	}
	if follow {
		r.phase = underway
	}
	if !r.Unwatched {
		e.feed.forget(r.Ref)
	}
	e.Emit(progress.Event{
		Kind: progress.Started, Object: object(r.Ref), Desired: int(v.W.Desired),
		Finished: e.finished(), Total: len(e.runs),
	})
}

// allKept says whether every live pod runs what was promised, as when somebody
// else has restarted the workload since the plan was made.
func allKept(promise workload.Promise, v sight) bool {
	live := int32(0)
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		live++
		if !promise.KeptBy(pod) {
			return false
		}
	}
	return live >= v.W.Desired
}
