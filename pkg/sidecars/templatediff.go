package sidecars

import (
	"context"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/diff"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// templateDiff gives what changes in a workload's pod template, as a unified
// diff; "" where nothing does.
func templateDiff(before, after *unstructured.Unstructured) (string, error) {
	path := []string{"spec", "template"}
	if before.GetKind() == workload.CronJob {
		path = []string{"spec", "jobTemplate"}
	}
	from, _, err := unstructured.NestedMap(before.Object, path...)
	if err != nil {
		return "", err
	}
	to, _, err := unstructured.NestedMap(after.Object, path...)
	if err != nil {
		return "", err
	}
	return diff.Values(diffName(before)+" "+strings.Join(path, "."), from, to)
}

// diffOf gives what writing a workload anew changes in its pod template. The
// API server is asked by a dry run, so that what it fills in does not look like a
// change; where it does not answer, what is sent is compared.
func (a *asker) diffOf(ctx context.Context, s *subject) (string, error) {
	before, after := s.item.remake.before, s.item.remake.after
	patch, err := inject.TemplatePatch(before, after)
	if err != nil {
		return "", err
	}
	resource, known := resourceOf(s.Ref.Kind)
	if known && patch != nil {
		options := metav1.PatchOptions{FieldManager: fieldManager(s.W, a.manager), DryRun: []string{metav1.DryRunAll}}
		if made, err := a.c.Dynamic.Resource(resource).Namespace(s.Ref.Namespace).Patch(ctx, s.Ref.Name, types.MergePatchType, patch, options); err == nil {
			after = made
		}
	}
	return templateDiff(before, after)
}

// diffName names an object in the head of its diff.
func diffName(object *unstructured.Unstructured) string {
	parts := []string{strings.ToLower(object.GetKind()), object.GetName()}
	if namespace := object.GetNamespace(); namespace != "" {
		parts = append([]string{namespace}, parts...)
	}
	return strings.Join(parts, "/")
}
