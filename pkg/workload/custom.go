package workload

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// customKinds are the custom resources that are read and moved, each with how it
// is read.
var customKinds = []struct {
	kind string
	from func(*unstructured.Unstructured) (*Workload, error)
}{
	{Rollout, FromRollout},
	{DeploymentConfig, FromDeploymentConfig},
}

// FromCustom reads a custom resource of a kind that can be moved; nil where it
// is none.
func FromCustom(u *unstructured.Unstructured) *Workload {
	for _, c := range customKinds {
		ref := Ref{Group: u.GroupVersionKind().Group, Kind: u.GetKind()}
		if !ref.Is(c.kind) {
			continue
		}
		if w, err := c.from(u); err == nil {
			return w
		}
	}
	return nil
}

// readCustom lists the custom resources that the pods point to; a cluster whose
// pods point to none is not asked for them.
func (r *reader) readCustom(ctx context.Context) error {
	for _, c := range customKinds {
		found := false
		for key := range r.byOwner {
			found = found || key.likely.Is(c.kind)
		}
		if !found {
			continue
		}
		resource := Resources[c.kind]
		err := each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return r.c.Dynamic.Resource(resource).Namespace(r.namespace).List(ctx, o)
		}, func(u *unstructured.Unstructured) {
			if w := FromCustom(u); w != nil {
				r.addWorkload(w)
			}
		}, resource.Resource, r.namespace)
		switch {
		case apierrors.IsForbidden(err):
			r.Unread = append(r.Unread, resource.GroupResource().String())
		case apierrors.IsNotFound(err):
			// The API is not served: the labels mean something else here.
		case err != nil:
			return err
		}
	}
	for _, w := range r.Workloads {
		if w.TemplateFrom == nil {
			continue
		}
		if from := r.byRef[*w.TemplateFrom]; from != nil {
			w.Adopt(from)
		}
	}
	return nil
}
