package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// raiser is the field manager that raises and puts back; in the end it owns
// nothing any more, so that it is in nobody's way.
const raiser = "istio-upgrade-temporary"

// putBackPatience bounds what is done after an interrupt.
const putBackPatience = 30 * time.Second

// raise brings single replicas to two and waits until they are ready. The number
// before is recorded in the same write.
func (a *applier) raise(ctx context.Context, raises []Raise) error {
	watch := a.watch
	watch.least = map[workload.Ref]int32{}
	watch.unmet = func(text string) { a.warn(progress.Object{}, text) }
	var refs []workload.Ref
	for _, r := range raises {
		if r.Left {
			continue
		}
		a.tellRaise(r, fmt.Sprintf("%s: %d → %d for the length of the upgrade", r, r.From, r.To))
		if err := patchRaise(ctx, a.c, r, map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{replicasBefore: strconv.FormatInt(r.From, 10)}},
			"spec":     map[string]any{r.field()[1]: r.To},
		}); err != nil {
			return fmt.Errorf("raise the %s: %w", r, err)
		}
		refs, watch.least[r.deployment] = append(refs, r.deployment), int32(r.To)
	}
	if !a.o.Wait || len(refs) == 0 {
		return nil
	}
	if err := watch.await(ctx, refs, nil); err != nil {
		return fmt.Errorf("wait for the second replica: %w", err)
	}
	return nil
}

// putBackRaises puts back what was raised, also after ctx has ended. What cannot
// be is a warning: the record stays, and the next run does it.
func (a *applier) putBackRaises(ctx context.Context, raises []Raise) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackPatience)
	defer cancel()
	for _, r := range raises {
		number, err := putBackRaise(ctx, a.c, r)
		switch {
		case err != nil:
			text := fmt.Sprintf("the %s could not be put back to %d: %v; the same command does it", r, r.From, err)
			a.warn(raisedObject(r), text)
		case number > 0:
			a.tellRaise(r, fmt.Sprintf("%s: back to %d", r, number))
		}
	}
}

// putBackRaise gives the number that was written, 0 where the record is gone, or
// where somebody has changed the number meanwhile, which then stays.
func putBackRaise(ctx context.Context, c *cluster.Cluster, r Raise) (int64, error) {
	there, err := getRaised(ctx, c, r.Kind, r.Namespace, r.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	before, has := recorded(there)
	if !has {
		return 0, nil
	}
	number := int64(0)
	scaled, err := isScaled(ctx, c, r)
	if err != nil {
		return 0, err
	}
	if !scaled && integer(there, r.field()...) == r.To && before != r.To {
		number = before
		patch := map[string]any{"spec": map[string]any{r.field()[1]: before}}
		if err := patchRaise(ctx, c, r, patch); err != nil {
			return 0, err
		}
	}
	return number, forget(ctx, c, r)
}

// isScaled tells whether a Deployment has got an autoscaler meanwhile, whose
// number it then is.
func isScaled(ctx context.Context, c *cluster.Cluster, r Raise) (bool, error) {
	if r.Kind == autoscaler {
		return false, nil
	}
	scalers, err := autoscalersIn(ctx, c, r.Namespace)
	return slices.ContainsFunc(scalers, func(o *unstructured.Unstructured) bool {
		name, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
		return name == r.Name
	}), err
}

// forget removes the record and every claim of ours to a field.
func forget(ctx context.Context, c *cluster.Cluster, r Raise) error {
	client, err := raised(c, r.Kind, r.Namespace)
	if err != nil {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		there, err := client.Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(there.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == raiser })
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": there.GetResourceVersion(), "managedFields": others,
			"annotations": map[string]any{replicasBefore: nil},
		}})
		if err != nil {
			return err
		}
		_, err = client.Patch(ctx, r.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: raiser})
		return err
	})
}

func patchRaise(ctx context.Context, c *cluster.Cluster, r Raise, change map[string]any) error {
	client, err := raised(c, r.Kind, r.Namespace)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, r.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: raiser})
	return err
}

// carryRaise keeps an object raised when Helm writes its own number, and keeps
// the record true to it: that is what it is put back to.
func carryRaise(ctx context.Context, c *cluster.Cluster, there, target *unstructured.Unstructured) error {
	before, left := recorded(there)
	if !left {
		return nil
	}
	r := Raise{Kind: there.GetKind(), Namespace: there.GetNamespace(), Name: there.GetName(), To: enough}
	if _, writes, _ := unstructured.NestedFieldNoCopy(target.Object, r.field()...); !writes {
		return nil
	}
	rendered := integer(target, r.field()...)
	if rendered != before {
		patch := map[string]any{"metadata": map[string]any{"annotations": map[string]any{replicasBefore: strconv.FormatInt(rendered, 10)}}}
		if err := patchRaise(ctx, c, r, patch); err != nil {
			return fmt.Errorf("record the %s: %w", r, err)
		}
	}
	if rendered >= r.To {
		return nil
	}
	if err := unstructured.SetNestedField(target.Object, r.To, r.field()...); err != nil {
		return fmt.Errorf("keep the %s: %w", r, err)
	}
	return nil
}

func raisedObject(r Raise) progress.Object {
	return progress.Object{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

func (a *applier) tellRaise(r Raise, text string) {
	a.emit.Emit(progress.Event{Kind: progress.Updated, Object: raisedObject(r), Message: text})
}
