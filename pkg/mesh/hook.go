package mesh

import (
	"fmt"
	"maps"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Hook is one admission webhook that the API server may call when a pod is
// created.
type Hook struct {
	// Configuration is the name of the webhook configuration, Webhook that of
	// the entry in it.
	Configuration string `json:"configuration"`
	Webhook       string `json:"webhook"`
	// Validating is false for mutating webhooks.
	Validating        bool            `json:"validating,omitempty"`
	NamespaceSelector labels.Selector `json:"-"`
	ObjectSelector    labels.Selector `json:"-"`
	// Conditional says that CEL matchConditions may keep the webhook from
	// being called although its selectors match.
	Conditional   bool   `json:"conditional,omitempty"`
	SideEffects   string `json:"sideEffects"`
	FailurePolicy string `json:"failurePolicy"`
	// URL is set for webhooks reached by URL, Service ("namespace/name") and
	// Path for those reached through a Service.
	URL            string `json:"url,omitempty"`
	Service        string `json:"service,omitempty"`
	Path           string `json:"path,omitempty"`
	CABundleEmpty  bool   `json:"caBundleEmpty,omitempty"`
	TimeoutSeconds int32  `json:"timeoutSeconds,omitempty"`
	// DryRunnable says that the API server answers dry-run requests through
	// it: its sideEffects are None or NoneOnDryRun. Where they are not, the
	// server refuses every dry-run create that the webhook matches ("does not
	// support dry run").
	DryRunnable bool `json:"dryRunnable"`
}

// Matches says whether the API server calls the webhook for a pod with these
// labels in a namespace of this name and these labels, as far as selectors
// decide. The label kubernetes.io/metadata.name, which API servers set since
// 1.21, is implied.
func (h Hook) Matches(namespace, pod map[string]string, namespaceName string) bool {
	if namespaceName != "" && namespace[namespaceNameLabel] == "" {
		namespace = maps.Clone(namespace)
		if namespace == nil {
			namespace = map[string]string{}
		}
		namespace[namespaceNameLabel] = namespaceName
	}
	return h.NamespaceSelector.Matches(labels.Set(namespace)) && h.ObjectSelector.Matches(labels.Set(pod))
}

// SelectorKeys gives the label keys that the webhook's selectors name, sorted.
func (h Hook) SelectorKeys() []string {
	keys := []string{}
	for _, s := range []labels.Selector{h.NamespaceSelector, h.ObjectSelector} {
		requirements, _ := s.Requirements()
		for _, r := range requirements {
			keys = append(keys, r.Key())
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// namespaceNameLabel is what the API server labels each namespace with.
const namespaceNameLabel = corev1.LabelMetadataName

// clientTarget fills in where the webhook is reached.
func (h *Hook) clientTarget(c admissionv1.WebhookClientConfig) {
	h.CABundleEmpty = len(c.CABundle) == 0
	if c.URL != nil {
		h.URL = *c.URL
	}
	if c.Service != nil {
		h.Service = c.Service.Namespace + "/" + c.Service.Name
		if c.Service.Path != nil {
			h.Path = *c.Service.Path
		}
	}
}

// selectors fills in the selectors; nil selects everything.
func (h *Hook) selectors(namespace, object *metav1.LabelSelector) error {
	var err error
	if h.NamespaceSelector, err = hookSelector(namespace); err != nil {
		return fmt.Errorf("namespaceSelector of webhook %s in %s: %w", h.Webhook, h.Configuration, err)
	}
	if h.ObjectSelector, err = hookSelector(object); err != nil {
		return fmt.Errorf("objectSelector of webhook %s in %s: %w", h.Webhook, h.Configuration, err)
	}
	return nil
}

// hookSelector differs from LabelSelectorAsSelector in nil, which a webhook
// means as "everything".
func hookSelector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

func dryRunnable(s *admissionv1.SideEffectClass) bool {
	return s != nil && (*s == admissionv1.SideEffectClassNone || *s == admissionv1.SideEffectClassNoneOnDryRun)
}

// createsPods says whether one of the rules covers the creation of pods.
func createsPods(rules []admissionv1.RuleWithOperations) bool {
	return slices.ContainsFunc(rules, func(r admissionv1.RuleWithOperations) bool {
		return oneOf(r.Operations, admissionv1.Create, admissionv1.OperationAll) &&
			oneOf(r.APIGroups, "", "*") &&
			oneOf(r.APIVersions, "v1", "*") &&
			oneOf(r.Resources, "pods", "*", "*/*") &&
			(r.Scope == nil || *r.Scope != admissionv1.ClusterScope)
	})
}

func oneOf[T comparable](have []T, wanted ...T) bool {
	return slices.ContainsFunc(wanted, func(w T) bool { return slices.Contains(have, w) })
}

func text[T ~string](p *T) string {
	if p == nil {
		return ""
	}
	return string(*p)
}
