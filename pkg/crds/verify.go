package crds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// verify asks the cluster whether the step succeeded: every definition of the
// target is established and not older than the target, those that were there
// before have their UIDs, and no object is gone.
func (r *run) verify(ctx context.Context, before inventory) error {
	now, err := mesh.ReadCRDs(ctx, r.c)
	if err != nil {
		return err
	}
	for _, t := range r.work.targets {
		if slices.ContainsFunc(now, func(crd mesh.CRD) bool { return crd.Name == t.Name && crd.Established }) {
			continue
		}
		if err := awaitEstablished(ctx, r.c, t.Name, t.Raw.GroupVersionKind().Version, r.o.timeout()); err != nil {
			return err
		}
	}
	if now, err = mesh.ReadCRDs(ctx, r.c); err != nil {
		return err
	}
	if older := olderThan(now, r.work.targets); len(older) > 0 {
		return fmt.Errorf("the definitions are not those of Istio %s yet: %s", r.Tag, strings.Join(older, "; "))
	}
	for _, was := range r.live {
		at := slices.IndexFunc(now, func(crd mesh.CRD) bool { return crd.Name == was.Name })
		switch {
		case at < 0:
			return fmt.Errorf("customresourcedefinition %s was there before and is gone%s", was.Name, r.restoreHint())
		case now[at].UID != was.UID:
			return fmt.Errorf("customresourcedefinition %s was deleted and made anew: its objects are lost%s", was.Name, r.restoreHint())
		}
	}
	after, err := record(ctx, r.c, now, "")
	if err != nil {
		return err
	}
	if lost := missing(before, after); len(lost) > 0 {
		return fmt.Errorf("%d objects were there before and are gone: %s%s", len(lost), strings.Join(lost, ", "), r.restoreHint())
	}
	return nil
}

// restoreHint says how the backup brings objects back.
func (r *run) restoreHint() string {
	if r.Backup == "" {
		return ""
	}
	return "; the backup restores them: kubectl apply -f " + r.Backup
}

// missing names the objects of before that after does not have, by UID.
func missing(before, after inventory) []string {
	lost := []string{}
	for crd, objects := range before {
		for uid, name := range objects {
			if _, ok := after[crd][uid]; !ok {
				lost = append(lost, strings.TrimPrefix(name, "/")+" ("+crd+")")
			}
		}
	}
	slices.Sort(lost)
	return lost
}

// awaitEstablished waits until the API server serves a definition. A name that
// the API server does not accept is an error at once, with its reason.
func awaitEstablished(ctx context.Context, c *cluster.Cluster, name, version string, timeout time.Duration) error {
	resource := c.Dynamic.Resource(mesh.CRDResource(version))
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = only
			return resource.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = only
			return resource.Watch(ctx, options)
		},
	}
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := watchtools.UntilWithSync(waiting, lw, &unstructured.Unstructured{}, nil, func(event watch.Event) (bool, error) {
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok || event.Type == watch.Deleted {
			return false, nil
		}
		crd, err := mesh.NewCRD(object)
		if err != nil {
			return false, err
		}
		for _, condition := range crd.Object.Status.Conditions {
			if condition.Type == apiextensionsv1.NamesAccepted && condition.Status == apiextensionsv1.ConditionFalse {
				return false, errors.New(condition.Message)
			}
		}
		return crd.Established, nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case waiting.Err() != nil:
		return &gate.Timeout{Reason: fmt.Sprintf("customresourcedefinition %s is not established after %s", name, timeout)}
	}
	return fmt.Errorf("wait for customresourcedefinition %s: %w", name, err)
}
