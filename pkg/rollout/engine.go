package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// tick is how often clocks are looked at: timeouts, patience and evictions that
// a PodDisruptionBudget holds back. Rollouts themselves are never polled.
const tick = 500 * time.Millisecond

// Engine moves workloads.
type Engine struct {
	Cluster *cluster.Cluster
	Options Options
	Emit    func(progress.Event)
	// Paused, where set, says that nothing new is to start for now.
	Paused func() bool

	runs    []*run
	byRef   map[workload.Ref]*run
	watches map[string]*watches

	mu    sync.Mutex
	dirty map[workload.Ref]bool
	wake  chan struct{}
	sent  chan *run

	failures   int
	soakUntil  time.Time
	canaryDone bool
}

// run is a move under way.
type run struct {
	Move
	index    int
	phase    phase
	result   Result
	start    start
	undo     Change
	deferred string // why it was passed over, as last told
	print    fingerprint
	progress time.Time // when it last got on
	told     string
	strayed  bool
	err      error
}

type phase int

const (
	waiting phase = iota
	sending
	underway
	ended
)

// fingerprint changes when a workload gets on.
type fingerprint struct {
	Updated, Ready, Available, Desired int32
	Generation                         int64
}

// Run moves the workloads, in their order as far as it can, and gives one
// result for each in the order of the moves. The error says why the run as a
// whole ended early: the context's, or that the API server could not be
// watched; failures of single workloads are in their results.
func (e *Engine) Run(ctx context.Context, moves []Move) ([]Result, error) {
	e.byRef, e.dirty = map[workload.Ref]*run{}, map[workload.Ref]bool{}
	e.wake, e.sent = make(chan struct{}, 1), make(chan *run, len(moves))
	e.runs = make([]*run, 0, len(moves))
	for i, m := range moves {
		r := &run{Move: m, index: i, result: Result{Ref: m.Ref, Outcome: NotStarted}}
		e.runs = append(e.runs, r)
		e.byRef[m.Ref] = r
	}
	var err error
	if e.Options.Wait {
		err = e.watchAndMove(ctx)
	} else {
		err = e.sendAll(ctx)
	}
	results := make([]Result, 0, len(moves))
	for _, r := range e.runs {
		results = append(results, r.result)
	}
	return results, err
}

// watchAndMove is the loop: one goroutine owns all that changes.
func (e *Engine) watchAndMove(ctx context.Context) error {
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.openWatches(watchCtx); err != nil {
		return err
	}
	defer func() {
		cancel()
		for _, w := range e.watches {
			w.stop()
		}
	}()
	group, sendCtx := errgroup.WithContext(ctx)
	defer func() { _ = group.Wait() }() // what was sent bears its own error
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		e.startMore(sendCtx, group)
		if e.over() {
			return nil
		}
		select {
		case <-ctx.Done():
			e.interrupted()
			return context.Cause(ctx)
		case r := <-e.sent:
			e.afterSending(ctx, r)
		case <-e.wake:
			for _, ref := range e.takeDirty() {
				if r := e.byRef[ref]; r != nil && r.phase == underway {
					e.look(ctx, r)
				}
			}
		case <-ticker.C:
			for _, r := range e.runs {
				if r.phase == underway {
					e.look(ctx, r)
				}
			}
		}
	}
}

// openWatches opens the watches of every namespace in which something moves.
func (e *Engine) openWatches(ctx context.Context) error {
	kinds := map[string]map[string]bool{}
	for _, r := range e.runs {
		if r.Unwatched {
			continue
		}
		if kinds[r.Ref.Namespace] == nil {
			kinds[r.Ref.Namespace] = map[string]bool{}
		}
		kinds[r.Ref.Namespace][r.Ref.Kind] = true
	}
	e.watches = map[string]*watches{}
	group, groupCtx := errgroup.WithContext(ctx)
	for namespace, set := range kinds {
		w, err := newWatches(e.Cluster, namespace, slices.Sorted(maps.Keys(set)), e.changed)
		if err != nil {
			return err
		}
		e.watches[namespace] = w
		w.start(ctx)
		group.Go(func() error { return w.synchronise(groupCtx) })
	}
	return group.Wait()
}

// changed marks a workload to be looked at, and wakes the loop.
func (e *Engine) changed(ref workload.Ref) {
	e.mu.Lock()
	e.dirty[ref] = true
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *Engine) takeDirty() []workload.Ref {
	e.mu.Lock()
	defer e.mu.Unlock()
	refs := slices.Collect(maps.Keys(e.dirty))
	clear(e.dirty)
	return refs
}

// look judges a workload that moves, tells of what is new, and ends it where
// its end is known.
func (e *Engine) look(ctx context.Context, r *run) {
	watches := e.watches[r.Ref.Namespace]
	v := watches.see(r.Ref)
	now := time.Now()
	j := judge(&r.Move, r.start, v, e.Options.Patience, now)
	print := fingerprint{Updated: j.Updated, Ready: j.Ready, Desired: j.Desired}
	if v.W != nil {
		print.Available, print.Generation = v.W.Status.Available, v.W.Status.ObservedGeneration
	}
	if print != r.print {
		r.print, r.progress = print, now
		watches.forget(r.Ref)
	}
	switch j.State {
	case arrived:
		e.end(ctx, r, Done, "")
	case failed:
		e.end(ctx, r, Failed, j.Message)
	case reverted:
		e.end(ctx, r, Reverted, j.Message+e.whoTouched(ctx, r))
	case strayed:
		e.confirmStray(ctx, r, j)
	case gone, held:
		e.end(ctx, r, Skipped, j.Message)
	case moving:
		r.strayed = false
		if r.Evict {
			e.evictNext(ctx, r, v)
		}
		if now.Sub(r.progress) >= e.Options.Timeout {
			e.end(ctx, r, TimedOut, fmt.Sprintf("no progress for %s: %s", e.Options.Timeout, standstill(j, v)))
			return
		}
		e.tell(r, j)
	}
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

// standstill says what a workload without progress hangs on.
func standstill(j judgement, v sight) string {
	text := j.Message
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		if why := workload.Unschedulable(pod); why != "" {
			return text + "; pod " + pod.Name + " " + why
		}
		if !workload.Ready(pod) {
			text = j.Message + "; pod " + pod.Name + " is not ready"
		}
	}
	return text
}

// tell emits the counts of a workload that moves, when they are new.
func (e *Engine) tell(r *run, j judgement) {
	if j.Message == r.told {
		return
	}
	r.told = j.Message
	e.Emit(progress.Event{
		Kind: progress.Updated, Object: object(r.Ref), Message: j.Message,
		Updated: int(j.Updated), Ready: int(j.Ready), Desired: int(j.Desired),
	})
}

// end closes a workload's move.
func (e *Engine) end(ctx context.Context, r *run, outcome Outcome, message string) {
	r.phase = ended
	r.result.Outcome, r.result.Message, r.result.Ended = outcome, message, time.Now()
	event := progress.Event{Object: object(r.Ref), Message: message, Finished: e.finished(), Total: len(e.runs)}
	switch {
	case outcome == Done || outcome == Sent:
		event.Kind = progress.Done
	case outcome.Bad():
		event.Kind = progress.Failed
		e.failures++
		if e.Options.OnFailure == Undo && r.undo.Undo != nil && (outcome == Failed || outcome == TimedOut) {
			event.Message += e.takeBack(ctx, r)
		}
	default:
		event.Kind = progress.Skipped
	}
	e.Emit(event)
}

func (e *Engine) finished() int {
	n := 0
	for _, r := range e.runs {
		if r.phase == ended {
			n++
		}
	}
	return n
}

// over says whether nothing moves and nothing is to be started any more.
func (e *Engine) over() bool {
	for _, r := range e.runs {
		if r.phase == sending || r.phase == underway || r.phase == waiting && !e.stopped() {
			return false
		}
	}
	return true
}

// stopped says whether so many have failed that nothing new starts.
func (e *Engine) stopped() bool {
	return e.Options.OnFailure != Continue && e.failures >= max(1, e.Options.MaxFailures)
}

// Halted says whether the run ended because of failures, with work left.
func (e *Engine) Halted() bool {
	return e.stopped() && slices.ContainsFunc(e.runs, func(r *run) bool { return r.result.Outcome == NotStarted })
}

// interrupted notes what is half done when the run is cut short.
func (e *Engine) interrupted() {
	for _, r := range e.runs {
		if r.phase == sending || r.phase == underway {
			r.result.Outcome = InFlight
			r.result.Message = "its controller goes on with it"
			if r.Evict {
				r.result.Message = "the pods not yet evicted stay as they are"
			}
		}
	}
}

func object(ref workload.Ref) progress.Object {
	return progress.Object{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}
