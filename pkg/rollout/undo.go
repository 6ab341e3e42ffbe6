package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// takeBack puts a failed workload's template back. New pods that failed go and
// old ones that still run stay; pods that had been replaced before keep what
// they got. It gives what is to be added to the failure's message.
func (e *Engine) takeBack(ctx context.Context, r *run) string {
	if _, err := e.patch(ctx, r.Ref, r.undo, r.undo.Undo); err != nil {
		r.result.Message += "; its template could not be put back: " + err.Error()
		return "; its template could not be put back: " + err.Error()
	}
	if v := e.watches[r.Ref.Namespace].see(r.Ref); v.W != nil {
		if err := e.clearStuck(ctx, v); err != nil {
			r.result.Message += "; " + err.Error()
		}
	}
	r.result.Outcome = Undone
	text := "; its template was put back"
	if n := r.print.Ready; r.print.Updated > 0 && n > 0 {
		text += fmt.Sprintf(" (pods already replaced keep the new proxy: %d new at that moment)", r.print.Updated)
	}
	r.result.Message += text
	return text
}

// whoTouched names the field manager that wrote the workload's template last,
// other than us.
func (e *Engine) whoTouched(ctx context.Context, r *run) string {
	resource, ok := workload.Resources[r.Ref.Kind]
	if !ok {
		return ""
	}
	obj, err := e.Cluster.Metadata.Resource(resource).Namespace(r.Ref.Namespace).Get(ctx, r.Ref.Name, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return touchedBy(obj.ManagedFields, r.undo.Manager)
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
