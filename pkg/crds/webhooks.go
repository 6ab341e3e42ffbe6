package crds

import (
	"context"
	"fmt"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

// keepWebhooks makes an upgrade leave two fields of webhooks as they are in
// the cluster: istiod fills in caBundle, and turns failurePolicy from Ignore to
// Fail once it can answer. Charts before 1.28.6 write them, and forcing
// conflicts would put them back for a moment.
func keepWebhooks(_ context.Context, _, targets kube.ResourceList) error {
	return targets.Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		kind := info.Mapping.GroupVersionKind.Kind
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok || kind != "ValidatingWebhookConfiguration" && kind != "MutatingWebhookConfiguration" {
			return nil
		}
		answer, err := resource.NewHelper(info.Client, info.Mapping).Get("", info.Name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("get %s %s: %w", kind, info.Name, err)
		}
		live, ok := answer.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("get %s %s: unknown form %T", kind, info.Name, answer)
		}
		return keepFields(object, live)
	})
}

// keepFields copies caBundle and failurePolicy from the live webhooks to those
// of the same name.
func keepFields(object, live *unstructured.Unstructured) error {
	have := map[string]map[string]any{}
	for _, webhook := range webhooksOf(live) {
		if name, ok := webhook["name"].(string); ok {
			have[name] = webhook
		}
	}
	webhooks := webhooksOf(object)
	for _, webhook := range webhooks {
		name, _ := webhook["name"].(string)
		now, ok := have[name]
		if !ok {
			continue
		}
		for _, path := range [][]string{{"clientConfig", "caBundle"}, {"failurePolicy"}} {
			value, found, err := unstructured.NestedString(now, path...)
			if err != nil || !found || value == "" {
				continue
			}
			if err := unstructured.SetNestedField(webhook, value, path...); err != nil {
				return fmt.Errorf("webhook %s: %w", name, err)
			}
		}
	}
	return nil
}

// webhooksOf gives the entries of a webhook configuration, not copies.
func webhooksOf(object *unstructured.Unstructured) []map[string]any {
	list, _ := object.Object["webhooks"].([]any)
	var webhooks []map[string]any
	for _, entry := range list {
		if webhook, ok := entry.(map[string]any); ok {
			webhooks = append(webhooks, webhook)
		}
	}
	return webhooks
}
