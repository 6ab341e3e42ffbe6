package sidecars

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// patchType gives the type of patch that the workload's API takes: custom
// resources know no strategic merge.
func patchType(w *workload.Workload) types.PatchType {
	if w.Kind == workload.Rollout || w.Kind == workload.DeploymentConfig {
		return types.MergePatchType
	}
	return types.StrategicMergePatchType
}

// rolloutPatch sets an Argo Rollout's spec.restartAt, at which its controller
// replaces the pods one after the other, without a new revision and without the
// canary's or blue-green's steps (argo-rollouts rollout/restart.go). The stamp
// stands on the Rollout itself: in its template it would make a new revision.
func rolloutPatch(w *workload.Workload, value string, change *rollout.Change) (patch, undo map[string]any) {
	stamped, _, _ := strings.Cut(value, " ")
	at, err := time.Parse(time.RFC3339Nano, stamped)
	if err != nil {
		at = time.Time{}
	}
	change.RestartAt = w.RestartTime(at)
	make := func(restartAt, note any) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{RestartAnnotation: note}},
			"spec":     map[string]any{"restartAt": restartAt},
		}
	}
	before := any(nil)
	if w.RestartAt != "" {
		before = w.RestartAt
	}
	return make(change.RestartAt, value), make(before, orNil(w.Annotations, RestartAnnotation))
}
