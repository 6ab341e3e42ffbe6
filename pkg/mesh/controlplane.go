package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"istio.io/api/label"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// ControlPlane is one istiod, or one istio-pilot of Istio up to 1.5.
type ControlPlane struct {
	// Revision is "default" for installations without one.
	Revision   string `json:"revision"`
	Namespace  string `json:"namespace"`
	Deployment string `json:"deployment"`
	// Image is that of the discovery container, Tag its tag, Version what the
	// tag says; empty where the tag is no version.
	Image   string `json:"image"`
	Tag     string `json:"tag"`
	Version string `json:"version"`
	// Replicas are those wanted, Ready and Updated those of them.
	Replicas int32 `json:"replicas"`
	Ready    int32 `json:"ready"`
	Updated  int32 `json:"updated"`
	// HPAMin and HPAMax are the bounds of its autoscaler; 0 without one.
	HPAMin int32 `json:"hpaMin,omitempty"`
	HPAMax int32 `json:"hpaMax,omitempty"`
	// Tags are the revision tags that lead to it.
	Tags []string `json:"tags"`
	// Legacy says that it is istio-pilot, whose release has Citadel, Galley,
	// Mixer and the injector as Deployments of their own.
	Legacy bool   `json:"legacy,omitempty"`
	Owners Owners `json:"owners"`
}

// controlPlaneSelector finds istiod and istio-pilot of every version: all of
// Istio's charts and istioctl label the Deployment so.
const controlPlaneSelector = "istio=pilot"

// ReadControlPlanes gives the control planes of all namespaces, or, where the
// user may not list Deployments everywhere, of istioNamespace, in the order of
// namespace and revision. Tags are not filled in (Read does). The error is the
// API server's, wrapped; its being forbidden can be told by
// apierrors.IsForbidden.
func ReadControlPlanes(ctx context.Context, c *cluster.Cluster, istioNamespace string) ([]ControlPlane, error) {
	planes := []ControlPlane{}
	options := metav1.ListOptions{LabelSelector: controlPlaneSelector}
	list, err := c.Kube.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, options)
	if apierrors.IsForbidden(err) {
		list, err = c.Kube.AppsV1().Deployments(istioNamespace).List(ctx, options)
	}
	if err != nil {
		return planes, fmt.Errorf("list deployments labelled %s: %w", controlPlaneSelector, err)
	}
	for i := range list.Items {
		if plane, ok := newControlPlane(&list.Items[i]); ok {
			planes = append(planes, plane)
		}
	}
	slices.SortFunc(planes, func(a, b ControlPlane) int {
		return strings.Compare(a.Namespace+"/"+a.Revision, b.Namespace+"/"+b.Revision)
	})
	return planes, addAutoscalers(ctx, c.Kube, planes)
}

// newControlPlane is false for a Deployment without a discovery container.
func newControlPlane(d *appsv1.Deployment) (ControlPlane, bool) {
	containers := d.Spec.Template.Spec.Containers
	at := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == "discovery" })
	if at < 0 {
		return ControlPlane{}, false
	}
	plane := ControlPlane{
		Revision: d.Labels[label.IoIstioRev.Name], Namespace: d.Namespace, Deployment: d.Name,
		Image: containers[at].Image, Replicas: 1, Tags: []string{},
		Ready: d.Status.ReadyReplicas, Updated: d.Status.UpdatedReplicas,
		Legacy: d.Name == "istio-pilot", Owners: OwnersOf(d),
	}
	if plane.Revision == "" {
		plane.Revision = DefaultRevision
	}
	if d.Spec.Replicas != nil {
		plane.Replicas = *d.Spec.Replicas
	}
	_, plane.Tag, _ = SplitImage(plane.Image)
	if v, ok := TagVersion(plane.Tag); ok {
		plane.Version = v.String()
	}
	return plane, true
}

// addAutoscalers fills in the HPAs. autoscaling/v1 is enough for the bounds and
// served by every API server. Not being allowed to see them is no error.
func addAutoscalers(ctx context.Context, kube kubernetes.Interface, planes []ControlPlane) error {
	lists := map[string][]autoscalingv1.HorizontalPodAutoscaler{}
	for i := range planes {
		namespace := planes[i].Namespace
		if _, known := lists[namespace]; !known {
			list, err := kube.AutoscalingV1().HorizontalPodAutoscalers(namespace).List(ctx, metav1.ListOptions{})
			if err != nil && !apierrors.IsForbidden(err) {
				return fmt.Errorf("list horizontalpodautoscalers in %s: %w", namespace, err)
			}
			lists[namespace] = nil
			if err == nil {
				lists[namespace] = list.Items
			}
		}
		for _, hpa := range lists[namespace] {
			if hpa.Spec.ScaleTargetRef.Kind == "Deployment" && hpa.Spec.ScaleTargetRef.Name == planes[i].Deployment {
				planes[i].HPAMin, planes[i].HPAMax = 1, hpa.Spec.MaxReplicas
				if hpa.Spec.MinReplicas != nil {
					planes[i].HPAMin = *hpa.Spec.MinReplicas
				}
			}
		}
	}
	return nil
}
