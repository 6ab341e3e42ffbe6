package sidecars

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	resources "k8s.io/component-helpers/resource"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// noLimit is the room where no quota or budget counts.
const noLimit = -1

// roomFor gives how many more pods with these needs the quotas of a namespace
// have room for, noLimit where none counts. Quotas with scopes are left out: the
// dry run, which the API server answers, has counted them for one pod.
func roomFor(need corev1.ResourceList, quotas []corev1.ResourceQuota) int32 {
	room := int32(noLimit)
	for i := range quotas {
		q := &quotas[i]
		if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
			continue
		}
		for name, hard := range q.Status.Hard {
			want, counted := need[name]
			if !counted || want.IsZero() {
				continue
			}
			left := hard.DeepCopy()
			left.Sub(q.Status.Used[name])
			fits := int32(max(0, min(left.MilliValue()/max(1, want.MilliValue()), 1<<30)))
			if room == noLimit || fits < room {
				room = fits
			}
		}
	}
	return room
}

// givenBack gives the quotas as they are once a pod with these needs has gone.
func givenBack(quotas []corev1.ResourceQuota, pod corev1.ResourceList) []corev1.ResourceQuota {
	out := make([]corev1.ResourceQuota, 0, len(quotas))
	for i := range quotas {
		q := quotas[i].DeepCopy()
		for name, used := range q.Status.Used {
			used.Sub(pod[name])
			q.Status.Used[name] = used
		}
		out = append(out, *q)
	}
	return out
}

// podNeeds gives what a pod takes from a quota: itself, and its requests and
// limits, init containers, sidecars and overhead included (kubernetes
// pkg/quota/v1/evaluator/core/pods.go). What defaults and the sidecar add is in
// it only where the spec is that of a pod which admission has seen.
func podNeeds(spec *corev1.PodSpec) corev1.ResourceList {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	need := corev1.ResourceList{corev1.ResourcePods: one, "count/pods": one}
	pod := &corev1.Pod{Spec: *spec}
	for name, q := range resources.PodRequests(pod, resources.PodResourcesOptions{}) {
		need[name], need["requests."+name] = q, q
	}
	for name, q := range resources.PodLimits(pod, resources.PodResourcesOptions{}) {
		need["limits."+name] = q
	}
	return need
}

// disruptionsFor gives how many evictions the budgets that match the pods allow
// now, noLimit where none matches.
func disruptionsFor(w *workload.Workload, budgets []policyv1.PodDisruptionBudget) int32 {
	allowed := int32(noLimit)
	for i := range budgets {
		s, err := metav1.LabelSelectorAsSelector(budgets[i].Spec.Selector)
		if err != nil || !s.Matches(labels.Set(w.Template.Labels)) {
			continue
		}
		if n := budgets[i].Status.DisruptionsAllowed; allowed == noLimit || n < allowed {
			allowed = n
		}
	}
	return allowed
}

// evicts says whether pods are evicted to move any of the workloads: by this
// tool, or by the controller of a Rollout.
func (s *observation) evicts(o *Options) bool {
	return o.Evict || slices.ContainsFunc(s.inventory.Workloads, func(w *workload.Workload) bool { return w.Kind == workload.Rollout })
}

// readBudgets reads the PodDisruptionBudgets; API servers before 1.21 know only
// the older form.
func (s *observation) readBudgets(ctx context.Context, c *cluster.Cluster, namespace string) error {
	list, err := cluster.Reading(ctx, c, func(ctx context.Context) (*policyv1.PodDisruptionBudgetList, error) {
		return c.Kube.PolicyV1().PodDisruptionBudgets(namespace).List(ctx, metav1.ListOptions{})
	})
	if apierrors.IsNotFound(err) {
		return s.readOldBudgets(ctx, c, namespace)
	}
	if err != nil {
		return s.forgive(err, "poddisruptionbudgets")
	}
	for i := range list.Items {
		s.budgets[list.Items[i].Namespace] = append(s.budgets[list.Items[i].Namespace], list.Items[i])
	}
	return nil
}

func (s *observation) readOldBudgets(ctx context.Context, c *cluster.Cluster, namespace string) error {
	list, err := c.Kube.PolicyV1beta1().PodDisruptionBudgets(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the eviction itself will tell
	}
	if err != nil {
		return s.forgive(err, "poddisruptionbudgets")
	}
	for i := range list.Items {
		old := &list.Items[i]
		budget := policyv1.PodDisruptionBudget{ObjectMeta: old.ObjectMeta}
		budget.Spec.Selector, budget.Status.DisruptionsAllowed = old.Spec.Selector, old.Status.DisruptionsAllowed
		s.budgets[old.Namespace] = append(s.budgets[old.Namespace], budget)
	}
	return nil
}
