package preflight

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func deployment(name, istio string, replicas int32) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: map[string]string{"istio": istio}},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas},
		Status:     appsv1.DeploymentStatus{ReadyReplicas: replicas},
	}
	d.Spec.Template.Labels = map[string]string{"app": name}
	return d
}

func budget(name, app string, healthy, allowed int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		Status:     policyv1.PodDisruptionBudgetStatus{ExpectedPods: 2, CurrentHealthy: healthy, DisruptionsAllowed: allowed},
	}
}

// Which Deployments count, by their labels or because their pods are gateways,
// with their autoscalers and the budgets that block.
func TestReadServers(t *testing.T) {
	one := int32(1)
	ofHelm := func(d *appsv1.Deployment, chart string) *appsv1.Deployment {
		d.Annotations = map[string]string{"meta.helm.sh/release-name": "x"}
		d.Labels["helm.sh/chart"] = chart
		return d
	}
	kube := fake.NewClientset(
		ofHelm(deployment("istiod", "pilot", 2), "istiod-1.30.2"), ofHelm(deployment("istio-policy", "mixer", 1), ""), deployment("istio-citadel", "citadel", 1),
		ofHelm(deployment("istio-ingressgateway", "ingressgateway", 2), "gateway-1.30.2"), deployment("edge", "", 2), deployment("web", "", 1),
		ofHelm(deployment("old-ingressgateway", "ingressgateway", 2), "gateways-1.4.10"),
		&autoscalingv1.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "any"},
			Spec:       autoscalingv1.HorizontalPodAutoscalerSpec{MinReplicas: &one, ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{Kind: "Deployment", Name: "istiod"}},
		},
		budget("tight", "edge", 2, 0), budget("room", "istiod", 2, 1), budget("in a rollout", "istio-ingressgateway", 1, 0),
	)
	got, unread, err := ReadServers(t.Context(), kube, []string{"istio-system"}, map[string][]string{"istio-system": {"edge"}})
	if err != nil || len(unread) > 0 {
		t.Fatal(err, unread)
	}
	want := []Server{
		{Namespace: "istio-system", Name: "edge", Role: Routing, Replicas: 2, Ready: 2, Elsewhere: true, Budget: "tight"},
		{Namespace: "istio-system", Name: "istio-ingressgateway", Role: Routing, Replicas: 2, Ready: 2},
		{Namespace: "istio-system", Name: "istio-policy", Role: Checking, Replicas: 1, Ready: 1},
		{Namespace: "istio-system", Name: "istiod", Role: Injecting, Replicas: 2, Ready: 2, HPAMin: 1},
		{Namespace: "istio-system", Name: "old-ingressgateway", Role: Routing, Replicas: 2, Ready: 2, Elsewhere: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("servers (-want +got):\n%s", d)
	}
}

// What may not be read is named, and the rest given.
func TestReadServersWithoutRights(t *testing.T) {
	kube := fake.NewClientset(deployment("istiod", "pilot", 2))
	for _, resource := range []string{"horizontalpodautoscalers", "poddisruptionbudgets"} {
		kube.PrependReactor("list", resource, func(ktesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no rule"))
		})
	}
	got, unread, err := ReadServers(t.Context(), kube, []string{"istio-system"}, nil)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if d := cmp.Diff([]string{"horizontalpodautoscalers in istio-system", "poddisruptionbudgets in istio-system"}, unread); d != "" {
		t.Errorf("unread (-want +got):\n%s", d)
	}
}

// API servers before 1.21 have budgets of policy/v1beta1 alone.
func TestBudgetsOfOldServers(t *testing.T) {
	old := &policyv1beta1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "tight"},
		Spec:       policyv1beta1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "istiod"}}},
		Status:     policyv1beta1.PodDisruptionBudgetStatus{ExpectedPods: 2, CurrentHealthy: 2},
	}
	kube := fake.NewClientset(deployment("istiod", "pilot", 2), old)
	kube.PrependReactor("list", "poddisruptionbudgets", func(a ktesting.Action) (bool, runtime.Object, error) {
		if a.GetResource().Version != "v1" {
			return false, nil, nil
		}
		return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "poddisruptionbudgets"}, "")
	})
	got, _, err := ReadServers(t.Context(), kube, []string{"istio-system"}, nil)
	if err != nil || len(got) != 1 || got[0].Budget != "tight" {
		t.Fatal(got, err)
	}
}
