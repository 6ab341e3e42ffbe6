package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// Role says what the mesh loses while a Deployment has no replica.
type Role string

// The roles.
const (
	Injecting Role = "while it is replaced no pod can be injected"
	Routing   Role = "while it is replaced no traffic comes in or goes out"
	Checking  Role = "while it is replaced calls that ask it fail"
)

// Server is a Deployment that the mesh stands or falls with: istiod, a gateway,
// and Pilot, Policy and Telemetry of Istio up to 1.5.
type Server struct {
	Namespace, Name string
	Role            Role
	Replicas, Ready int32
	// HPAMin is the minimum of its autoscaler; 0 without one.
	HPAMin int32
	// Elsewhere is true where no chart's values of ours raise it: of a Gateway
	// that istiod renders, or of what Helm has not installed.
	Elsewhere bool
	// Budget is the PodDisruptionBudget that lets none of its pods be evicted;
	// empty where there is room.
	Budget string
}

// judge gives what is to be said of its availability. It is a pure function.
func (s *Server) judge() []Check {
	where := "deployment/" + s.Name + " in " + s.Namespace
	available := Check{Category: "control plane", Name: where + " is highly available", Level: OK}
	if s.Role == Routing {
		available.Category = "gateways"
	}
	switch {
	case s.Replicas < 2:
		available.Level, available.Cause = Warning, "one replica: "+string(s.Role)
	case s.HPAMin == 1:
		available.Level, available.Cause = Warning, "its autoscaler may go down to one replica"
	}
	if s.Replicas == 0 {
		available.Cause = "it is scaled to zero"
	}
	if available.Level != OK {
		available.Cure = "control-plane --ensure-ha gives it two by the chart's own values"
		if s.Elsewhere {
			available.Cure = "give it two replicas where it is defined"
		}
	}
	checks := []Check{available}
	if s.Budget != "" {
		checks = append(checks, Check{
			Category: available.Category, Name: where + " can be drained", Level: Warning,
			Cause: "poddisruptionbudget/" + s.Budget + " lets none of its pods be evicted", Cure: "give it one replica more than the budget wants",
		})
	}
	return checks
}

// ReadServers reads the Deployments of the namespaces that the mesh stands or
// falls with. Gateways are those of the given names, and what is labelled as
// one in the namespaces; what may not be read is named in unread.
func ReadServers(ctx context.Context, kube kubernetes.Interface, namespaces []string, gateways map[string][]string) (servers []Server, unread []string, err error) {
	for _, namespace := range namespaces {
		list, err := kube.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsForbidden(err) {
			unread = append(unread, "deployments in "+namespace)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("list deployments in %s: %w", namespace, err)
		}
		minimum, err := minimums(ctx, kube, namespace, &unread)
		if err != nil {
			return nil, nil, err
		}
		budgets, err := tightBudgets(ctx, kube, namespace, &unread)
		if err != nil {
			return nil, nil, err
		}
		for i := range list.Items {
			d := &list.Items[i]
			role, ok := roleOf(d)
			if slices.Contains(gateways[namespace], d.Name) {
				role, ok = Routing, true
			}
			if !ok {
				continue
			}
			s := Server{Namespace: namespace, Name: d.Name, Role: role, Replicas: 1, Ready: d.Status.ReadyReplicas, HPAMin: minimum[d.Name]}
			if d.Spec.Replicas != nil {
				s.Replicas = *d.Spec.Replicas
			}
			owners := mesh.OwnersOf(d)
			s.Elsewhere = owners.Helm == nil || owners.Keeper() != "" ||
				role == Routing && !strings.HasPrefix(d.Labels["helm.sh/chart"], "gateway-")
			s.Budget = blocking(budgets, d.Spec.Template.Labels)
			servers = append(servers, s)
		}
	}
	slices.SortFunc(servers, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return servers, unread, nil
}

// roleOf tells Istio's own Deployments by the labels that its charts give them
// (istio/istio: manifests/charts/*/templates/deployment.yaml and, up to 1.5,
// install/kubernetes/helm/istio/charts). Citadel, Galley and the injector of
// those may have one replica: they hold no traffic.
func roleOf(d *appsv1.Deployment) (Role, bool) {
	switch label := d.Labels["istio"]; {
	case label == "pilot":
		return Injecting, true
	case label == "mixer":
		return Checking, true
	case strings.HasSuffix(label, "gateway"):
		return Routing, true
	}
	return "", false
}

// minimums gives the autoscalers' minimum by the Deployment that they scale.
func minimums(ctx context.Context, kube kubernetes.Interface, namespace string, unread *[]string) (map[string]int32, error) {
	least := map[string]int32{}
	list, err := kube.AutoscalingV1().HorizontalPodAutoscalers(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		*unread = append(*unread, "horizontalpodautoscalers in "+namespace)
		return least, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list horizontalpodautoscalers in %s: %w", namespace, err)
	}
	for i := range list.Items {
		least[list.Items[i].Spec.ScaleTargetRef.Name] = minimumOf(&list.Items[i])
	}
	return least, nil
}

func minimumOf(h *autoscalingv1.HorizontalPodAutoscaler) int32 {
	if h.Spec.MinReplicas == nil {
		return 1
	}
	return *h.Spec.MinReplicas
}

// tightBudgets gives the PodDisruptionBudgets of a namespace that allow no
// disruption of pods that are all there.
func tightBudgets(ctx context.Context, kube kubernetes.Interface, namespace string, unread *[]string) ([]policyv1.PodDisruptionBudget, error) {
	list, err := kube.PolicyV1().PodDisruptionBudgets(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		list, err = oldBudgets(ctx, kube, namespace)
	}
	switch {
	case apierrors.IsForbidden(err):
		*unread = append(*unread, "poddisruptionbudgets in "+namespace)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list poddisruptionbudgets in %s: %w", namespace, err)
	}
	return slices.DeleteFunc(list.Items, func(b policyv1.PodDisruptionBudget) bool {
		s := b.Status
		return s.ExpectedPods == 0 || s.DisruptionsAllowed > 0 || s.CurrentHealthy < s.ExpectedPods
	}), nil
}

// oldBudgets reads the budgets of API servers before 1.21, which have policy/v1beta1
// alone.
func oldBudgets(ctx context.Context, kube kubernetes.Interface, namespace string) (*policyv1.PodDisruptionBudgetList, error) {
	list, err := kube.PolicyV1beta1().PodDisruptionBudgets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	found := &policyv1.PodDisruptionBudgetList{}
	for i := range list.Items {
		b := &list.Items[i]
		found.Items = append(found.Items, policyv1.PodDisruptionBudget{
			ObjectMeta: b.ObjectMeta, Spec: policyv1.PodDisruptionBudgetSpec{Selector: b.Spec.Selector},
			Status: policyv1.PodDisruptionBudgetStatus{
				ExpectedPods: b.Status.ExpectedPods, DisruptionsAllowed: b.Status.DisruptionsAllowed, CurrentHealthy: b.Status.CurrentHealthy,
			},
		})
	}
	return found, nil
}

func blocking(budgets []policyv1.PodDisruptionBudget, pod map[string]string) string {
	for i := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(budgets[i].Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(pod)) {
			return budgets[i].Name
		}
	}
	return ""
}
