package sidecars

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"istio.io/api/annotation"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// rewriteAttempts is how often an object that moves while it is written is read
// again: each time something else has written it in between.
const rewriteAttempts = 5

// rewrite writes the new pod template of one workload.
type rewrite struct {
	c       *cluster.Cluster
	item    *Item
	client  dynamic.ResourceInterface
	backup  string // folder
	manager string
}

func newRewrite(c *cluster.Cluster, item *Item, p *Plan, o *Options) *rewrite {
	resource, _ := resourceOf(item.Kind) // the plan has read the object by it
	return &rewrite{
		c: c, item: item, client: c.Dynamic.Resource(resource).Namespace(item.Namespace),
		backup: p.BackupDir, manager: fieldManager(item.w, o.FieldManager),
	}
}

// apply sends the difference between the object as the plan read it and as it
// is to be, with its resourceVersion. Where the object has moved meanwhile it is
// read again, and where its pod template is another by now, made anew; that one
// goes into the backup too before it is written.
func (r *rewrite) apply(ctx context.Context) (rollout.Change, int64, error) {
	made := *r.item.remake
	for attempt := 1; ; attempt++ {
		before, patch := made.before, made.patch
		if patch == nil {
			return rollout.Change{}, before.GetGeneration(), nil
		}
		// It may be sent twice: the second one is a conflict where the first arrived.
		live, err := cluster.Reading(ctx, r.c, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return r.client.Patch(ctx, r.item.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: r.manager})
		})
		if err == nil {
			change, err := r.change(patch, before, live, made.kept)
			return change, live.GetGeneration(), err
		}
		if !apierrors.IsConflict(err) || attempt == rewriteAttempts {
			return rollout.Change{}, 0, fmt.Errorf("patch %s: %w", r.item.In(), err)
		}
		fresh, err := r.fresh(ctx)
		if err != nil {
			return rollout.Change{}, 0, err
		}
		if arrived(before, made.after, fresh) {
			change, err := r.change(patch, before, fresh, made.kept)
			return change, fresh.GetGeneration(), err
		}
		if err := r.again(ctx, &made, fresh); err != nil {
			return rollout.Change{}, 0, err
		}
	}
}

// arrived says whether an object bears what was made of it before: its template is
// that, or has its sidecar, to which the API server has added its defaults.
func arrived(before, made, fresh *unstructured.Unstructured) bool {
	if left, err := inject.TemplatePatch(fresh, made); err == nil && left == nil {
		return true
	}
	sidecar := func(o *unstructured.Unstructured) string {
		template, ok := templateOf(o)
		if !ok {
			return ""
		}
		proxy, _ := workload.ProxyOf(template.Annotations, &template.Spec)
		return proxy.Image + " " + template.Annotations[annotation.SidecarStatus.Name]
	}
	now := sidecar(fresh)
	return now == sidecar(made) && now != sidecar(before)
}

// fresh reads an object that has moved.
func (r *rewrite) fresh(ctx context.Context) (*unstructured.Unstructured, error) {
	fresh, err := cluster.Reading(ctx, r.c, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return r.client.Get(ctx, r.item.Name, metav1.GetOptions{})
	})
	if err != nil {
		return nil, fmt.Errorf("read %s again: %w", r.item.In(), err)
	}
	return fresh, nil
}

// again makes the template of an object that has moved. Where its pod template is
// as it was, as when its controller wrote its status, what was made of it still
// holds.
func (r *rewrite) again(ctx context.Context, made *remake, fresh *unstructured.Unstructured) (err error) {
	if moved, err := inject.TemplatePatch(made.before, fresh); err != nil || moved != nil {
		if made.after, err = made.again(ctx, fresh); err != nil {
			return err
		}
		if made.kept, err = keep(r.backup, fresh); err != nil {
			return err
		}
	}
	made.before = fresh
	made.patch, err = inject.TemplatePatch(fresh, made.after)
	return err
}

// change gives what was written, and what puts back exactly the template that
// was there. The object as it was is kept in the file named.
func (r *rewrite) change(patch []byte, before, live *unstructured.Unstructured, kept string) (rollout.Change, error) {
	change := rollout.Change{
		Type: types.MergePatchType, Patch: patch, Manager: r.manager,
		At: rollout.WrittenAt(live.GetManagedFields(), r.manager),
		TakeBack: func(ctx context.Context) error {
			return takeBack(ctx, r.c, r.client, live, kept, r.manager, func(now *unstructured.Unstructured) ([]byte, error) {
				return inject.TemplatePatch(now, before)
			})
		},
	}
	written, err := with(r.item.w, live)
	if err != nil {
		return change, err
	}
	if r.item.How == Reinject {
		proxy, _ := workload.ProxyOf(written.Template.Annotations, &written.Template.Spec)
		change.Image = proxy.Image
		change.StampKey, change.Stamp = annotation.SidecarStatus.Name, written.Template.Annotations[annotation.SidecarStatus.Name]
	}
	return change, nil
}
