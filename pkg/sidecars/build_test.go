package sidecars

import (
	"errors"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// shop is a namespace with Deployments of one pod each, and what the API server
// says to a dry run of a pod of each: what it would run, or an error.
type shop struct {
	runs        map[string]string // Deployment to proxy image
	gives       map[string]any    // Deployment to image ("" for no proxy) or error
	native      bool              // the proxy that is given is a native one
	conditional bool              // the webhook has matchConditions
	forbidden   []string          // resources that the user may not read
}

func proxied(image string, native bool) corev1.PodSpec {
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}}
	proxy := corev1.Container{Name: "istio-proxy", Image: image}
	switch {
	case image == "":
	case native:
		spec.InitContainers = append(spec.InitContainers, proxy)
	default:
		spec.Containers = append(spec.Containers, proxy)
	}
	return spec
}

func (s shop) plan(t *testing.T) *Plan {
	t.Helper()
	controller := true
	hook := admissionv1.MutatingWebhook{
		Name: "namespace.sidecar-injector.istio.io",
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
	}
	if s.conditional {
		hook.MatchConditions = []admissionv1.MatchCondition{{Name: "some", Expression: "true"}}
	}
	objects := []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-sidecar-injector"}, Webhooks: []admissionv1.MutatingWebhook{hook}},
	}
	for name, image := range s.runs {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		d.Spec.Template.Labels = map[string]string{"app": name}
		d.Spec.Template.Spec = proxied("", false)
		d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name + "-5f4dcc3b5a-x", Labels: map[string]string{"app": name, "pod-template-hash": "5f4dcc3b5a"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name + "-5f4dcc3b5a", Controller: &controller}},
		}, Spec: proxied(image, false)}
		objects = append(objects, d, pod)
	}
	kube := fake.NewClientset(objects...)
	kube.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		pod := a.(clienttesting.CreateAction).GetObject().(*corev1.Pod).DeepCopy()
		switch given := s.gives[pod.Labels["app"]].(type) {
		case error:
			return true, nil, given
		case string:
			pod.Spec = proxied(given, s.native)
		}
		return true, pod, nil
	})
	kube.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		resource := a.GetResource().Resource
		if slices.Contains(s.forbidden, resource) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no"))
		}
		return false, nil, nil
	})
	c := &cluster.Cluster{Kube: kube, Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{proxyConfigs: "ProxyConfigList"})}
	plan, err := NewPlan(t.Context(), c, Options{Namespace: "shop", IstioNamespace: "istio-system"})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestNewPlanJudgesByTheWorkloadsOwnAnswer: workloads that look alike share a
// question, and what their own pod is told counts in the end.
func TestNewPlanJudgesByTheWorkloadsOwnAnswer(t *testing.T) {
	full := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("exceeded quota: full, requested: pods=1"))
	secure := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New(`violates PodSecurity "restricted:latest"`))
	type all = map[string]string
	type given = map[string]any
	for _, tc := range []struct {
		name    string
		shop    shop
		verdict Verdict // of the Deployment web, which is asked for after api
		how     How
		words   string
	}{
		{"alike", shop{runs: all{"api": oldProxy, "web": oldProxy}, gives: given{"api": newProxy, "web": newProxy}}, Stale, Restart, ""},
		{"its own pod gets no proxy", shop{runs: all{"api": oldProxy, "web": oldProxy}, gives: given{"api": newProxy, "web": ""}}, Loses, Nothing, "injects nothing"},
		{"its own pod gets what it has", shop{runs: all{"api": oldProxy, "web": oldProxy}, gives: given{"api": newProxy, "web": oldProxy}}, Fresh, Nothing, ""},
		{"fresh, and a condition keeps its own pod from getting a proxy", shop{
			runs: all{"api": newProxy, "web": newProxy}, gives: given{"api": newProxy, "web": ""}, conditional: true,
		}, Loses, Nothing, "injects nothing"},
		{"the first is refused, and the others have another form now", shop{
			runs: all{"api": newProxy, "web": newProxy}, gives: given{"api": secure, "web": newProxy}, native: true,
		}, Stale, Restart, ""},
		{"its own pod is refused", shop{runs: all{"api": oldProxy, "web": oldProxy}, gives: given{"api": newProxy, "web": secure}}, Stale, Nothing, "violates PodSecurity"},
		{"nothing is answered and nothing may be read", shop{
			runs: all{"api": oldProxy, "web": oldProxy}, gives: given{"api": full, "web": full},
			forbidden: []string{"mutatingwebhookconfigurations", "configmaps"},
		}, Left, Nothing, "exceeded quota: full"},
		{"answered, and nothing may be read", shop{
			runs: all{"api": oldProxy, "web": oldProxy}, gives: given{"api": newProxy, "web": newProxy},
			forbidden: []string{"mutatingwebhookconfigurations", "configmaps"},
		}, Stale, Restart, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan := tc.shop.plan(t)
			i := slices.IndexFunc(plan.Items, func(i Item) bool { return i.Name == "web" })
			if i < 0 {
				t.Fatalf("web is not in the plan: %+v", plan.Items)
			}
			item := plan.Items[i]
			if item.Verdict != tc.verdict || item.How != tc.how || !strings.Contains(item.Reason+item.Held, tc.words) {
				t.Errorf("%s, %s, %q, %q; want %s, %s, %q", item.Verdict, item.How, item.Reason, item.Held, tc.verdict, tc.how, tc.words)
			}
			left := slices.ContainsFunc(plan.Staying(), func(i Item) bool { return i.Name == "web" })
			if want := tc.how == Nothing && tc.verdict != Fresh; left != want {
				t.Errorf("left to a person: %v, want %v", left, want)
			}
		})
	}
}
