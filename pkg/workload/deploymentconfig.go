package workload

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	appsv1 "k8s.io/api/apps/v1"
)

// The marks of a DeploymentConfig on its ReplicationControllers and pods
// (openshift/api apps/v1, consts.go).
const (
	configLabel      = "deploymentconfig"
	deploymentLabel  = "deployment"
	configNote       = "openshift.io/deployment-config.name"
	configLatestNote = "openshift.io/deployment-config.latest-version"
	deploymentNote   = "openshift.io/deployment.name"
)

// deploymentConfig is what is read of an OpenShift DeploymentConfig
// (openshift/api apps/v1/types.go).
type deploymentConfig struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Replicas int32                   `json:"replicas"`
		Selector map[string]string       `json:"selector"`
		Template *corev1.PodTemplateSpec `json:"template"`
		Paused   bool                    `json:"paused"`
		Triggers *[]struct {
			Type string `json:"type"`
		} `json:"triggers"`
		Strategy struct {
			Type          string                          `json:"type"`
			RollingParams *appsv1.RollingUpdateDeployment `json:"rollingParams"`
		} `json:"strategy"`
	} `json:"spec"`
	Status struct {
		LatestVersion      int64 `json:"latestVersion"`
		ObservedGeneration int64 `json:"observedGeneration"`
		Replicas           int32 `json:"replicas"`
		UpdatedReplicas    int32 `json:"updatedReplicas"`
		ReadyReplicas      int32 `json:"readyReplicas"`
		AvailableReplicas  int32 `json:"availableReplicas"`
		Conditions         []struct {
			Type    string                 `json:"type"`
			Status  corev1.ConditionStatus `json:"status"`
			Reason  string                 `json:"reason"`
			Message string                 `json:"message"`
		} `json:"conditions"`
	} `json:"status"`
}

// FromDeploymentConfig reads an OpenShift DeploymentConfig. The error says that
// the object is none.
func FromDeploymentConfig(u *unstructured.Unstructured) (*Workload, error) {
	var d deploymentConfig
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
		return nil, fmt.Errorf("read deploymentconfig %s in %s: %w", u.GetName(), u.GetNamespace(), err)
	}
	w := fromMeta(DeploymentConfig, DeploymentConfigGroup, d.ObjectMeta)
	if d.Spec.Template != nil {
		w.Template = *d.Spec.Template
	}
	w.Selector = labels.SelectorFromSet(d.Spec.Selector)
	w.Desired, w.Paused, w.Revision = d.Spec.Replicas, d.Spec.Paused, d.Status.LatestVersion
	if d.Spec.Strategy.Type == "Recreate" {
		w.Strategy = Strategy{Type: Recreate, MaxUnavailable: w.Desired}
	} else {
		w.Strategy = deploymentStrategy(appsv1.DeploymentStrategy{RollingUpdate: d.Spec.Strategy.RollingParams}, w.Desired)
	}
	// No list of triggers means the default, a change of the configuration; an
	// empty one means none.
	w.Manual = d.Spec.Triggers != nil
	if d.Spec.Triggers != nil {
		for _, t := range *d.Spec.Triggers {
			w.Manual = w.Manual && t.Type != "ConfigChange"
		}
	}
	w.Status = Status{
		ObservedGeneration: d.Status.ObservedGeneration, Replicas: d.Status.Replicas, Updated: d.Status.UpdatedReplicas,
		Ready: d.Status.ReadyReplicas, Available: d.Status.AvailableReplicas,
	}
	for _, c := range d.Status.Conditions {
		if c.Type == "Progressing" && c.Status == corev1.ConditionFalse {
			w.Status.DeadlineExceeded, w.Status.DeadlineMessage = true, c.Message
			if c.Message == "" {
				w.Status.DeadlineMessage = c.Reason
			}
		}
	}
	return w, nil
}

// configPod gives the pod the marks that a DeploymentConfig's controller gives
// its next ReplicationController's pods, and names that one (openshift/library-go
// pkg/apps/appsutil, MakeDeployment).
func (w *Workload) configPod(pod *corev1.Pod) Ref {
	name := fmt.Sprintf("%s-%d", w.Name, w.Revision+1)
	setLabel(pod, configLabel, w.Name)
	setLabel(pod, deploymentLabel, name)
	notes := map[string]string{configNote: w.Name, configLatestNote: fmt.Sprint(w.Revision + 1), deploymentNote: name}
	maps.Copy(notes, pod.Annotations)
	pod.Annotations = notes
	return Ref{Kind: ReplicationController, Name: name}
}
