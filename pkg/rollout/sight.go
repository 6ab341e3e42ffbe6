package rollout

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// sight is what the watches show of a workload at one moment.
type sight struct {
	W *workload.Workload // nil where it is not there
	// Pods are its pods that have not finished, those being deleted included.
	Pods []*corev1.Pod
	// Warnings are what conditions and events say of pods that cannot be made or
	// started.
	Warnings []warning
	// Freeing is when other pods of the namespace were last seen to make room in
	// its quota; zero where none were.
	Freeing time.Time
}

// see gives what the watches show of a workload.
func (w *watches) see(ref workload.Ref) sight {
	var v sight
	if informer := w.kinds[ref.Kind]; informer != nil {
		if obj, ok, err := informer.GetStore().GetByKey(ref.Namespace + "/" + ref.Name); ok && err == nil {
			v.W = fromObject(obj)
		}
	}
	if pods, err := w.pods.GetIndexer().ByIndex(byOwner, ref.In()); err == nil {
		for _, obj := range pods {
			pod, ok := obj.(*corev1.Pod)
			if !ok || workload.Finished(pod) {
				continue
			}
			v.Pods = append(v.Pods, pod)
			if v.W != nil && pod.CreationTimestamp.After(v.W.Newest) {
				v.W.Newest = pod.CreationTimestamp.Time
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	said, ok := w.warnings[ref][""]
	if ok && said.At.IsZero() && (v.W == nil || v.W.Status.FailureMessage == "") {
		delete(w.warnings[ref], "") // its status says so no longer
	}
	if !ok && v.W != nil && v.W.Status.FailureMessage != "" {
		if w.warnings[ref] == nil {
			w.warnings[ref] = map[types.UID]warning{}
		}
		status := v.W.Status
		w.warnings[ref][""] = warning{Reason: status.FailureReason, Text: status.FailureReason + ": " + status.FailureMessage, Since: time.Now()}
	}
	for _, warned := range w.warnings[ref] {
		v.Warnings = append(v.Warnings, warned)
	}
	return v
}

// ending says whether pods of a namespace are on their way out, those aside
// whose node may be lost: what they hold of a quota becomes free.
func (w *watches) ending(namespace string, now time.Time) bool {
	pods, err := w.pods.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		return false
	}
	for _, obj := range pods {
		// The timestamp is when its grace period ends.
		if pod, ok := obj.(*corev1.Pod); ok && pod.DeletionTimestamp != nil && now.Sub(pod.DeletionTimestamp.Time) < lost {
			return true
		}
	}
	return false
}

func podOwners(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	var keys []string
	for _, ref := range refsOf(pod) {
		keys = append(keys, ref.In())
	}
	return keys, nil
}

// refsOf gives the workloads that a pod may belong to: its owner, and where
// that is a ReplicaSet or a ReplicationController the workload that its name
// tells of.
func refsOf(pod *corev1.Pod) []workload.Ref {
	likely, certain := workload.OwnerOf(pod)
	if certain {
		return []workload.Ref{likely}
	}
	return []workload.Ref{likely, workload.OwnerRef(pod.Namespace, metav1.GetControllerOf(pod))}
}

func fromObject(obj any) *workload.Workload {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return workload.FromDeployment(o)
	case *appsv1.StatefulSet:
		return workload.FromStatefulSet(o)
	case *appsv1.DaemonSet:
		return workload.FromDaemonSet(o)
	case *appsv1.ReplicaSet:
		return workload.FromReplicaSet(o)
	case *corev1.ReplicationController:
		return workload.FromReplicationController(o)
	case *unstructured.Unstructured:
		return workload.FromCustom(o)
	}
	return nil
}
