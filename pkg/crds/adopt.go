package crds

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// helmManager is the field manager of Helm's command line. What Helm writes
// bears its name and no other, or the user's next helm upgrade would fail with
// a conflict.
const helmManager = "helm"

// versionLabel says which version of Istio a definition is of.
const versionLabel = "app.kubernetes.io/version"

// prepare gives the merge patch that a live definition needs before it is
// written, nil for none: the copy of the whole definition that kubectl apply
// left in an annotation goes (it is stale after the write, and its size alone
// can break the object's limit); with adopt, the release's marks come; with
// helmWrites, fields of the definition that other managers wrote become
// Helm's; with unmark, the marks of a release that is gone go too. Nobody's
// label or annotation is touched otherwise.
func prepare(live mesh.CRD, release *helm.Release, adopt, helmWrites, unmark bool) (map[string]any, error) {
	metadata, annotations := map[string]any{}, map[string]any{}
	if unmark {
		metadata["labels"] = map[string]any{
			mesh.HelmManagedByLabel: nil, "app.kubernetes.io/instance": nil, versionLabel: nil, "helm.sh/chart": nil,
		}
		annotations[mesh.HelmReleaseNameAnnotation] = nil
		annotations[mesh.HelmReleaseNamespaceAnnotation] = nil
	}
	if _, ok := live.Object.Annotations[corev1.LastAppliedConfigAnnotation]; ok {
		annotations[corev1.LastAppliedConfigAnnotation] = nil
	}
	if adopt {
		metadata["labels"] = map[string]any{mesh.HelmManagedByLabel: mesh.HelmManagedByValue}
		annotations[mesh.HelmReleaseNameAnnotation] = release.Name
		annotations[mesh.HelmReleaseNamespaceAnnotation] = release.Namespace
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	if helmWrites {
		fields, err := handToHelm(live.Object.ManagedFields)
		if err != nil {
			return nil, fmt.Errorf("read the managed fields of %s: %w", live.Name, err)
		}
		if fields != nil {
			metadata["managedFields"] = fields
		}
	}
	if len(metadata) == 0 {
		return nil, nil
	}
	metadata["resourceVersion"] = live.Object.ResourceVersion
	return map[string]any{"metadata": metadata}, nil
}

// handToHelm gives managed fields in which what other managers own of the
// definition's spec belongs to Helm's server-side apply; nil where nothing
// does. Otherwise they would co-own it, and conflict with the next upgrade.
// Entries of a subresource, and those that own only metadata, stay.
func handToHelm(entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
	moved, foreign := make([]metav1.ManagedFieldsEntry, len(entries)), sets.New[string]()
	for i, entry := range entries {
		moved[i] = *entry.DeepCopy()
		if entry.Subresource != "" || entry.Manager == helmManager && entry.Operation == metav1.ManagedFieldsOperationApply {
			continue
		}
		if entry.FieldsV1 == nil || !strings.Contains(entry.FieldsV1.GetRawString(), `"f:spec"`) {
			continue
		}
		// csaupgrade knows client-side managers by their names, one entry each.
		moved[i].Manager = fmt.Sprintf("foreign-%d", i)
		moved[i].Operation = metav1.ManagedFieldsOperationUpdate
		foreign.Insert(moved[i].Manager)
	}
	if len(foreign) == 0 {
		return nil, nil
	}
	holder := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ManagedFields: moved}}
	if err := csaupgrade.UpgradeManagedFields(holder, foreign, helmManager); err != nil {
		return nil, err
	}
	return holder.ManagedFields, nil
}

// patchCRD sends a merge patch under a field manager.
func patchCRD(ctx context.Context, c *cluster.Cluster, live mesh.CRD, patch map[string]any, manager string) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("patch customresourcedefinition %s: %w", live.Name, err)
	}
	_, err = c.Dynamic.Resource(mesh.CRDResource(live.Raw.GroupVersionKind().Version)).
		Patch(ctx, live.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		return fmt.Errorf("patch customresourcedefinition %s: %w", live.Name, err)
	}
	return nil
}

// applyCRD writes a definition by server-side apply, taking its fields from
// other managers. dryRun asks the API server only.
func applyCRD(ctx context.Context, c *cluster.Cluster, t target, manager string, dryRun bool) error {
	object := t.Raw.DeepCopy()
	unstructured.RemoveNestedField(object.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(object.Object, "status")
	options := metav1.ApplyOptions{FieldManager: manager, Force: true}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	_, err := c.Dynamic.Resource(mesh.CRDResource(object.GroupVersionKind().Version)).Apply(ctx, t.Name, object, options)
	if err != nil {
		return fmt.Errorf("apply customresourcedefinition %s: %w", t.Name, err)
	}
	return nil
}
