package rollout

import (
	"context"
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

	runs  []*run
	byRef map[workload.Ref]*run
	feed  feed

	group     *errgroup.Group // what is being sent or taken back
	sent      chan *run
	takenBack chan *run

	pace         pace
	failures     int
	soakUntil    time.Time
	canaryDone   bool
	canaryFailed bool
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
	looked   bool      // it has been looked at since it was begun
	least    [4]int32  // the fewest pods left so far, by the fingerprint's kinds
	template seen      // as last looked at
	anew     int64     // the generation with which its rollout begins once more
	progress time.Time // when it last got on
	overdue  bool      // what it waits for has made no progress for too long
	told     string
	strayed  bool
	warned   bool          // it was told what it may fail by
	starved  bool          // a quota has no room for it
	fed      bool          // pods of it were made all the same
	freeing  time.Time     // when others were last seen to make some
	err      error         // of its change, or of taking it back
	took     time.Duration // until its change was answered
}

type phase int

const (
	waiting phase = iota
	sending
	underway
	undoing // it has failed, and its change is being taken back
	ended
)

// busy says whether something of the run is on its way.
func (p phase) busy() bool { return p == sending || p == underway || p == undoing }

// fingerprint is by what a workload gets on.
type fingerprint struct {
	// Updated pods are new, Ready ones of them ready; Rolled ones are of the
	// template of the moment and Available ones available, as the controller
	// says.
	Updated, Ready, Rolled, Available int32
	Desired                           int32
	// Observed is the generation of which the controller says so.
	Observed int64
}

// seen is a generation of a workload and what tells its template from others.
type seen struct {
	generation int64
	hash       uint64
}

// left gives how many pods are left to become each of these.
func (f fingerprint) left() [4]int32 {
	return [4]int32{f.Desired - f.Updated, f.Desired - f.Ready, f.Desired - f.Rolled, f.Desired - f.Available}
}

// Run moves the workloads, in their order as far as it can, and gives one
// result for each in the order of the moves. The error says why the run as a
// whole ended early: the context's, or that the API server could not be
// watched; failures of single workloads are in their results.
func (e *Engine) Run(ctx context.Context, moves []Move) ([]Result, error) {
	e.byRef = map[workload.Ref]*run{}
	e.sent, e.takenBack = make(chan *run, len(moves)), make(chan *run, len(moves))
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
	if err := e.feed.open(ctx, e.Cluster, e.byRef); err != nil {
		return err
	}
	defer e.feed.close()
	var sendCtx context.Context
	e.group, sendCtx = errgroup.WithContext(ctx)
	defer e.finishUndoing()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		e.startMore(sendCtx)
		if e.over() {
			e.tellNewcomers()
			return nil
		}
		select {
		case <-ctx.Done():
			e.interrupted()
			return context.Cause(ctx)
		case r := <-e.sent:
			e.afterSending(ctx, r)
		case r := <-e.takenBack:
			e.afterUndoing(r)
		case <-e.feed.wake:
			for _, ref := range e.feed.takeDirty() {
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

// tellNewcomers names the workloads that came into being during the run, in the
// namespaces that it worked on.
func (e *Engine) tellNewcomers() {
	for _, ref := range e.feed.arrivals() {
		e.Emit(progress.Event{
			Kind: progress.Warning, Object: object(ref),
			Message: "it was created during the run and is no part of it: run this again to see whether it is up to date",
		})
	}
}

func object(ref workload.Ref) progress.Object {
	return progress.Object{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}
