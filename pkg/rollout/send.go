package rollout

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// send makes the change of a workload from what w shows of it, and writes it.
func (e *Engine) send(ctx context.Context, r *run, w *workload.Workload) error {
	change, generation, err := e.write(ctx, r, w)
	if err != nil {
		return err
	}
	r.undo = change
	r.start.Generation, r.start.StampKey, r.start.Stamp, r.start.Image = generation, change.StampKey, change.Stamp, change.Image
	r.start.GracePeriod, r.start.RestartAt, r.start.At = change.GracePeriod, change.RestartAt, change.At
	if r.Apply == nil && w != nil {
		r.start.Before = &w.Template
	}
	return nil
}

func (e *Engine) write(ctx context.Context, r *run, w *workload.Workload) (Change, int64, error) {
	if r.Apply != nil {
		return r.Apply(ctx)
	}
	change, err := r.Change(w)
	if err != nil {
		return change, 0, err
	}
	written, err := e.patch(ctx, r.Ref, change, change.Patch)
	if err != nil {
		return change, 0, err
	}
	change.At = WrittenAt(written.ManagedFields, change.Manager)
	return change, written.Generation, nil
}

// patch sends a patch and gives the object's metadata after it. It may be sent
// twice, while the API server is restarted: it says what is to be, not what is
// to be added.
func (e *Engine) patch(ctx context.Context, ref workload.Ref, change Change, patch []byte) (*metav1.PartialObjectMetadata, error) {
	resource, ok := ref.Resource()
	if !ok {
		return nil, fmt.Errorf("patch %s: a %s cannot be patched", ref.In(), ref.Kind)
	}
	options := metav1.PatchOptions{FieldManager: change.Manager}
	var obj *metav1.PartialObjectMetadata
	err := e.Cluster.Persist(ctx, func(ctx context.Context) (err error) {
		obj, err = e.Cluster.Metadata.Resource(resource).Namespace(ref.Namespace).Patch(ctx, ref.Name, change.Type, patch, options)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("patch %s: %w", ref.In(), err)
	}
	return obj, nil
}

// afterSending goes on with a workload whose change was sent or could not be.
func (e *Engine) afterSending(ctx context.Context, r *run) {
	if r.err == nil {
		e.pace.answered(r.took, e.Options.MaxParallel)
	}
	switch {
	case r.err == nil && r.Unwatched:
		r.result.Sent = r.undo.Patch != nil
		e.end(ctx, r, Done, "")
	case r.err == nil:
		r.phase, r.result.Sent, r.progress = underway, r.undo.Patch != nil, time.Now()
		e.look(ctx, r)
	case apierrors.IsNotFound(r.err):
		e.end(ctx, r, Skipped, wasDeleted)
	case terminating(r.err.Error()):
		e.end(ctx, r, Skipped, namespaceEnds)
	case ctx.Err() != nil:
		// The loop notes what was half done.
	default:
		r.result.Sent = r.undo.Patch != nil // and what was to follow has failed
		e.end(ctx, r, Failed, r.err.Error())
	}
}

// parallelSends is how many changes are on their way at a time where nobody
// waits for the pods. Fewer would leave the API server to the controllers, which
// are at work on the first ones by then; more wait for one of the 100 streams that
// the API server gives a connection (k8s.io/apiserver pkg/server/secure_serving.go).
const parallelSends = 100

// sendAll sends the changes, made from what the plan saw, and watches nothing.
// What could not be started then is named and left alone, as are workloads whose
// pods would be evicted, which needs a watch. After so many refusals as make an
// end nothing more is sent.
func (e *Engine) sendAll(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(max(1, e.Options.MaxParallel), parallelSends))
	var failures atomic.Int32
	tried := make(chan *run, len(e.runs))
	for _, r := range e.runs {
		if why := notSent(&r.Move); why != "" {
			e.end(ctx, r, Skipped, why)
			continue
		}
		group.Go(func() error {
			if groupCtx.Err() != nil || e.Options.OnFailure != Continue && int(failures.Load()) >= max(1, e.Options.MaxFailures) {
				return nil
			}
			r.result.Started = time.Now().UTC()
			r.err = e.send(groupCtx, r, r.Seen)
			if outcome, _ := sendOutcome(r.err); outcome.Bad() {
				failures.Add(1)
			}
			tried <- r
			return nil
		})
	}
	_ = group.Wait() // each run bears its own error
	close(tried)
	for r := range tried {
		if r.err != nil && ctx.Err() != nil {
			r.result.Outcome, r.result.Message = InFlight, "its change may have been sent"
			continue
		}
		r.result.Sent = r.err == nil && r.undo.Patch != nil
		outcome, message := sendOutcome(r.err)
		e.end(ctx, r, outcome, message)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// notSent says why a change is not sent where nobody watches, "" where it is.
func notSent(m *Move) string {
	switch {
	case !m.writes():
		return "its pods are replaced one by one, which needs --wait"
	case m.Resume && m.Seen != nil && !m.Seen.Paused && m.Seen.Desired > 0 && m.Seen.Status.FailureMessage == "" && !m.Seen.Status.DeadlineExceeded:
		return "its restart was sent before and is under way"
	}
	return obstacle(m, sight{W: m.Seen}, false)
}

// sendOutcome says how a change fared that was sent and is not watched.
func sendOutcome(err error) (Outcome, string) {
	switch {
	case err == nil:
		return Sent, "the change was sent; its controller replaces the pods"
	case apierrors.IsNotFound(err):
		return Skipped, wasDeleted
	case terminating(err.Error()):
		return Skipped, namespaceEnds
	}
	return Failed, err.Error()
}
