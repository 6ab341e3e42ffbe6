package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// replicasBefore is the annotation of a Deployment or an autoscaler that was
// raised for the length of an upgrade: the number that it is to have again. It
// stands in the cluster, so that a run which is killed leaves it to the next.
const replicasBefore = "istio-upgrade/replicas-before"

// autoscaler is the kind that has the minimum of a Deployment's replicas.
const autoscaler = "HorizontalPodAutoscaler"

// enough is how many replicas a Deployment has that may lose one.
const enough = 2

// Raise is a number of replicas that is raised for the length of the upgrade.
type Raise struct {
	// Kind is Deployment, or HorizontalPodAutoscaler for its minimum.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	// Left says that an earlier run has raised it and not put it back.
	Left bool `json:"left,omitempty"`

	deployment workload.Ref // that it is about
}

// String names it in events and warnings.
func (r Raise) String() string {
	if r.Kind == autoscaler {
		return fmt.Sprintf("minimum of the autoscaler %s in %s", r.Name, r.Namespace)
	}
	return fmt.Sprintf("replicas of deployment/%s in %s", r.Name, r.Namespace)
}

// field is the one that holds the number.
func (r Raise) field() []string {
	if r.Kind == autoscaler {
		return []string{"spec", "minReplicas"}
	}
	return []string{"spec", "replicas"}
}

// findRaises gives what an earlier run has raised and, where it is asked for,
// what has a single replica in the releases that are to be upgraded. Not being
// allowed to list autoscalers is no error: then there is none to raise.
func findRaises(ctx context.Context, c *cluster.Cluster, releases []ReleasePlan, raise bool) ([]Raise, error) {
	found := []Raise{}
	scalers := map[string][]*unstructured.Unstructured{}
	for i := range releases {
		r := &releases[i]
		for _, ref := range r.Workloads {
			if _, scales := haValuesOf(r.Component, ref.Name); !scales || ref.Kind != workload.Deployment {
				continue
			}
			if _, known := scalers[ref.Namespace]; !known {
				list, err := autoscalersIn(ctx, c, ref.Namespace)
				if err != nil {
					return nil, err
				}
				scalers[ref.Namespace] = list
			}
			deployment, err := getRaised(ctx, c, workload.Deployment, ref.Namespace, ref.Name)
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("get %s: %w", ref.In(), err)
			}
			found = append(found, raisesOf(ref, deployment, scalers[ref.Namespace], raise && r.Action == Upgrade)...)
		}
	}
	return found, nil
}

// raisesOf judges one Deployment and what scales it. It is a pure function.
func raisesOf(ref workload.Ref, deployment *unstructured.Unstructured, scalers []*unstructured.Unstructured, raise bool) []Raise {
	var raises []Raise
	scaled := false
	for _, o := range append(slices.Clone(scalers), deployment) {
		r := Raise{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), To: enough, deployment: ref}
		if r.Kind == autoscaler {
			kind, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "kind")
			name, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
			if kind != workload.Deployment || name != ref.Name {
				continue
			}
			scaled = true
		}
		now := integer(o, r.field()...)
		before, left := recorded(o)
		switch {
		case left:
			r.From, r.Left = before, true
		case !raise, now != 1, r.Kind == autoscaler && integer(o, "spec", "maxReplicas") < enough, r.Kind != autoscaler && scaled:
			continue
		default:
			r.From = now
		}
		raises = append(raises, r)
	}
	return raises
}

// recorded gives the number that a raised object is to have again.
func recorded(o metav1.Object) (int64, bool) {
	text, ok := o.GetAnnotations()[replicasBefore]
	n, err := strconv.ParseInt(text, 10, 32)
	return n, ok && err == nil && n > 0
}

func autoscalersIn(ctx context.Context, c *cluster.Cluster, namespace string) ([]*unstructured.Unstructured, error) {
	resource, err := resourceOf(c, autoscaler)
	if err != nil {
		return nil, err
	}
	list, err := c.Dynamic.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list horizontalpodautoscalers in %s: %w", namespace, err)
	}
	var all []*unstructured.Unstructured
	for i := range list.Items {
		item := &list.Items[i]
		item.SetKind(autoscaler) // items of a list may come without
		all = append(all, item)
	}
	return all, nil
}

// resourceOf finds the API version of a kind that the server prefers.
func resourceOf(c *cluster.Cluster, kind string) (schema.GroupVersionResource, error) {
	group := "apps"
	if kind == autoscaler {
		group = "autoscaling"
	}
	mapper, err := c.Mapper()
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: group, Kind: kind})
	if meta.IsNoMatchError(err) {
		return schema.GroupVersionResource{}, fmt.Errorf("this API server does not know %s: %w", kind, err)
	}
	if err != nil {
		return schema.GroupVersionResource{}, fmt.Errorf("find the resource of %s: %w", kind, err)
	}
	return mapping.Resource, nil
}

func raised(c *cluster.Cluster, kind, namespace string) (dynamic.ResourceInterface, error) {
	resource, err := resourceOf(c, kind)
	if err != nil {
		return nil, err
	}
	return c.Dynamic.Resource(resource).Namespace(namespace), nil
}

func getRaised(ctx context.Context, c *cluster.Cluster, kind, namespace, name string) (*unstructured.Unstructured, error) {
	client, err := raised(c, kind, namespace)
	if err != nil {
		return nil, err
	}
	return client.Get(ctx, name, metav1.GetOptions{})
}
