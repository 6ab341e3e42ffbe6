package workload

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Workload is a controller of pods, of any kind, as far as moving it needs.
type Workload struct {
	Ref
	UID             types.UID
	ResourceVersion string
	Generation      int64
	Deleting        bool
	Labels          map[string]string
	Annotations     map[string]string
	// Owner is the controller of this workload, nil where there is none: a
	// Deployment's ReplicaSet has one, a bare ReplicaSet has not.
	Owner    *metav1.OwnerReference
	Template corev1.PodTemplateSpec
	Selector labels.Selector
	// Claims are the names of a StatefulSet's volume claim templates.
	Claims  []string
	Ordinal int32 // the first ordinal of a StatefulSet's pods
	Service string
	Paused  bool
	// Desired is the number of pods that there should be.
	Desired  int32
	Strategy Strategy
	Status   Status
	// MinReady is how long a new pod must have been ready to count as available.
	MinReady time.Duration

	// TemplateFrom is the Deployment that a Rollout takes its template from.
	TemplateFrom *Ref
	// RestartAt and RestartedAt are a Rollout's: when its pods are to be, and
	// have been, replaced; RFC 3339, empty where nobody asked.
	RestartAt, RestartedAt string
	// Newest is when the newest of its pods was created; zero where unknown.
	Newest time.Time
	// Revision is a DeploymentConfig's latest version.
	Revision int64
	// Manual is true for a DeploymentConfig that no change of its template
	// triggers.
	Manual bool
}

// Strategy says how a workload replaces its pods, percentages resolved against
// the desired number of pods as its controller resolves them.
type Strategy struct {
	// Type is RollingUpdate, Recreate or OnDelete. ReplicaSets and
	// ReplicationControllers count as OnDelete: new pods come when old ones go.
	Type           string
	MaxUnavailable int32
	MaxSurge       int32
	// Partition is a StatefulSet's: pods of lower ordinals stay as they are.
	Partition int32
}

// The strategies.
const (
	RollingUpdate = "RollingUpdate"
	Recreate      = "Recreate"
	OnDelete      = "OnDelete"
)

// Status is what the controller says of its pods.
type Status struct {
	ObservedGeneration            int64
	Replicas, Updated, Ready      int32
	Available                     int32
	FailureReason, FailureMessage string // a Deployment's ReplicaFailure condition
	DeadlineExceeded              bool   // a Deployment's Progressing condition says so
	DeadlineMessage               string
	// Unfinished is true where the controller itself says that the newest
	// template's rollout goes on: Deployments and StatefulSets say so.
	Unfinished bool
	// Phase is a Rollout's: Healthy, Progressing, Paused or Degraded.
	Phase string
}

// FromDeployment reads a Deployment.
func FromDeployment(d *appsv1.Deployment) *Workload {
	w := fromMeta(Deployment, "apps", d.ObjectMeta)
	w.Template, w.Selector = d.Spec.Template, selector(d.Spec.Selector)
	w.Paused, w.MinReady = d.Spec.Paused, time.Duration(d.Spec.MinReadySeconds)*time.Second
	w.Desired = orOne(d.Spec.Replicas)
	w.Strategy = deploymentStrategy(d.Spec.Strategy, w.Desired)
	w.Status = Status{
		ObservedGeneration: d.Status.ObservedGeneration, Replicas: d.Status.Replicas,
		Updated: d.Status.UpdatedReplicas, Ready: d.Status.ReadyReplicas, Available: d.Status.AvailableReplicas,
	}
	for _, c := range d.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			w.Status.FailureReason, w.Status.FailureMessage = c.Reason, c.Message
		case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded":
			w.Status.DeadlineExceeded, w.Status.DeadlineMessage = true, c.Message
		case unfinished(&c):
			w.Status.Unfinished = true
		}
	}
	return w
}

// deploymentStrategy resolves as the Deployment controller does: surge rounds
// up, unavailable rounds down, and both zero means one unavailable
// (kubernetes pkg/controller/deployment/util, ResolveFenceposts).
func deploymentStrategy(s appsv1.DeploymentStrategy, desired int32) Strategy {
	if s.Type == appsv1.RecreateDeploymentStrategyType {
		return Strategy{Type: Recreate, MaxUnavailable: desired}
	}
	surge, unavailable := intstr.FromString("25%"), intstr.FromString("25%")
	if r := s.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			surge = *r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			unavailable = *r.MaxUnavailable
		}
	}
	out := Strategy{
		Type:     RollingUpdate,
		MaxSurge: resolve(surge, desired, true), MaxUnavailable: resolve(unavailable, desired, false),
	}
	if out.MaxSurge == 0 && out.MaxUnavailable == 0 {
		out.MaxUnavailable = 1
	}
	return out
}

// FromStatefulSet reads a StatefulSet.
func FromStatefulSet(s *appsv1.StatefulSet) *Workload {
	w := fromMeta(StatefulSet, "apps", s.ObjectMeta)
	w.Template, w.Selector = s.Spec.Template, selector(s.Spec.Selector)
	w.Service, w.MinReady = s.Spec.ServiceName, time.Duration(s.Spec.MinReadySeconds)*time.Second
	w.Desired = orOne(s.Spec.Replicas)
	if s.Spec.Ordinals != nil {
		w.Ordinal = s.Spec.Ordinals.Start
	}
	for _, claim := range s.Spec.VolumeClaimTemplates {
		w.Claims = append(w.Claims, claim.Name)
	}
	w.Strategy = Strategy{Type: RollingUpdate, MaxUnavailable: 1}
	if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		w.Strategy = Strategy{Type: OnDelete}
	} else if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil {
		if r.Partition != nil {
			w.Strategy.Partition = *r.Partition
		}
		if r.MaxUnavailable != nil {
			// Down, other than the API's documentation says (kubernetes
			// pkg/controller/statefulset, getStatefulSetMaxUnavailable).
			w.Strategy.MaxUnavailable = max(1, resolve(*r.MaxUnavailable, w.Desired, false))
		}
	}
	w.Status = Status{
		ObservedGeneration: s.Status.ObservedGeneration, Replicas: s.Status.Replicas,
		Updated: s.Status.UpdatedReplicas, Ready: s.Status.ReadyReplicas, Available: s.Status.AvailableReplicas,
		Unfinished: w.Strategy.Type == RollingUpdate && w.Strategy.Partition == 0 && s.Status.CurrentRevision != s.Status.UpdateRevision,
	}
	return w
}

// FromDaemonSet reads a DaemonSet.
func FromDaemonSet(d *appsv1.DaemonSet) *Workload {
	w := fromMeta(DaemonSet, "apps", d.ObjectMeta)
	w.Template, w.Selector = d.Spec.Template, selector(d.Spec.Selector)
	w.Desired, w.MinReady = d.Status.DesiredNumberScheduled, time.Duration(d.Spec.MinReadySeconds)*time.Second
	w.Strategy = Strategy{Type: RollingUpdate, MaxUnavailable: 1}
	if d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		w.Strategy = Strategy{Type: OnDelete}
	} else if r := d.Spec.UpdateStrategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			w.Strategy.MaxSurge = resolve(*r.MaxSurge, w.Desired, true)
		}
		if r.MaxUnavailable != nil {
			w.Strategy.MaxUnavailable = resolve(*r.MaxUnavailable, w.Desired, true)
		}
	}
	w.Status = Status{
		ObservedGeneration: d.Status.ObservedGeneration, Replicas: d.Status.CurrentNumberScheduled,
		Updated: d.Status.UpdatedNumberScheduled, Ready: d.Status.NumberReady, Available: d.Status.NumberAvailable,
	}
	return w
}

// FromReplicaSet reads a ReplicaSet.
func FromReplicaSet(r *appsv1.ReplicaSet) *Workload {
	w := fromMeta(ReplicaSet, "apps", r.ObjectMeta)
	w.Template, w.Selector = r.Spec.Template, selector(r.Spec.Selector)
	w.Desired = orOne(r.Spec.Replicas)
	w.Strategy = Strategy{Type: OnDelete}
	w.Status = Status{
		ObservedGeneration: r.Status.ObservedGeneration, Replicas: r.Status.Replicas, Updated: r.Status.Replicas,
		Ready: r.Status.ReadyReplicas, Available: r.Status.AvailableReplicas,
	}
	return w
}

// FromReplicationController reads a ReplicationController.
func FromReplicationController(r *corev1.ReplicationController) *Workload {
	w := fromMeta(ReplicationController, "", r.ObjectMeta)
	if r.Spec.Template != nil {
		w.Template = *r.Spec.Template
	}
	w.Selector = labels.SelectorFromSet(r.Spec.Selector)
	w.Desired = orOne(r.Spec.Replicas)
	w.Strategy = Strategy{Type: OnDelete}
	w.Status = Status{
		ObservedGeneration: r.Status.ObservedGeneration, Replicas: r.Status.Replicas, Updated: r.Status.Replicas,
		Ready: r.Status.ReadyReplicas, Available: r.Status.AvailableReplicas,
	}
	return w
}

func fromMeta(kind, group string, m metav1.ObjectMeta) *Workload {
	return &Workload{
		Ref: Ref{Group: group, Kind: kind, Namespace: m.Namespace, Name: m.Name},
		UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		Deleting: m.DeletionTimestamp != nil,
		Labels:   m.Labels, Annotations: m.Annotations, Owner: metav1.GetControllerOf(&m),
	}
}

func selector(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

func orOne(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func resolve(v intstr.IntOrString, total int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, int(total), up)
	if err != nil {
		return 0
	}
	return int32(min(n, 1<<30))
}
