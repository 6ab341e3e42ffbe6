package rollout

import (
	"context"
	"fmt"
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
	generation, err := e.patch(ctx, r.Ref, change, change.Patch)
	return change, generation, err
}

// patch sends a patch and gives the object's generation after it.
func (e *Engine) patch(ctx context.Context, ref workload.Ref, change Change, patch []byte) (int64, error) {
	resource, ok := workload.Resources[ref.Kind]
	if !ok {
		return 0, fmt.Errorf("patch %s: a %s cannot be patched", ref.In(), ref.Kind)
	}
	options := metav1.PatchOptions{FieldManager: change.Manager}
	obj, err := e.Cluster.Metadata.Resource(resource).Namespace(ref.Namespace).Patch(ctx, ref.Name, change.Type, patch, options)
	if err != nil {
		return 0, fmt.Errorf("patch %s: %w", ref.In(), err)
	}
	return obj.Generation, nil
}

// afterSending goes on with a workload whose change was sent or could not be.
func (e *Engine) afterSending(ctx context.Context, r *run) {
	switch {
	case r.err == nil && r.Unwatched:
		r.result.Sent = r.undo.Patch != nil
		e.end(ctx, r, Done, "")
	case r.err == nil:
		r.phase, r.result.Sent, r.progress = underway, r.undo.Patch != nil, time.Now()
		e.look(ctx, r)
	case apierrors.IsNotFound(r.err):
		e.end(ctx, r, Skipped, "it was deleted meanwhile")
	case ctx.Err() != nil:
		// The loop notes what was half done.
	default:
		e.end(ctx, r, Failed, r.err.Error())
	}
}

// sendAll sends the changes, made from what the plan saw, and watches nothing.
// Workloads whose pods would be evicted need a watch and are skipped.
func (e *Engine) sendAll(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, e.Options.MaxParallel))
	done := make(chan *run, len(e.runs))
	for _, r := range e.runs {
		if !r.writes() {
			e.end(ctx, r, Skipped, "its pods are replaced one by one, which needs --wait")
			continue
		}
		group.Go(func() error {
			r.result.Started = time.Now()
			r.err = e.send(groupCtx, r, r.Seen)
			done <- r
			return nil
		})
	}
	_ = group.Wait() // each run bears its own error
	close(done)
	for r := range done {
		switch {
		case r.err == nil:
			r.result.Sent = r.undo.Patch != nil
			e.end(ctx, r, Sent, "")
		case apierrors.IsNotFound(r.err):
			e.end(ctx, r, Skipped, "it was deleted meanwhile")
		default:
			e.end(ctx, r, Failed, r.err.Error())
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
