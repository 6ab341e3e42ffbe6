package rollout

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// startMore starts as many workloads as may move at a time.
func (e *Engine) startMore(ctx context.Context, group *errgroup.Group) {
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
			e.changed(r.Ref)
		}
		if r.phase != sending {
			continue
		}
		group.Go(func() error {
			if r.err = e.send(ctx, r, v.W); r.err == nil && r.Resume {
				r.err = e.clearStuck(ctx, v)
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
	return e.watches[r.Ref.Namespace].see(r.Ref)
}

// next gives the workload that is to start now, nil where none is: canaries
// first and alone, gateways last, and not two behind the same Service while
// there is another choice.
func (e *Engine) next() *run {
	active, canaries := 0, min(e.Options.Canary, len(e.runs))
	busy := map[string]bool{}
	canariesOver := true
	for i, r := range e.runs {
		if r.phase == sending || r.phase == underway {
			active++
			for _, s := range r.Services {
				busy[r.Ref.Namespace+"/"+s] = true
			}
		}
		if i < canaries && r.phase != ended {
			canariesOver = false
		}
	}
	if active >= max(1, e.Options.MaxParallel) {
		return nil
	}
	candidates := e.runs[:canaries]
	if canariesOver {
		if !e.canaryDone {
			e.canaryDone = true
			if canaries > 0 && e.Options.Soak > 0 && canaries < len(e.runs) {
				e.soakUntil = time.Now().Add(e.Options.Soak)
				e.Emit(progress.Event{Kind: progress.Waiting, Message: fmt.Sprintf("the canary is done; soaking for %s", e.Options.Soak)})
			}
		}
		if time.Now().Before(e.soakUntil) {
			return nil
		}
		candidates = e.runs[canaries:]
	}
	var second *run
	sidecarsLeft := false
	for _, r := range candidates {
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
		return e.giveUp(candidates)
	}
	return second
}

// startable says whether a workload may be started as it is now; one that may
// not is named once, and looked at again while others move.
func (e *Engine) startable(r *run) bool {
	why := obstacle(&r.Move, e.see(r))
	if why != "" && why != r.deferred {
		r.deferred = why
		e.Emit(progress.Event{Kind: progress.Waiting, Object: object(r.Ref), Message: why})
	}
	return why == ""
}

// obstacle says why a workload is not started as it is now, "" where nothing
// stands in the way.
func obstacle(m *Move, v sight) string {
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
	case w.Status.ObservedGeneration < w.Generation || !m.Evict && !complete(w, false):
		if w.Status.Available < w.Desired && w.Status.Updated >= w.Desired {
			return fmt.Sprintf("it is unhealthy already: %d of %d pods are available", w.Status.Available, w.Desired)
		}
		return "it is in the middle of a rollout"
	case w.Status.Ready < w.Desired:
		return fmt.Sprintf("it is unhealthy already: %d of %d pods are ready", w.Status.Ready, w.Desired)
	}
	return ""
}

// giveUp ends one of the workloads that cannot be started when nothing else
// moves any more: nothing is left to wait for.
func (e *Engine) giveUp(candidates []*run) *run {
	for _, r := range candidates {
		if r.phase == waiting {
			return r
		}
	}
	return nil
}

// begin takes a workload's turn: it ends at once where nothing is to be done or
// nothing can be done.
func (e *Engine) begin(ctx context.Context, r *run, v sight) {
	now := time.Now()
	why := obstacle(&r.Move, v)
	switch {
	case v.W == nil || v.W.Deleting:
		e.end(ctx, r, Skipped, "it was deleted meanwhile")
		return
	case why != "":
		e.end(ctx, r, Skipped, why)
		return
	case r.Promise.Known && !r.Force && allKept(r.Promise, v):
		e.end(ctx, r, Done, "its pods are new already")
		return
	}
	r.phase, r.result.Started, r.progress = sending, now, now
	follow := !r.writes() || r.Resume && !stuck(v)
	r.start = start{Generation: v.W.Generation, Old: map[types.UID]bool{}}
	for _, pod := range v.Pods {
		proxy, has := workload.ProxyOf(pod.Annotations, &pod.Spec)
		r.start.Old[pod.UID] = !follow || !r.Promise.Kept(proxy, has)
	}
	if follow {
		r.phase = underway
	}
	if !r.Unwatched {
		e.watches[r.Ref.Namespace].forget(r.Ref)
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
		if proxy, has := workload.ProxyOf(pod.Annotations, &pod.Spec); !promise.Kept(proxy, has) {
			return false
		}
	}
	return live >= v.W.Desired
}
