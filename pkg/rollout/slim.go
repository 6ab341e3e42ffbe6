package rollout

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// slim drops what no judgement needs before an object is kept, so that the
// memory of the watches stays small.
func slim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		pod.Spec = corev1.PodSpec{
			NodeName:   pod.Spec.NodeName,
			Containers: slimContainers(pod.Spec.Containers), InitContainers: slimContainers(pod.Spec.InitContainers),
		}
	}
	return obj, nil
}

func slimContainers(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(containers))
	for i := range containers {
		out[i] = corev1.Container{Name: containers[i].Name, Image: containers[i].Image, RestartPolicy: containers[i].RestartPolicy}
	}
	return out
}

// blocking are the reasons of warnings that tell of pods that cannot be made or
// started (kubernetes pkg/controller/controller_utils.go, pkg/kubelet/events).
var blocking = map[string]bool{
	"FailedCreate":           true,
	"FailedCreatePodSandBox": true,
	"FailedMount":            true,
	"FailedAttachVolume":     true,
}

// note keeps a warning under the workload that it is about, and names it.
func (w *watches) note(event *corev1.Event) (workload.Ref, bool) {
	if !blocking[event.Reason] {
		return workload.Ref{}, false
	}
	object := event.InvolvedObject
	ref := workload.Ref{Kind: object.Kind, Namespace: object.Namespace, Name: object.Name}
	if group, _, ok := strings.Cut(object.APIVersion, "/"); ok {
		ref.Group = group
	}
	text := event.Reason + ": " + event.Message
	switch object.Kind {
	case workload.Pod:
		obj, ok, err := w.pods.GetStore().GetByKey(object.Namespace + "/" + object.Name)
		pod, isPod := obj.(*corev1.Pod)
		if err != nil || !ok || !isPod {
			return workload.Ref{}, false
		}
		ref = refsOf(pod)[0]
		text = "pod " + object.Name + ": " + sandbox(event.Reason) + text
	case workload.ReplicaSet:
		// The Deployment that the ReplicaSet's name tells of, where one is
		// watched; its name ends in the hash of the template.
		if i := strings.LastIndex(ref.Name, "-"); i > 0 && w.kinds[workload.Deployment] != nil {
			deployment := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: ref.Namespace, Name: ref.Name[:i]}
			if _, ok, err := w.kinds[workload.Deployment].GetStore().GetByKey(deployment.Namespace + "/" + deployment.Name); ok && err == nil {
				ref = deployment
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	since := time.Now()
	if before, ok := w.warnings[ref]; ok {
		since = before.Since
	}
	w.warnings[ref] = warning{Text: text, Since: since}
	return ref, true
}

func sandbox(reason string) string {
	if reason == "FailedCreatePodSandBox" {
		return "its sandbox cannot be made; "
	}
	return ""
}
