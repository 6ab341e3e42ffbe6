package rollout

import (
	"context"
	"slices"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// end ends a workload's move. One that has failed is first put back, where that
// is wanted.
func (e *Engine) end(ctx context.Context, r *run, outcome Outcome, message string) {
	r.result.Outcome, r.result.Message, r.result.OutOfTime = outcome, message, outcome == TimedOut
	if outcome.Bad() {
		e.failures++
		e.canaryFailed = e.canaryFailed || e.Options.Canary > 0 && !e.canaryDone
	}
	if e.Options.OnFailure == Undo && r.undo.undoable() && (outcome == Failed || outcome == TimedOut) {
		e.takeBack(ctx, r)
		return
	}
	e.closeRun(r)
}

// closeRun tells of the end of a workload's move.
func (e *Engine) closeRun(r *run) {
	r.phase, r.result.Ended = ended, time.Now().UTC()
	event := progress.Event{Object: object(r.Ref), Message: r.result.Message, Finished: e.finished(), Total: len(e.runs)}
	switch outcome := r.result.Outcome; {
	case outcome == Done || outcome == Sent:
		event.Kind = progress.Done
	case outcome.Bad():
		event.Kind = progress.Failed
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
		if r.phase.busy() || r.phase == waiting && !e.stopped() {
			return false
		}
	}
	return true
}

// stopped says whether so many have failed that nothing new starts: one is
// enough among the canaries.
func (e *Engine) stopped() bool {
	return e.Options.OnFailure != Continue && (e.canaryFailed || e.failures >= max(1, e.Options.MaxFailures))
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
			e.Emit(progress.Event{Kind: progress.Warning, Object: object(r.Ref), Message: string(InFlight) + ": " + r.result.Message})
		}
	}
}
