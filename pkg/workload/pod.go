package workload

import (
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// askedHash stands for the hash of a template that nobody has computed yet.
const askedHash = "5f4dcc3b5a"

// PodOf gives the pod that the workload's controller would make now, fit for a
// dry-run create: with its owner, name, labels, claims, hostname, tolerations
// and affinity. Admission answers a bare template otherwise: one with claims is
// refused as invalid, and the injector reads owner and labels. node is the name
// of a node for a DaemonSet's pod, and may be empty.
func (w *Workload) PodOf(node string) *corev1.Pod {
	t := w.Template.DeepCopy()
	pod := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	pod.Namespace = w.Namespace
	pod.Name, pod.GenerateName = "", w.Name+"-"
	owner := w.Ref
	uid := w.UID
	switch w.Kind {
	case Deployment:
		setLabel(pod, appsv1.DefaultDeploymentUniqueLabelKey, askedHash)
		owner = Ref{Group: "apps", Kind: ReplicaSet, Name: w.Name + "-" + askedHash}
		uid = types.UID("00000000-0000-4000-8000-000000000000")
		pod.GenerateName = owner.Name + "-"
	case Rollout:
		setLabel(pod, rolloutHash, askedHash)
		owner = Ref{Group: "apps", Kind: ReplicaSet, Name: w.Name + "-" + askedHash}
		uid = types.UID("00000000-0000-4000-8000-000000000000")
		pod.GenerateName = owner.Name + "-"
	case DeploymentConfig:
		owner = w.configPod(pod)
		uid = types.UID("00000000-0000-4000-8000-000000000000")
		pod.GenerateName = owner.Name + "-"
	case StatefulSet:
		w.statefulPod(pod)
	case DaemonSet:
		daemonPod(pod, node)
	}
	version := "v1"
	if owner.Group != "" {
		version = owner.Group + "/v1"
	}
	controller := true
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: version, Kind: owner.Kind, Name: owner.Name, UID: uid, Controller: &controller,
	}}
	return pod
}

// statefulPod gives the pod the identity that the StatefulSet controller gives
// (kubernetes pkg/controller/statefulset/stateful_set_utils.go, newVersionedStatefulSetPod).
// The ordinal is one past the last, so that the name is free.
func (w *Workload) statefulPod(pod *corev1.Pod) {
	ordinal := w.Ordinal + max(w.Desired, w.Status.Replicas)
	pod.Name, pod.GenerateName = fmt.Sprintf("%s-%d", w.Name, ordinal), w.Name+"-"
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, w.Service
	setLabel(pod, appsv1.StatefulSetPodNameLabel, pod.Name)
	setLabel(pod, appsv1.PodIndexLabel, strconv.Itoa(int(ordinal)))
	setLabel(pod, appsv1.ControllerRevisionHashLabelKey, w.Name+"-"+askedHash)
	for _, claim := range w.Claims {
		source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
			ClaimName: claim + "-" + pod.Name,
		}}
		replaced := false
		for i := range pod.Spec.Volumes {
			if pod.Spec.Volumes[i].Name == claim {
				pod.Spec.Volumes[i].VolumeSource, replaced = source, true
			}
		}
		if !replaced {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: source})
		}
	}
}

// daemonPod binds the pod to a node and lets it tolerate what the DaemonSet
// controller lets it tolerate (kubernetes pkg/controller/daemon/util/daemonset_util.go).
func daemonPod(pod *corev1.Pod, node string) {
	setLabel(pod, appsv1.ControllerRevisionHashLabelKey, askedHash)
	setLabel(pod, "pod-template-generation", "1")
	add := func(key string, effect corev1.TaintEffect) {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations,
			corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect})
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if pod.Spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	if node == "" {
		return
	}
	if pod.Spec.Affinity == nil {
		pod.Spec.Affinity = &corev1.Affinity{}
	}
	if pod.Spec.Affinity.NodeAffinity == nil {
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	// The controller adds its own term to every one that is there.
	field := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	required := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
	}
	for i := range required.NodeSelectorTerms {
		required.NodeSelectorTerms[i].MatchFields = []corev1.NodeSelectorRequirement{field}
	}
	pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = required
}

func setLabel(pod *corev1.Pod, key, value string) {
	labels := maps.Clone(pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	pod.Labels = labels
}
