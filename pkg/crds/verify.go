package crds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// verify asks the cluster whether the step succeeded: every definition of the
// target is established and not older than the target, those that were there
// before have their UIDs, and no object is gone because of us. An object is
// deleted by others at any time (istiod itself deletes the WorkloadEntries that it
// has made); we could delete one only with its definition, whose UID is compared,
// or as part of the release.
func (r *run) verify(ctx context.Context, before inventory) (gone int, err error) {
	now, err := mesh.ReadCRDs(ctx, r.c)
	if err != nil {
		return 0, err
	}
	for _, t := range r.work.targets {
		if slices.ContainsFunc(now, func(crd mesh.CRD) bool { return crd.Name == t.Name && crd.Established }) {
			continue
		}
		if err := awaitEstablished(ctx, r.c, t.Name, t.Raw.GroupVersionKind().Version, r.o.timeout()); err != nil {
			return 0, err
		}
	}
	if now, err = mesh.ReadCRDs(ctx, r.c); err != nil {
		return 0, err
	}
	if older := olderThan(now, r.work.targets); len(older) > 0 {
		return 0, fmt.Errorf("the definitions are not those of Istio %s yet: %s", r.Brings(), strings.Join(older, "; "))
	}
	for _, was := range r.live {
		at := slices.IndexFunc(now, func(crd mesh.CRD) bool { return crd.Name == was.Name })
		switch {
		case at < 0:
			return 0, fmt.Errorf("customresourcedefinition %s was there before and is gone%s", was.Name, r.restoreHint())
		case now[at].UID != was.UID:
			return 0, fmt.Errorf("customresourcedefinition %s was deleted and made anew: its objects are lost%s", was.Name, r.restoreHint())
		}
	}
	after, err := record(ctx, r.c, now, "")
	if err != nil {
		return 0, err
	}
	lost := missing(before, after)
	if ours := deletedByUpgrade(lost, r.work.stored, r.live, r.Release); len(ours) > 0 {
		return 0, fmt.Errorf("%d objects were part of release %s and are gone with its upgrade: %s%s", len(ours), r.Release.Name, strings.Join(ours, ", "), r.restoreHint())
	}
	if len(lost) > 0 {
		r.emit.Emit(progress.Event{Kind: progress.Warning, Message: fmt.Sprintf("%s deleted meanwhile, and not by this run: %s%s",
			wordsFor(len(lost)), listed(lost), r.restoreHint())})
	}
	return len(lost), nil
}

func wordsFor(objects int) string {
	if objects == 1 {
		return "1 object was"
	}
	return fmt.Sprintf("%d objects were", objects)
}

// listed names the first few.
func listed(names []string) string {
	const few = 10
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// deletedByUpgrade gives those of the missing objects, in their words, that were
// part of the release, so that its upgrade deleted them.
func deletedByUpgrade(lost []string, stored []*unstructured.Unstructured, live []mesh.CRD, release *ReleaseChange) []string {
	parts := sets.New[string]()
	for _, o := range stored {
		at := slices.IndexFunc(live, func(crd mesh.CRD) bool {
			return crd.Kind == o.GetKind() && crd.Group == o.GroupVersionKind().Group
		})
		if at < 0 {
			continue
		}
		namespace := ""
		if live[at].Namespaced {
			namespace = cmp.Or(o.GetNamespace(), release.Namespace)
		}
		parts.Insert(named(namespace+"/"+o.GetName(), live[at].Name))
	}
	return slices.DeleteFunc(slices.Clone(lost), func(name string) bool { return !parts.Has(name) })
}

// named is how an object is told.
func named(name, crd string) string { return strings.TrimPrefix(name, "/") + " (" + crd + ")" }

// restoreHint says how the backup brings objects back.
func (r *run) restoreHint() string {
	if r.Backup == "" {
		return ""
	}
	return "; the backup restores them: kubectl apply -f " + r.Backup
}

// missing names the objects of before that after does not have: neither their
// UIDs, nor others of their names.
func missing(before, after inventory) []string {
	lost := []string{}
	for crd, objects := range before {
		now := sets.New(slices.Collect(maps.Values(after[crd]))...)
		for uid, name := range objects {
			if _, ok := after[crd][uid]; !ok && !now.Has(name) {
				lost = append(lost, named(name, crd))
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
