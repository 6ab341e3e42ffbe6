package sidecars

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/csaupgrade"
	"k8s.io/kubectl/pkg/util"
)

// kubectlManager is the manager of kubectl apply --server-side: what is applied
// from files under it, the user's next kubectl apply takes for its own.
const kubectlManager = "kubectl"

// newApplier gives the applier that the options ask for. Server-side the fields
// are kubectl's own unless the user names another manager.
func newApplier(o *Options, f Files) applier {
	a := applier{manager: o.FieldManager, serverSide: f.ServerSide, force: o.Force}
	if f.ServerSide && a.manager == DefaultFieldManager {
		a.manager = kubectlManager
	}
	return a
}

// applyServerSide applies as kubectl apply --server-side does. Fields that
// kubectl wrote client-side, or this tool, are taken over first, as kubectl does
// (kubectl pkg/cmd/apply/apply.go, migrateToSSAIfNecessary): else those that the
// new manifest no longer has, such as the old sidecar's, would stay.
func (a applier) applyServerSide(ctx context.Context, client dynamic.ResourceInterface, before, object *unstructured.Unstructured, dryRun []string) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(object.Object)
	if err != nil {
		return nil, err
	}
	if before != nil && dryRun == nil {
		if before, err = a.saveLastApplied(ctx, client, before); err != nil {
			return nil, err
		}
		if err := a.takeOver(ctx, client, before); err != nil {
			return nil, err
		}
	}
	apply := func(force bool) (*unstructured.Unstructured, error) {
		return client.Patch(ctx, object.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: a.manager, Force: &force, DryRun: dryRun})
	}
	after, err := apply(a.force)
	if dryRun == nil || before == nil {
		return after, err
	}
	if onlyWith(err, takenOver(before)) {
		after, err = apply(true)
	}
	_, applied := before.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if patch, takeErr := csaupgrade.UpgradeManagedFieldsPatch(before, takenOver(before), a.manager); takeErr != nil || patch == nil {
		return after, errors.Join(err, takeErr)
	}
	if err == nil && applied || apierrors.IsInvalid(err) { // as two sidecars would be
		return a.foretell(ctx, client, before, object, dryRun)
	}
	return after, err
}

// drops says whether applying an object drops what this tool wrote of it, such as the
// stamp of a restart, which is not in its manifest: server-side its fields are taken
// over.
func (a applier) drops(before *unstructured.Unstructured) bool {
	return a.serverSide && slices.ContainsFunc(before.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == DefaultFieldManager })
}

// foretell gives what applying an object will make of it once fields are taken over,
// which no dry run does: a merge by what was applied last takes away what the new
// manifest no longer has.
func (a applier) foretell(ctx context.Context, client dynamic.ResourceInterface, before, object *unstructured.Unstructured, dryRun []string) (*unstructured.Unstructured, error) {
	object = object.DeepCopy() // it leaves an empty annotation behind
	modified, err := util.GetModifiedConfiguration(object, true, unstructured.UnstructuredJSONScheme)
	if err != nil {
		return nil, err
	}
	kind, patch, err := threeWay(before, modified)
	if err != nil || string(patch) == "{}" {
		return before, err
	}
	return client.Patch(ctx, object.GetName(), kind, patch, metav1.PatchOptions{FieldManager: a.manager, DryRun: dryRun})
}

// lastAppliedManager is the one under which kubectl keeps the annotation of its
// client-side applies when it applies server-side, so that they can go on (kubectl
// pkg/cmd/apply/apply.go, saveLastApplyAnnotationIfNecessary).
const lastAppliedManager = "kubectl-last-applied"

// saveLastApplied keeps what kubectl applied last from going with the fields that are
// taken over, and gives the object as it is then.
func (a applier) saveLastApplied(ctx context.Context, client dynamic.ResourceInterface, before *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	text, ok := before.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if !ok || a.manager != kubectlManager || slices.ContainsFunc(before.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == lastAppliedManager }) {
		return before, nil
	}
	alone := &unstructured.Unstructured{Object: map[string]any{"apiVersion": before.GetAPIVersion(), "kind": before.GetKind()}}
	alone.SetName(before.GetName())
	alone.SetNamespace(before.GetNamespace())
	alone.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: text})
	raw, err := json.Marshal(alone.Object)
	if err != nil {
		return nil, err
	}
	force := false
	return client.Patch(ctx, before.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: lastAppliedManager, Force: &force})
}

// sameServerSide says whether applying changed nothing that matters. The API
// server itself writes last-applied-configuration anew for kubectl's manager,
// in words of its own (apiserver util/managedfields, lastappliedupdater.go).
func sameServerSide(before, after *unstructured.Unstructured) bool {
	return same(withoutLastApplied(before), withoutLastApplied(after))
}

// withoutLastApplied gives a copy of an object without the annotation that
// holds all of it once more; nil for nil.
func withoutLastApplied(o *unstructured.Unstructured) *unstructured.Unstructured {
	if o == nil {
		return nil
	}
	o = o.DeepCopy()
	annotations := o.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	o.SetAnnotations(annotations)
	return o
}

// takenOver names the managers whose fields become the applier's: those that
// wrote last-applied-configuration, and this tool's own.
func takenOver(object *unstructured.Unstructured) sets.Set[string] {
	names := sets.New(DefaultFieldManager)
	for _, entry := range object.GetManagedFields() {
		if entry.Operation == metav1.ManagedFieldsOperationUpdate && entry.FieldsV1 != nil &&
			strings.Contains(entry.FieldsV1.GetRawString(), `"f:`+corev1.LastAppliedConfigAnnotation+`"`) {
			names.Insert(entry.Manager)
		}
	}
	return names
}

func (a applier) takeOver(ctx context.Context, client dynamic.ResourceInterface, before *unstructured.Unstructured) error {
	for attempt := 1; ; attempt++ {
		patch, err := csaupgrade.UpgradeManagedFieldsPatch(before, takenOver(before), a.manager)
		if err != nil || patch == nil {
			return err
		}
		_, err = client.Patch(ctx, before.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{})
		if !apierrors.IsConflict(err) || attempt == rewriteAttempts {
			return err
		}
		if before, err = client.Get(ctx, before.GetName(), metav1.GetOptions{}); err != nil {
			return err
		}
	}
}

// onlyWith says whether an error is a conflict with these managers alone.
func onlyWith(err error, managers sets.Set[string]) bool {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	causes := status.Status().Details.Causes
	return len(causes) > 0 && !slices.ContainsFunc(causes, func(c metav1.StatusCause) bool {
		for name := range managers {
			if strings.Contains(c.Message, `"`+name+`"`) {
				return false
			}
		}
		return true
	})
}
