package controlplane

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// readiness says where a workload of a release stands.
type readiness struct {
	Done bool
	// Lingering is true where what is left does not depend on the upgrade: pods
	// that are going away, an autoscaler that has not acted yet.
	Lingering bool
	// Trouble says why new pods do not come up. Fatal trouble does not pass by
	// itself; a crashing container may.
	Trouble string
	Fatal   bool
	// Counts for events, and a text of them.
	Ready, Updated, Desired int32
	Message                 string
}

// judge says where a workload stands, from it and its pods; old are the pods
// that were there before the upgrade, whose trouble may end with them. It is a pure function. What completes a
// rollout is what kubectl rollout status asks for (kubectl:
// pkg/polymorphichelpers/rollout_status.go), and that no other pod is left: an
// old istiod that is still there may still answer.
func judge(w *workload.Workload, pods []*corev1.Pod, old map[types.UID]bool) readiness {
	r := readiness{Ready: w.Status.Ready, Updated: w.Status.Updated, Desired: w.Desired}
	r.Message = fmt.Sprintf("%d of %d pods are new, %d ready", r.Updated, r.Desired, r.Ready)
	live := int32(0)
	for _, pod := range pods {
		if workload.Finished(pod) {
			continue
		}
		live++
		if old[pod.UID] && !current(w, pod) || pod.DeletionTimestamp != nil || r.Trouble != "" {
			continue
		}
		if trouble := workload.Trouble(pod); trouble != "" {
			r.Trouble = "pod " + pod.Name + ": " + trouble
			r.Fatal = !strings.HasPrefix(trouble, "CrashLoopBackOff") && !old[pod.UID]
		} else if unfit := workload.Unschedulable(pod); unfit != "" {
			r.Message += "; pod " + pod.Name + " " + unfit
		}
	}
	if w.Status.FailureMessage != "" {
		r.Message += "; " + w.Status.FailureMessage
	}
	if w.Status.ObservedGeneration < w.Generation {
		r.Message = "its controller has not seen the change yet"
		return r
	}
	if w.Status.DeadlineExceeded && r.Trouble == "" {
		r.Trouble = "ProgressDeadlineExceeded: " + w.Status.DeadlineMessage
	}
	complete := r.Updated >= w.Desired && w.Status.Available >= w.Desired
	if w.Kind == workload.Deployment {
		complete = complete && w.Status.Replicas == r.Updated
	}
	if w.Strategy.Type == workload.OnDelete {
		complete = r.Ready >= w.Desired
	}
	if complete {
		r.Done, r.Trouble, r.Fatal = live <= w.Desired, "", false
		r.Lingering = !r.Done
		if r.Lingering {
			r.Message = "its pods are new and ready; waiting for the old ones to be gone"
		}
	}
	return r
}

// atLeast takes a workload that has fewer replicas than its autoscaler's
// minimum for one that is not there yet.
func (r *readiness) atLeast(least int32) {
	if r.Done && r.Desired < least {
		r.Done, r.Lingering = false, true
		r.Message = fmt.Sprintf("waiting for its autoscaler to bring it from %d to %d replicas", r.Desired, least)
	}
}

// current tells whether a pod has the template's images, so that it may be one
// that an earlier run left, and that nothing will replace.
func current(w *workload.Workload, pod *corev1.Pod) bool {
	for _, want := range w.Template.Spec.Containers {
		at := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == want.Name })
		if want.Image != "auto" && (at < 0 || pod.Spec.Containers[at].Image != want.Image) {
			return false
		}
	}
	return true
}
