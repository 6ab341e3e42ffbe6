package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// untouched is how long a workload that something else moves, and that is only
// watched, may stand there as it was.
const untouched = 30 * time.Second

// look judges a workload that moves, tells of what is new, and ends it where
// its end is known.
func (e *Engine) look(ctx context.Context, r *run) {
	v := e.feed.see(r.Ref)
	now := time.Now()
	if r.starved {
		r.room(e.makesRoom(r, now), now)
	}
	v.Freeing = r.freeing
	j := judge(&r.Move, r.start, v, e.Options.Patience, now)
	r.starved = j.Blocked != nil && j.Blocked.starved()
	print := fingerprint{Updated: j.Updated, Ready: j.Fresh, Desired: j.Desired}
	if v.W != nil {
		print.Rolled, print.Available, print.Observed = v.W.Status.Updated, v.W.Status.Available, v.W.Status.ObservedGeneration
		r.watchTemplate(v.W)
	}
	made := print.Updated > r.print.Updated
	if r.gotOn(print, now); made {
		e.feed.gotOn(r.Ref)
	}
	switch j.State {
	case arrived:
		e.end(ctx, r, Done, "")
	case failed:
		e.end(ctx, r, Failed, j.Message)
	case reverted:
		e.end(ctx, r, Reverted, j.Message+e.whoTouched(ctx, r))
	case overtaken:
		e.end(ctx, r, Skipped, "it was changed meanwhile"+e.whoTouched(ctx, r)+", and "+j.Message)
	case strayed:
		e.confirmStray(ctx, r, j)
	case gone, held:
		e.end(ctx, r, Skipped, j.Message)
	case moving:
		r.strayed = false
		if r.Evict {
			e.evictNext(ctx, r, v)
		}
		if !r.writes() && !r.Evict && !r.Resume && v.W.Generation == r.start.Generation && complete(v.W, false) && now.Sub(r.progress) >= untouched {
			e.end(ctx, r, Skipped, fmt.Sprintf("what moves it has not begun to in %s", untouched))
			return
		}
		if r.phase == underway && now.Sub(r.progress) >= e.Options.Timeout {
			e.end(ctx, r, TimedOut, fmt.Sprintf("no progress for %s: %s", e.Options.Timeout, standstill(j, v, now)))
			return
		}
		e.tell(r, j)
		if r.phase == underway && j.Blocked != nil && !r.warned {
			r.warned = true
			e.Emit(progress.Event{Kind: progress.Waiting, Object: object(r.Ref), Message: j.Blocked.Text})
		}
	}
}

// gotOn notes whether a workload got on since it was last looked at: whether fewer
// pods are left than ever before, since its template was last changed. What comes and
// goes is no progress: a pod's readiness, a node, a replica of an autoscaler.
func (r *run) gotOn(print fingerprint, now time.Time) {
	r.fed = r.fed || r.starved && print.Updated > r.print.Updated
	left, on := print.left(), !r.looked
	r.print, r.looked = print, true
	if r.anew != 0 && print.Observed >= r.anew {
		r.anew, on = 0, true
	}
	if on {
		r.least = left
	}
	for i := range left {
		if left[i] < r.least[i] {
			r.least[i], on = left[i], true
		}
	}
	if on {
		r.progress, r.warned = now, false
	}
}

// watchTemplate notes that somebody has given the workload another template, whose
// rollout begins as soon as its controller has seen it.
func (r *run) watchTemplate(w *workload.Workload) {
	if w.Generation == r.template.generation {
		return
	}
	h := fnv.New64a()
	if err := json.NewEncoder(h).Encode(w.Template); err != nil {
		return
	}
	now := seen{w.Generation, h.Sum64()}
	if r.template.generation != 0 && now.hash != r.template.hash {
		r.anew = w.Generation
	}
	r.template = now
}

// room notes when there was last a prospect of room in the quota that a workload
// is short of. One of which pods were made all the same lives on what its own
// old pods leave: only the controller's next attempt is waited for, and how long
// that takes cannot be seen from here, since its steps double with each refusal.
// That is no progress, so the timeout holds.
func (r *run) room(others bool, now time.Time) {
	switch {
	case others:
		r.freeing, r.progress = now, now
	case r.fed:
		r.freeing = now
	}
}

// makesRoom says whether something else in a workload's namespace may yet free
// what its quota holds: another rollout that gets on, or pods that end.
func (e *Engine) makesRoom(r *run, now time.Time) bool {
	for _, other := range e.runs {
		if other != r && other.Ref.Namespace == r.Ref.Namespace && other.phase.busy() && !other.starved {
			return true
		}
	}
	return e.feed.ending(r.Ref, now)
}

// confirmStray looks twice, a tick apart, before it says that pods are not as
// promised: the watch of the pods may lag behind that of the workload.
func (e *Engine) confirmStray(ctx context.Context, r *run, j judgement) {
	if r.strayed && time.Since(r.progress) >= 2*tick {
		e.end(ctx, r, NotConverged, j.Message)
		return
	}
	r.strayed = true
	e.tell(r, j)
}

// lost is how long a pod may take to end, beyond its grace period, before its
// node is thought to be lost.
const lost = 30 * time.Second

// standstill says what a workload without progress hangs on: what it was warned
// of last, a pod that fits no
// node, one that does not end because its node does not answer, one that is not
// ready.
func standstill(j judgement, v sight, now time.Time) string {
	if j.Blocked != nil {
		return j.Message + "; " + j.Blocked.Text
	}
	notReady := ""
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil {
			// The timestamp is when its grace period ends.
			if over := now.Sub(pod.DeletionTimestamp.Time); over > lost {
				return fmt.Sprintf("%s; pod %s should have ended %s ago: does its node %s answer?", j.Message, pod.Name, over.Round(time.Second), pod.Spec.NodeName)
			}
			continue
		}
		if why := workload.Unschedulable(pod); why != "" {
			return j.Message + "; pod " + pod.Name + " " + why
		}
		if !workload.Ready(pod) {
			notReady = "; pod " + pod.Name + " is not ready"
		}
	}
	return j.Message + notReady
}

// tell emits the counts of a workload that moves, when they are new.
func (e *Engine) tell(r *run, j judgement) {
	if r.phase != underway || j.Message == r.told {
		return
	}
	r.told = j.Message
	e.Emit(progress.Event{
		Kind: progress.Updated, Object: object(r.Ref), Message: j.Message,
		Updated: int(j.Updated), Ready: int(j.Ready), Desired: int(j.Desired),
	})
}
