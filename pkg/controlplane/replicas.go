package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// scaler is the manager under which the autoscaler's controller writes
// replicas, through the subresource scale.
const (
	scaler           = "kube-controller-manager"
	scaleSubresource = "scale"
)

// carryReplicas keeps a Deployment's replicas from falling when the chart stops
// writing them because an autoscaler takes over. With server-side apply the
// field goes to the API's default of one with its last manager, so another one
// is written beforehand: the one that it has as soon as the autoscaler writes.
// With client-side apply the number there is written once more. The other way
// round, the autoscaler's claim is taken off the field, which would else be a
// conflict.
func carryReplicas(ctx context.Context, c *cluster.Cluster, original, there, target *unstructured.Unstructured, serverSide bool) error {
	now, known, _ := unstructured.NestedInt64(there.Object, "spec", "replicas")
	if !known {
		return nil
	}
	_, wrote, _ := unstructured.NestedFieldNoCopy(original.Object, "spec", "replicas")
	then, writes, _ := unstructured.NestedFieldNoCopy(target.Object, "spec", "replicas")
	switch {
	case !writes && !serverSide && wrote:
		if err := unstructured.SetNestedField(target.Object, now, "spec", "replicas"); err != nil {
			return fmt.Errorf("keep the replicas of deployment %s: %w", target.GetName(), err)
		}
		return editManagers(ctx, c, there, claimReplicas) // for when Helm turns to server-side apply
	case !writes && serverSide:
		return editManagers(ctx, c, there, claimReplicas)
	case writes && serverSide && fmt.Sprint(then) != fmt.Sprint(now):
		return editManagers(ctx, c, there, releaseReplicas)
	}
	return nil
}

// keepReplicas has a Deployment keep the replicas that it has where fewer would be
// written. It is a pure function but for target.
func keepReplicas(there, target *unstructured.Unstructured) error {
	now, then, err := replicasOf(there, target)
	if err != nil || then >= now {
		return err
	}
	return unstructured.SetNestedField(target.Object, int64(now), "spec", "replicas")
}

// editManagers changes a Deployment's managed fields, and nothing else of it.
func editManagers(ctx context.Context, c *cluster.Cluster, d *unstructured.Unstructured, edit func([]metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, bool)) error {
	deployments := c.Kube.AppsV1().Deployments(d.GetNamespace())
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		there, err := deployments.Get(ctx, d.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		entries, changed := edit(there.ManagedFields)
		if !changed {
			return nil
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": there.ResourceVersion, "managedFields": entries,
		}})
		if err != nil {
			return err
		}
		_, err = deployments.Patch(ctx, d.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("hand the replicas of deployment %s in %s over: %w", d.GetName(), d.GetNamespace(), err)
	}
	return nil
}

// claimReplicas adds the autoscaler's claim to the replicas, where nobody but
// one manager has one: with that one gone the field would be too.
func claimReplicas(entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, bool) {
	owners := 0
	var apiVersion string
	for _, e := range entries {
		if owns, _ := ownsReplicas(e); owns {
			owners++
			apiVersion = e.APIVersion
			if e.Subresource == scaleSubresource {
				return entries, false
			}
		}
	}
	if owners == 0 {
		return entries, false
	}
	return append(slices.Clone(entries), metav1.ManagedFieldsEntry{
		Manager: scaler, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: apiVersion,
		Subresource: scaleSubresource, FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`),
	}), true
}

// releaseReplicas takes the replicas from those who wrote them through the
// subresource scale.
func releaseReplicas(entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, bool) {
	var kept []metav1.ManagedFieldsEntry
	changed := false
	for _, e := range entries {
		owns, fields := ownsReplicas(e)
		if !owns || e.Subresource != scaleSubresource {
			kept = append(kept, e)
			continue
		}
		changed = true
		spec, _ := fields["f:spec"].(map[string]any)
		delete(spec, "f:replicas")
		if len(spec) == 0 {
			delete(fields, "f:spec")
		}
		if len(fields) == 0 {
			continue
		}
		raw, err := json.Marshal(fields)
		if err != nil {
			return entries, false
		}
		e.FieldsV1 = metav1.NewFieldsV1(string(raw))
		kept = append(kept, e)
	}
	return kept, changed
}

// ownsReplicas tells whether a manager has a claim to spec.replicas.
func ownsReplicas(e metav1.ManagedFieldsEntry) (bool, map[string]any) {
	fields := map[string]any{}
	if e.FieldsV1 == nil || json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
		return false, fields
	}
	spec, _ := fields["f:spec"].(map[string]any)
	_, owns := spec["f:replicas"]
	return owns, fields
}
