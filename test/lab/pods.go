package lab

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podReady(p *corev1.Pod) bool {
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady {
			return cond.Status == corev1.ConditionTrue
		}
	}
	return false
}

// AwaitPods returns when at least n pods of a namespace have a label ("" is every pod) and all of them are ready,
// none on its way out.
func (c *Cluster) AwaitPods(ctx context.Context, namespace, selector string, n int, limit time.Duration) error {
	return c.await(ctx, fmt.Sprintf("%d pods of %s %s", n, namespace, selector), limit, func(ctx context.Context) error {
		pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range pods.Items {
			switch {
			case p.Status.Phase == corev1.PodSucceeded:
			case p.DeletionTimestamp != nil || !podReady(&p):
				return fmt.Errorf("the pod %s is not ready", p.Name)
			default:
				ready++
			}
		}
		if ready < n {
			return fmt.Errorf("%d pods are ready", ready)
		}
		return nil
	})
}
