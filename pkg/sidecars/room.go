package sidecars

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// noLimit is the room where no quota or budget counts.
const noLimit = -1

// roomFor gives how many more pods of this spec the quotas of a namespace have
// room for, noLimit where none counts. Quotas with scopes are left out: the dry
// run, which the API server answers, has counted them for one pod.
func roomFor(spec *corev1.PodSpec, quotas []corev1.ResourceQuota) int32 {
	room := int32(noLimit)
	need := podNeeds(spec)
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

// podNeeds gives what a pod takes from a quota: itself, and the sums of its
// containers' requests and limits (kubernetes pkg/quota/v1/evaluator/core/pods.go).
func podNeeds(spec *corev1.PodSpec) map[corev1.ResourceName]resource.Quantity {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	need := map[corev1.ResourceName]resource.Quantity{corev1.ResourcePods: one, "count/pods": one}
	add := func(names []corev1.ResourceName, q resource.Quantity) {
		for _, name := range names {
			sum := need[name]
			sum.Add(q)
			need[name] = sum
		}
	}
	lists := [][]corev1.Container{spec.Containers}
	for i := range spec.InitContainers {
		if p := spec.InitContainers[i].RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			lists = append(lists, spec.InitContainers[i:i+1])
		}
	}
	for _, list := range lists {
		for i := range list {
			for name, q := range list[i].Resources.Requests {
				add([]corev1.ResourceName{name, "requests." + name}, q)
			}
			for name, q := range list[i].Resources.Limits {
				add([]corev1.ResourceName{"limits." + name}, q)
			}
		}
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
