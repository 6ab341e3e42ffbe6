package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// undoPatience is how long putting a template back may take, also after the run
// was interrupted.
const undoPatience = 30 * time.Second

// takeBack puts a failed workload's template back, beside the loop. New pods
// that failed go and old ones that still run stay; pods that had been replaced
// before keep what they got, and so does what comes in their place: injection
// gives new pods the new proxy whatever the template was restarted for.
func (e *Engine) takeBack(ctx context.Context, r *run) {
	v := e.see(r)
	if r.undo.TakeBack == nil && v.W != nil && !r.start.stands(v.W) {
		r.result.Message += "; its template was changed meanwhile and is left as it is"
		e.closeRun(r)
		return
	}
	counts := staying(v, r.start)
	r.phase = undoing
	e.group.Go(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
		defer cancel()
		if r.undo.TakeBack != nil {
			r.err = r.undo.TakeBack(ctx)
		} else {
			_, r.err = e.patch(ctx, r.Ref, r.undo, r.undo.Undo)
		}
		if r.err == nil {
			r.told = counts
			if v.W != nil {
				if err := e.clearStuck(ctx, v, func(pod *corev1.Pod) bool { return !r.start.Old[pod.UID] }); err != nil {
					r.told += "; " + err.Error()
				}
			}
		}
		e.takenBack <- r
		return nil
	})
}

// afterUndoing ends a workload whose template was put back, or could not be.
func (e *Engine) afterUndoing(r *run) {
	if r.err != nil {
		r.result.Message += "; its template could not be put back: " + r.err.Error()
	} else {
		r.result.Outcome = Undone
		r.result.Message += "; its template was put back" + r.told
	}
	e.closeRun(r)
}

// finishUndoing waits for what is on its way when the loop ends, and notes what
// was put back.
func (e *Engine) finishUndoing() {
	_ = e.group.Wait() // what was sent bears its own error
	for {
		select {
		case r := <-e.takenBack:
			e.afterUndoing(r)
		default:
			return
		}
	}
}

// staying says which pods stay as they are when a template is put back.
func staying(v sight, s start) string {
	var old, renewed int
	for _, pod := range v.Pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case s.Old[pod.UID]:
			old++
		case workload.Ready(pod):
			renewed++
		}
	}
	text := fmt.Sprintf(": %d pods still run as before and stay", old)
	if old == 1 {
		text = ": 1 pod still runs as before and stays"
	}
	switch renewed {
	case 0:
		return text
	case 1:
		return text + ", 1 pod replaced already keeps the new proxy"
	}
	return text + fmt.Sprintf(", %d pods replaced already keep the new proxy", renewed)
}

// whoTouched names the field manager that wrote the workload's template last,
// other than us.
func (e *Engine) whoTouched(ctx context.Context, r *run) string {
	resource, ok := r.Ref.Resource()
	if !ok {
		return ""
	}
	obj, err := e.Cluster.Metadata.Resource(resource).Namespace(r.Ref.Namespace).Get(ctx, r.Ref.Name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	// What was written before the move cannot have taken it back. Who only
	// removes a field leaves no entry.
	since := r.result.Started.Truncate(time.Second)
	return touchedBy(slices.DeleteFunc(obj.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Time != nil && f.Time.Time.Before(since)
	}), r.undo.Manager)
}

// touchedBy gives " by MANAGER (OPERATION at TIME)" for the newest entry of the
// managed fields that is neither ours nor a status.
func touchedBy(fields []metav1.ManagedFieldsEntry, ours string) string {
	fields = slices.DeleteFunc(slices.Clone(fields), func(f metav1.ManagedFieldsEntry) bool {
		return f.Subresource != "" || f.Manager == ours || f.Time == nil ||
			strings.HasPrefix(f.Manager, "kube-controller-manager")
	})
	if len(fields) == 0 {
		return ""
	}
	newest := slices.MaxFunc(fields, func(a, b metav1.ManagedFieldsEntry) int { return a.Time.Compare(b.Time.Time) })
	return fmt.Sprintf(" by %s (%s at %s)", newest.Manager, newest.Operation, newest.Time.Format(time.RFC3339))
}
