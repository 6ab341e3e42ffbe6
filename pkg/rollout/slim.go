package rollout

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// slim drops what no judgement needs before an object is kept, so that the
// memory of the watches stays small: of pods and workloads that are none of the
// run's only their names stay, and whether they end.
func (w *watches) slim(obj any) (any, error) {
	o, err := meta.Accessor(obj)
	if err != nil {
		return obj, nil //nolint:nilerr // a note that an object is gone
	}
	o.SetManagedFields(nil)
	switch o := obj.(type) {
	case *corev1.Pod:
		return w.slimPod(o), nil
	case *appsv1.Deployment:
		if !w.feed.moves(workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: o.Namespace, Name: o.Name}) {
			return &appsv1.Deployment{ObjectMeta: nameOf(o.ObjectMeta)}, nil
		}
	case *appsv1.StatefulSet:
		if !w.feed.moves(workload.Ref{Group: "apps", Kind: workload.StatefulSet, Namespace: o.Namespace, Name: o.Name}) {
			return &appsv1.StatefulSet{ObjectMeta: nameOf(o.ObjectMeta)}, nil
		}
	case *appsv1.ReplicaSet:
		if !w.feed.moves(workload.Ref{Group: "apps", Kind: workload.ReplicaSet, Namespace: o.Namespace, Name: o.Name}) {
			return &appsv1.ReplicaSet{ObjectMeta: nameOf(o.ObjectMeta)}, nil
		}
	}
	return obj, nil
}

// nameOf gives what tells an object from others, and its owners.
func nameOf(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, OwnerReferences: m.OwnerReferences,
	}
}

func (w *watches) slimPod(pod *corev1.Pod) *corev1.Pod {
	ours := false
	for _, ref := range refsOf(pod) {
		ours = ours || w.feed.moves(ref)
	}
	if !ours {
		m := nameOf(pod.ObjectMeta)
		m.OwnerReferences = nil
		return &corev1.Pod{ObjectMeta: m}
	}
	pod.Spec = corev1.PodSpec{
		NodeName:   pod.Spec.NodeName,
		Containers: slimContainers(pod.Spec.Containers), InitContainers: slimContainers(pod.Spec.InitContainers),
	}
	return pod
}

func slimContainers(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(containers))
	for i := range containers {
		out[i] = corev1.Container{Name: containers[i].Name, Image: containers[i].Image, RestartPolicy: containers[i].RestartPolicy}
	}
	return out
}
