package workload

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rolloutHash labels the pods of an Argo Rollout's ReplicaSets as
// pod-template-hash does those of a Deployment's.
const rolloutHash = "rollouts-pod-template-hash"

// OwnerOf gives the workload that controls the pod, as far as the pod alone can
// tell, and whether that is certain. Pods of a Deployment name a ReplicaSet as
// their owner; the Deployment controller calls it after the Deployment and the
// template's hash (kubernetes pkg/controller/deployment/sync.go), and so the
// Deployment's name can be told from the pod. It is not certain, because a
// ReplicaSet made by hand may look the same: look whether that Deployment is
// there. Rollouts and DeploymentConfigs stand behind their pods in the same way.
// A bare pod is its own owner; a mirror pod's is its node.
func OwnerOf(pod *corev1.Pod) (ref Ref, certain bool) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return Ref{Kind: Pod, Namespace: pod.Namespace, Name: pod.Name}, true
	}
	ref = OwnerRef(pod.Namespace, owner)
	if ref.Is(ReplicationController) && pod.Labels[deploymentLabel] == ref.Name && pod.Labels[configLabel] != "" {
		return Ref{Group: DeploymentConfigGroup, Kind: DeploymentConfig, Namespace: pod.Namespace, Name: pod.Labels[configLabel]}, false
	}
	if !ref.Is(ReplicaSet) {
		return ref, true
	}
	if name, ok := strings.CutSuffix(ref.Name, "-"+pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]); ok && name != "" {
		return Ref{Group: "apps", Kind: Deployment, Namespace: pod.Namespace, Name: name}, false
	}
	if name, ok := strings.CutSuffix(ref.Name, "-"+pod.Labels[rolloutHash]); ok && name != "" {
		return Ref{Group: RolloutGroup, Kind: Rollout, Namespace: pod.Namespace, Name: name}, false
	}
	return ref, true
}
