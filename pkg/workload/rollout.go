package workload

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// rollout is what is read of an Argo Rollout
// (argoproj/argo-rollouts pkg/apis/rollouts/v1alpha1/types.go).
type rollout struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Replicas    *int32                 `json:"replicas"`
		Selector    *metav1.LabelSelector  `json:"selector"`
		Template    corev1.PodTemplateSpec `json:"template"`
		WorkloadRef *struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"workloadRef"`
		Paused    bool   `json:"paused"`
		RestartAt string `json:"restartAt"`
		Strategy  struct {
			Canary *struct {
				MaxSurge       *intstr.IntOrString `json:"maxSurge"`
				MaxUnavailable *intstr.IntOrString `json:"maxUnavailable"`
			} `json:"canary"`
		} `json:"strategy"`
	} `json:"spec"`
	Status struct {
		Abort              bool       `json:"abort"`
		ControllerPause    bool       `json:"controllerPause"`
		PauseConditions    []struct{} `json:"pauseConditions"`
		ObservedGeneration string     `json:"observedGeneration"`
		Replicas           int32      `json:"replicas"`
		UpdatedReplicas    int32      `json:"updatedReplicas"`
		ReadyReplicas      int32      `json:"readyReplicas"`
		AvailableReplicas  int32      `json:"availableReplicas"`
		RestartedAt        string     `json:"restartedAt"`
		Phase              string     `json:"phase"`
		Message            string     `json:"message"`
	} `json:"status"`
}

// FromRollout reads an Argo Rollout. One whose template is that of a Deployment
// (spec.workloadRef) has TemplateFrom set and no template of its own: Adopt
// gives it one. The error says that the object is no Rollout.
func FromRollout(u *unstructured.Unstructured) (*Workload, error) {
	var r rollout
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &r); err != nil {
		return nil, fmt.Errorf("read rollout %s in %s: %w", u.GetName(), u.GetNamespace(), err)
	}
	w := fromMeta(Rollout, RolloutGroup, r.ObjectMeta)
	w.Template, w.Selector = r.Spec.Template, selector(r.Spec.Selector)
	if ref := r.Spec.WorkloadRef; ref != nil && ref.Kind == Deployment {
		w.TemplateFrom = &Ref{Group: "apps", Kind: Deployment, Namespace: w.Namespace, Name: ref.Name}
	}
	w.Desired = orOne(r.Spec.Replicas)
	w.Paused = r.Spec.Paused || r.Status.ControllerPause || len(r.Status.PauseConditions) > 0
	w.RestartAt, w.RestartedAt = r.Spec.RestartAt, r.Status.RestartedAt
	unavailable := intstr.FromString("25%")
	if c := r.Spec.Strategy.Canary; c != nil && c.MaxUnavailable != nil {
		unavailable = *c.MaxUnavailable
	}
	// A restart evicts pods as many at a time as may be unavailable, at least
	// one, and has no surge whatever the strategy says (argo-rollouts
	// rollout/restart.go, RolloutPodRestarter.Reconcile).
	w.Strategy = Strategy{Type: RollingUpdate, MaxUnavailable: max(1, resolve(unavailable, w.Desired, false))}
	w.Status = Status{
		ObservedGeneration: r.Generation, Replicas: r.Status.Replicas, Updated: r.Status.UpdatedReplicas,
		Ready: r.Status.ReadyReplicas, Available: r.Status.AvailableReplicas, Phase: r.Status.Phase,
	}
	// Versions before 1.0 wrote a hash there.
	if n, err := strconv.ParseInt(r.Status.ObservedGeneration, 10, 64); err == nil {
		w.Status.ObservedGeneration = n
	}
	if r.Status.Abort || r.Status.Phase == "Degraded" {
		w.Status.FailureReason, w.Status.FailureMessage = "Degraded", r.Status.Message
	}
	return w, nil
}

// Adopt gives a Rollout the template and the selector of the Deployment that
// its spec.workloadRef names.
func (w *Workload) Adopt(from *Workload) {
	w.Template = from.Template
	if w.Selector == labels.Nothing() {
		w.Selector = from.Selector
	}
}

// RestartTime gives the value of spec.restartAt that makes a Rollout replace all
// the pods it has: just after the newest was created, by the clock of the API
// server, so that a machine whose clock is off restarts all the same, or now
// where no pod is known. It differs from the value that stands there.
func (w *Workload) RestartTime(now time.Time) string {
	at := now
	if !w.Newest.IsZero() {
		at = w.Newest.Add(time.Second)
	}
	at = at.UTC().Truncate(time.Second)
	text := at.Format(time.RFC3339)
	if text == w.RestartAt {
		text = at.Add(time.Second).Format(time.RFC3339)
	}
	return text
}
