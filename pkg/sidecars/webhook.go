package sidecars

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// toWebhook takes the manual sidecar out of every workload that a webhook
// would inject: from then on a restart renews its proxy.
func (seen *observation) toWebhook(subjects []*subject) {
	for _, s := range subjects {
		asks, ok := s.webhookServes(seen.injectors)
		if !ok {
			hold([]*subject{s}, "no webhook would inject it: label its namespace for injection, or leave out --to-webhook")
			continue
		}
		s.item.remake.again = func(_ context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
			after, _, err := handOver(object, asks)
			return after, err
		}
		after, notes, err := handOver(s.item.remake.before, asks)
		if err == nil {
			s.renewed, err = with(s.W, after)
		}
		if err == nil {
			s.item.remake.patch, err = inject.TemplatePatch(s.item.remake.before, after)
		}
		if err != nil {
			hold([]*subject{s}, err.Error())
			continue
		}
		s.item.How, s.item.remake.after, s.item.Notes = Webhook, after, notes
	}
}

// handOver gives the object without its manual sidecar and without what keeps
// the webhook away, and with the labels that ask the webhook for one. The
// manifest that kubectl applied last is treated alike where it has the sidecar.
func handOver(object *unstructured.Unstructured, asks map[string]string) (*unstructured.Unstructured, []string, error) {
	after, result, err := inject.Uninject(object)
	if err != nil {
		return nil, nil, err
	}
	if status, ok := object.Object["status"]; ok {
		after.Object["status"] = status
	}
	path := []string{"spec", "template", "metadata"}
	if after.GetKind() == workload.CronJob {
		path = []string{"spec", "jobTemplate", "spec", "template", "metadata"}
	}
	if err := askWebhook(after, path, asks); err != nil {
		return nil, nil, fmt.Errorf("%s %s in %s: %w", object.GetKind(), object.GetName(), object.GetNamespace(), err)
	}
	annotations := after.GetAnnotations()
	if text := annotations[corev1.LastAppliedConfigAnnotation]; text != "" {
		applied := &unstructured.Unstructured{}
		if applied.UnmarshalJSON([]byte(text)) == nil {
			clean, taken, err := inject.Uninject(applied)
			if err == nil && taken.Changed && askWebhook(clean, path, asks) == nil {
				if raw, err := json.Marshal(clean.Object); err == nil {
					annotations[corev1.LastAppliedConfigAnnotation] = string(raw) + "\n"
					after.SetAnnotations(annotations)
				}
			}
		}
	}
	notes := make([]string, 0, len(result.Notes))
	for _, n := range result.Notes {
		notes = append(notes, n.String())
	}
	return after, notes, nil
}

// askWebhook drops the opt-out from a pod template's metadata and sets the
// labels that ask for injection.
func askWebhook(object *unstructured.Unstructured, path []string, asks map[string]string) error {
	for _, field := range []string{"labels", "annotations"} {
		at := append(slices.Clone(path), field)
		values, _, err := unstructured.NestedStringMap(object.Object, at...)
		if err != nil {
			return err
		}
		delete(values, label.SidecarInject.Name)
		if field == "labels" {
			if values == nil {
				values = map[string]string{}
			}
			maps.Copy(values, asks)
		}
		if len(values) == 0 {
			unstructured.RemoveNestedField(object.Object, at...)
			continue
		}
		if err := unstructured.SetNestedStringMap(object.Object, values, at...); err != nil {
			return err
		}
	}
	return nil
}

// offerWebhook says in a workload's reason that a webhook could do it from now
// on.
func (seen *observation) offerWebhook(o *Options, subjects []*subject) {
	if o.ByHand.ToWebhook {
		return
	}
	for _, s := range subjects {
		if s.item.Verdict != ByHand {
			continue
		}
		if _, ok := s.webhookServes(seen.injectors); ok {
			s.item.Reason = strings.TrimPrefix(s.item.Reason+"; --to-webhook hands it over to the webhook", "; ")
		}
	}
}
