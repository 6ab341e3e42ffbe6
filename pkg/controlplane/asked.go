package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// helmManager is the field manager of Helm's command line, as which a release
// is written.
const helmManager = "helm"

// askServer has the API server judge everything that a release would write, by
// server-side applies that are only dry-runs, and gives what it refuses. Helm's
// own server dry-run renders alone and sends nothing (helm/helm:
// pkg/action/upgrade.go).
func askServer(ctx context.Context, c *cluster.Cluster, r ReleasePlan, before []*unstructured.Unstructured) ([]gate.Refusal, error) {
	if r.Action != Upgrade {
		return nil, nil
	}
	former := byKey(before, r.Namespace)
	reasons := make([]string, len(r.rendered.Objects))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, o := range r.rendered.Objects {
		group.Go(func() error {
			key := keyOf(o, r.Namespace)
			key.group = ""
			var err error
			reasons[i], err = refused(ctx, c, r, former[key], o)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var refusals []gate.Refusal
	for i, o := range r.rendered.Objects {
		if reasons[i] != "" {
			refusals = append(refusals, gate.Refusal{
				Object: strings.ToLower(o.GetKind()) + "/" + o.GetName(),
				Reason: "the API server refuses it: " + reasons[i], Cure: "mend the cause, or the values that it comes from",
			})
		}
	}
	return refusals, nil
}

// atOnce is how many questions are asked at a time.
const atOnce = 8

// refused gives the API server's reason against one object, "" where it takes
// it.
func refused(ctx context.Context, c *cluster.Cluster, r ReleasePlan, former, rendered *unstructured.Unstructured) (string, error) {
	mapper, err := c.Mapper()
	if err != nil {
		return "", err
	}
	gvk := rendered.GroupVersionKind()
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return "", fmt.Errorf("find the resource of %s: %w", gvk, err)
	}
	namespace := ""
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace = keyOf(rendered, r.Namespace).namespace
	}
	client := c.Dynamic.Resource(mapping.Resource).Namespace(namespace)
	target := rendered.DeepCopy()
	there, err := client.Get(ctx, target.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return "", fmt.Errorf("get %s %s: %w", gvk.Kind, target.GetName(), err)
	default:
		if former == nil {
			former = &unstructured.Unstructured{Object: map[string]any{}}
		}
		asWritten(former, there, target)
	}
	raw, err := json.Marshal(target)
	if err != nil {
		return "", fmt.Errorf("write %s %s: %w", gvk.Kind, target.GetName(), err)
	}
	force := !r.release.ServerSide // a client-side apply knows no conflicts
	_, err = client.Patch(ctx, target.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{
		FieldManager: helmManager, Force: &force, DryRun: []string{metav1.DryRunAll},
	})
	switch {
	case err == nil, ctx.Err() != nil:
		return "", ctx.Err()
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown: // no answer
		return "", fmt.Errorf("ask the API server about %s %s: %w", gvk.Kind, target.GetName(), err)
	case strings.Contains(err.Error(), "does not support dry run"):
		return "", nil // a webhook that cannot be asked
	}
	return strings.ReplaceAll(err.Error(), "\n", " "), nil
}

// asWritten changes a rendered object as it is changed when it is written: see
// carryOver. The replicas of a Deployment are left out where they would change
// hands, which takes a write beforehand.
func asWritten(former, there, target *unstructured.Unstructured) {
	switch target.GetKind() {
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		carryWebhooks(former, there, target)
	case workload.Deployment:
		unstructured.RemoveNestedField(target.Object, "spec", "replicas")
	case autoscaler:
		if _, raised := recorded(there); raised {
			unstructured.RemoveNestedField(target.Object, "spec", "minReplicas")
		}
	}
}
