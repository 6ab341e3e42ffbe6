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
	item    *Item
	client  dynamic.ResourceInterface
	backup  string // folder
	manager string
}

func newRewrite(c *cluster.Cluster, item *Item, p *Plan, o *Options) *rewrite {
	resource, _ := resourceOf(item.Kind) // the plan has read the object by it
	return &rewrite{
		item: item, client: c.Dynamic.Resource(resource).Namespace(item.Namespace),
		backup: p.BackupDir, manager: fieldManager(item.w, o.FieldManager),
	}
}

// apply sends the difference between the object as the plan read it and as it
// is to be, with its resourceVersion. Where the object has moved meanwhile it is
// read again, and made anew if its pod template is another by now. Before each
// write the object as it is goes into the backup.
func (r *rewrite) apply(ctx context.Context) (rollout.Change, int64, error) {
	before, after := r.item.remake.before, r.item.remake.after
	for attempt := 1; ; attempt++ {
		patch, err := inject.TemplatePatch(before, after)
		if err != nil {
			return rollout.Change{}, 0, err
		}
		if patch == nil {
			return rollout.Change{}, before.GetGeneration(), nil
		}
		if err := keep(r.backup, before); err != nil {
			return rollout.Change{}, 0, err
		}
		live, err := r.client.Patch(ctx, r.item.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: r.manager})
		if err == nil {
			change, err := r.change(patch, before, live)
			return change, live.GetGeneration(), err
		}
		if !apierrors.IsConflict(err) || attempt == rewriteAttempts {
			return rollout.Change{}, 0, fmt.Errorf("patch %s: %w", r.item.In(), err)
		}
		if before, after, err = r.readAgain(ctx, before, after); err != nil {
			return rollout.Change{}, 0, err
		}
	}
}

// readAgain reads an object that has moved. Where its pod template is as it
// was, as when its controller wrote its status, what was made of it still holds.
func (r *rewrite) readAgain(ctx context.Context, before, after *unstructured.Unstructured) (fresh, made *unstructured.Unstructured, err error) {
	fresh, err = r.client.Get(ctx, r.item.Name, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read %s again: %w", r.item.In(), err)
	}
	if moved, err := inject.TemplatePatch(before, fresh); err == nil && moved == nil {
		return fresh, after, nil
	}
	made, err = r.item.remake.again(ctx, fresh)
	if err != nil {
		return nil, nil, err
	}
	return fresh, made, nil
}

// change gives what was written, and what puts back exactly the template that
// was there: the difference between the object as the API server has it now and
// as it was.
func (r *rewrite) change(patch []byte, before, live *unstructured.Unstructured) (rollout.Change, error) {
	now := live.DeepCopy()
	now.SetResourceVersion("") // its status will have moved by then
	undo, err := inject.TemplatePatch(now, before)
	change := rollout.Change{Type: types.MergePatchType, Patch: patch, Undo: undo, Manager: r.manager}
	if err != nil {
		return change, err
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
