package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Webhooks are the admission webhooks that can meet a pod which is created.
type Webhooks struct {
	Injectors []Injector `json:"injectors"`
	// Others are the mutating and validating webhooks on pods that are not
	// Istio's injectors.
	Others []Hook `json:"others"`
}

// ReadWebhooks reads injectors and other pod webhooks with one request for the
// mutating and one for the validating configurations (two each where the API
// server knows only v1beta1). Where the validating ones may not be listed, the
// error says so and the rest is given nevertheless.
func ReadWebhooks(ctx context.Context, kube kubernetes.Interface) (*Webhooks, error) {
	mutating, err := listMutating(ctx, kube)
	if err != nil {
		return &Webhooks{Injectors: []Injector{}, Others: []Hook{}}, err
	}
	injectors, others, err := splitMutating(mutating)
	hooks := &Webhooks{Injectors: injectors, Others: others}
	if err != nil {
		return hooks, err
	}
	validating, err := listValidating(ctx, kube)
	if err != nil {
		return hooks, err
	}
	for i := range validating {
		for j := range validating[i].Webhooks {
			w := &validating[i].Webhooks[j]
			if !createsPods(w.Rules) {
				continue
			}
			hook := Hook{
				Configuration: validating[i].Name, Webhook: w.Name, Validating: true,
				Conditional: len(w.MatchConditions) > 0,
				SideEffects: text(w.SideEffects), FailurePolicy: text(w.FailurePolicy),
				DryRunnable: dryRunnable(w.SideEffects),
			}
			hook.clientTarget(w.ClientConfig)
			if w.TimeoutSeconds != nil {
				hook.TimeoutSeconds = *w.TimeoutSeconds
			}
			if err := hook.selectors(w.NamespaceSelector, w.ObjectSelector); err != nil {
				return hooks, err
			}
			hooks.Others = append(hooks.Others, hook)
		}
	}
	return hooks, nil
}

// OtherPodWebhooks gives those of the other webhooks that the API server calls
// for a pod with these labels in this namespace. A dry-run create of the pod
// is answered only where all of them are DryRunnable.
func (w *Webhooks) OtherPodWebhooks(namespace, pod map[string]string, namespaceName string) []Hook {
	matching := []Hook{}
	for _, h := range w.Others {
		if h.Matches(namespace, pod, namespaceName) {
			matching = append(matching, h)
		}
	}
	return matching
}

// splitMutating tells Istio's injectors from the other webhooks on pods.
func splitMutating(configurations []admissionv1.MutatingWebhookConfiguration) ([]Injector, []Hook, error) {
	injectors, others := []Injector{}, []Hook{}
	for i := range configurations {
		c := &configurations[i]
		for j := range c.Webhooks {
			w := &c.Webhooks[j]
			switch {
			case isInjector(c, w):
				injector, err := newInjector(c, w)
				if err != nil {
					return injectors, others, err
				}
				injectors = append(injectors, injector)
			case createsPods(w.Rules):
				hook, err := mutatingHook(c, w)
				if err != nil {
					return injectors, others, err
				}
				others = append(others, hook)
			}
		}
	}
	return injectors, others, nil
}

func mutatingHook(c *admissionv1.MutatingWebhookConfiguration, w *admissionv1.MutatingWebhook) (Hook, error) {
	hook := Hook{
		Configuration: c.Name, Webhook: w.Name,
		Conditional: len(w.MatchConditions) > 0,
		SideEffects: text(w.SideEffects), FailurePolicy: text(w.FailurePolicy),
		DryRunnable: dryRunnable(w.SideEffects),
	}
	hook.clientTarget(w.ClientConfig)
	if w.TimeoutSeconds != nil {
		hook.TimeoutSeconds = *w.TimeoutSeconds
	}
	return hook, hook.selectors(w.NamespaceSelector, w.ObjectSelector)
}

// callPath gives the path that a webhook is called at.
func callPath(c admissionv1.WebhookClientConfig) string {
	if c.URL != nil {
		if u, err := url.Parse(*c.URL); err == nil {
			return u.Path
		}
	}
	if c.Service != nil && c.Service.Path != nil {
		return *c.Service.Path
	}
	return ""
}

func listMutating(ctx context.Context, kube kubernetes.Interface) ([]admissionv1.MutatingWebhookConfiguration, error) {
	list, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		old, oldErr := kube.AdmissionregistrationV1beta1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		list, err = &admissionv1.MutatingWebhookConfigurationList{}, oldErr
		if err == nil {
			err = convert(old, list)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list mutatingwebhookconfigurations: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b admissionv1.MutatingWebhookConfiguration) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

func listValidating(ctx context.Context, kube kubernetes.Interface) ([]admissionv1.ValidatingWebhookConfiguration, error) {
	list, err := kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		old, oldErr := kube.AdmissionregistrationV1beta1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		list, err = &admissionv1.ValidatingWebhookConfigurationList{}, oldErr
		if err == nil {
			err = convert(old, list)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list validatingwebhookconfigurations: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b admissionv1.ValidatingWebhookConfiguration) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

// convert goes from v1beta1 to v1, whose JSON has the same names for all that
// is read here.
func convert(from, to any) error {
	raw, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("convert from v1beta1: %w", err)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("convert from v1beta1: %w", err)
	}
	return nil
}
