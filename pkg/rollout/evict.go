package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// evictNext evicts one more pod of a workload, once all of its pods are there
// and ready. A PodDisruptionBudget without room is waited for.
func (e *Engine) evictNext(ctx context.Context, r *run, v sight) {
	pod := nextToEvict(v, r.Promise)
	if pod == nil {
		return
	}
	err := e.evict(ctx, pod)
	switch {
	case err == nil:
		r.result.Sent = true
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		// It is gone already; the watch will show what came in its place.
	case apierrors.IsTooManyRequests(err), cluster.Transient(err):
		e.tellWaiting(r, "pod "+pod.Name+" may not be evicted yet: "+err.Error())
	case ctx.Err() == nil:
		e.end(ctx, r, Failed, "evict pod "+pod.Name+": "+err.Error())
	}
}

// nextToEvict gives the pod that goes next: the highest ordinal of those whose
// proxy is not the promised one; nil while any pod is missing, not ready, or on
// its way out, so that never two are missing.
func nextToEvict(v sight, promise workload.Promise) *corev1.Pod {
	if v.W == nil || int32(len(v.Pods)) < v.W.Desired {
		return nil
	}
	var old []*corev1.Pod
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil || !workload.Ready(pod) {
			return nil
		}
		if !promise.KeptBy(pod) {
			old = append(old, pod)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return slices.MaxFunc(old, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(ordinal(a.Name), ordinal(b.Name)), cmp.Compare(a.Name, b.Name))
	})
}

func ordinal(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
	if err != nil {
		return -1
	}
	return n
}

func (e *Engine) tellWaiting(r *run, why string) {
	if why != r.told {
		r.told = why
		e.Emit(progress.Event{Kind: progress.Waiting, Object: object(r.Ref), Message: why})
	}
}

// evict asks the API server to remove a pod, which a PodDisruptionBudget may
// refuse with 429. API servers before 1.22 know only the older form of the
// request.
func (e *Engine) evict(ctx context.Context, pod *corev1.Pod) error {
	target := metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}
	// The pod that was looked at, not one of the same name made since.
	options := &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
	err := e.Cluster.Kube.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: target, DeleteOptions: options})
	if apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "no kind") {
		return e.Cluster.Kube.PolicyV1beta1().Evictions(pod.Namespace).Evict(ctx, &policyv1beta1.Eviction{ObjectMeta: target, DeleteOptions: options})
	}
	return err
}

// troubled says whether something is wrong with a rollout: its controller says
// so, or a pod of it.
func troubled(v sight) bool {
	return v.W.Status.FailureMessage != "" || v.W.Status.DeadlineExceeded ||
		slices.ContainsFunc(v.Pods, func(pod *corev1.Pod) bool { return workload.Trouble(pod) != "" })
}

// stuck says whether a rollout does not get on by itself: a pod in trouble, pods
// that could not be made and are tried again only after a long back-off.
func stuck(v sight) bool {
	if troubled(v) {
		return true
	}
	// Where a pod takes the place of another, that one has to end before.
	waits := v.W.Kind == workload.StatefulSet || v.W.Kind == workload.DaemonSet
	there := int32(0)
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp == nil || waits {
			there++
		}
	}
	return there < v.W.Desired
}

// clearStuck evicts the pods of a StatefulSet that hang and are not ready: it waits
// for them for ever, and does not replace them when its template changes
// (kubernetes/kubernetes issue 67250). They take no traffic.
func (e *Engine) clearStuck(ctx context.Context, v sight, hangs func(*corev1.Pod) bool) error {
	if v.W.Kind != workload.StatefulSet {
		return nil
	}
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil || workload.Ready(pod) || !hangs(pod) {
			continue
		}
		if err := e.evict(ctx, pod); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("evict pod %s, which does not come up: %w", pod.Name, err)
		}
	}
	return nil
}
