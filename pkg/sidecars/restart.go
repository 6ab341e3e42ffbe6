package sidecars

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// The annotations that the restarts leave.
const (
	// RestartAnnotation says when, to what and by whom the workload was
	// restarted. With RestartByAnnotation it stands in the pod template, else on
	// the workload itself.
	RestartAnnotation = "istio-upgrade/restarted"
	// GraceAnnotation keeps the grace period that the workload had before its
	// first restart by grace period, in seconds, on the workload itself.
	GraceAnnotation = "istio-upgrade/grace-period"
)

// RestartWith says what in the pod template is changed so that the controller
// replaces the pods.
type RestartWith string

// The ways to trigger a restart.
const (
	RestartByAnnotation  RestartWith = "annotation"
	RestartByGracePeriod RestartWith = "grace-period"
)

// Field managers. Flux prunes what managers wrote whose name begins with
// kubectl, and leaves alone what this one wrote
// (fluxcd/kustomize-controller, internal/controller/kustomization_controller.go).
const (
	DefaultFieldManager = "istio-upgrade"
	fluxFieldManager    = "flux-client-side-apply"
)

// fluxLabels are what Flux's controllers label their objects with.
var fluxLabels = []string{"kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"}

// fieldManager gives the manager to write a workload as.
func fieldManager(w *workload.Workload, wanted string) string {
	for _, l := range fluxLabels {
		if _, ok := w.Labels[l]; ok {
			return fluxFieldManager
		}
	}
	return wanted
}

// stamp is the value of RestartAnnotation: time, target and user. Nanoseconds
// keep two restarts within a second apart.
func stamp(now time.Time, to target, user string) string {
	text := now.UTC().Format(time.RFC3339Nano) + " to " + string(to)
	if user != "" {
		text += " by " + user
	}
	return text
}

// restartPatch gives the change that makes the workload's controller replace
// its pods, and where again is true those that its last restart did not get to.
// It writes nothing but the trigger and its own annotations.
func restartPatch(w *workload.Workload, with RestartWith, again bool, value, manager string) (rollout.Change, error) {
	var patch, undo map[string]any
	change := rollout.Change{Type: patchType(w), Manager: fieldManager(w, manager)}
	switch {
	case w.Kind == workload.Rollout:
		patch, undo = rolloutPatch(w, value, &change)
	case with == RestartByGracePeriod:
		patch, undo = gracePatch(w, again, value, &change)
	default:
		patch = templateAnnotation(value)
		undo = templateAnnotation(nil)
		if before, ok := w.Template.Annotations[RestartAnnotation]; ok {
			undo = templateAnnotation(before)
		}
		change.StampKey, change.Stamp = RestartAnnotation, value
	}
	var err error
	if change.Patch, err = json.Marshal(patch); err == nil {
		change.Undo, err = json.Marshal(undo)
	}
	if err != nil {
		return change, fmt.Errorf("make the patch of %s: %w", w.In(), err)
	}
	return change, nil
}

func templateAnnotation(value any) map[string]any {
	return map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{RestartAnnotation: value},
	}}}}
}

// gracePatch moves the grace period one second up, or back down to what it was
// where the last restart moved it up. Once more for the same target it goes
// further up: where it stood before, the Deployment would find its old
// ReplicaSet and keep the old pods.
func gracePatch(w *workload.Workload, again bool, value string, change *rollout.Change) (patch, undo map[string]any) {
	now := int64(30) // the API's default
	if p := w.Template.Spec.TerminationGracePeriodSeconds; p != nil {
		now = *p
	}
	original, raised, noted := readGrace(w.Annotations[GraceAnnotation])
	noted = noted && now == raised
	next, keep := now+1, any(strconv.FormatInt(now, 10))
	switch {
	case again && noted:
		keep = writeGrace(original, next)
	case again: // it came down from a little above
		next = now + graceLeap
		keep = writeGrace(now, next)
	case noted:
		next, keep = original, nil
	}
	change.GracePeriod = &next
	make := func(seconds int64, grace, restarted any) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{GraceAnnotation: grace, RestartAnnotation: restarted}},
			"spec":     map[string]any{"template": map[string]any{"spec": map[string]any{"terminationGracePeriodSeconds": seconds}}},
		}
	}
	return make(next, keep, value), make(now, orNil(w.Annotations, GraceAnnotation), orNil(w.Annotations, RestartAnnotation))
}

// graceLeap is more seconds than restarts for one target put on a grace period.
const graceLeap = 10

// readGrace reads a GraceAnnotation: the original grace period and what it was
// raised to, one second more where that does not stand there.
func readGrace(note string) (original, raised int64, ok bool) {
	first, last, more := strings.Cut(note, " raised to ")
	original, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	raised = original + 1
	if more {
		raised, err = strconv.ParseInt(last, 10, 64)
	}
	return original, raised, err == nil
}

func writeGrace(original, raised int64) string {
	return fmt.Sprintf("%d raised to %d", original, raised)
}

func orNil(annotations map[string]string, key string) any {
	if v, ok := annotations[key]; ok {
		return v
	}
	return nil
}
