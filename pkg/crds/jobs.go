package crds

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// jobNames gives the Jobs among rendered objects, which are all in the
// release's namespace.
func jobNames(objects []*unstructured.Unstructured) []string {
	names := []string{}
	for _, object := range objects {
		if object.GetKind() == "Job" {
			names = append(names, object.GetName())
		}
	}
	return names
}

// leftoverJobs gives those of the names that a Job of the namespace has and
// that deleting the release would not remove.
func leftoverJobs(ctx context.Context, c *cluster.Cluster, namespace string, wanted, ofRelease []string) ([]string, error) {
	list, err := c.Kube.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list jobs in namespace %s: %w", namespace, err)
	}
	found := []string{}
	for _, job := range list.Items {
		if slices.Contains(wanted, job.Name) && !slices.Contains(ofRelease, job.Name) {
			found = append(found, namespace+"/"+job.Name)
		}
	}
	return found, nil
}

// removeJobs deletes the Jobs of these names that are still there, with their
// pods, and waits until they are gone: a Job's template cannot change, and its
// name comes again.
func removeJobs(ctx context.Context, c *cluster.Cluster, namespace string, names []string, timeout time.Duration) error {
	jobs := c.Kube.BatchV1().Jobs(namespace)
	background := metav1.DeletePropagationBackground
	for _, name := range names {
		err := jobs.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("delete job %s in namespace %s: %w", name, namespace, err)
		}
		err = wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, timeout, true, func(ctx context.Context) (bool, error) {
			_, err := jobs.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			return false, err
		})
		if wait.Interrupted(err) && ctx.Err() == nil {
			return &gate.Timeout{Reason: fmt.Sprintf("job %s in namespace %s was deleted and is not gone after %s; see its finalizers", name, namespace, timeout)}
		}
		if err != nil {
			return fmt.Errorf("wait until job %s in namespace %s is gone: %w", name, namespace, err)
		}
	}
	return nil
}
