package mesh

import (
	"context"
	"slices"
	"strings"

	"istio.io/api/label"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/client-go/kubernetes"
)

// Injector is one webhook of Istio that puts the sidecar into pods. A
// revision has several: one for each way in which a namespace or a pod can
// ask for it.
type Injector struct {
	Hook
	// Revision is the real revision that answers, also where Tag is set;
	// "default" for installations without a revision.
	Revision string `json:"revision"`
	// Tag is the revision tag that the webhook belongs to, if it does.
	Tag string `json:"tag,omitempty"`
	// Deactivated says that the selectors were blanked by
	// `istioctl tag set default`, so that another webhook serves instead.
	Deactivated        bool   `json:"deactivated,omitempty"`
	ReinvocationPolicy string `json:"reinvocationPolicy,omitempty"`
}

// DefaultRevision is what a control plane installed without a revision calls
// itself.
const DefaultRevision = "default"

const (
	injectorWebhook = "sidecar-injector.istio.io"
	injectorApp     = "sidecar-injector"
	// deactivatedLabel is the key in the never matching selectors that
	// istioctl writes (istioctl/pkg/tag/generate.go).
	deactivatedLabel = "istio.io/deactivated"
)

// ReadInjectors gives the injectors of all revisions and tags, in the order of
// their configurations' names. It sends one request, or a second one where the
// API server knows only admissionregistration.k8s.io/v1beta1 (before 1.16).
// The error is the API server's, wrapped.
func ReadInjectors(ctx context.Context, kube kubernetes.Interface) ([]Injector, error) {
	configurations, err := listMutating(ctx, kube)
	if err != nil {
		return nil, err
	}
	injectors, _, err := splitMutating(configurations)
	return injectors, err
}

// Serving gives the injectors that the API server calls for a pod with these
// labels in the namespace of this name and these labels. None is common; more
// than one means that several revisions or tags claim the pod, and Istio
// supports that only where all of them are one revision.
//
// Istiod itself then still leaves some pods alone: see IgnoredNamespace.
func Serving(injectors []Injector, namespace, pod map[string]string, namespaceName string) []Injector {
	serving := []Injector{}
	for _, i := range injectors {
		if i.Matches(namespace, pod, namespaceName) {
			serving = append(serving, i)
		}
	}
	return serving
}

// SelectorKeys gives the label keys that any selector of the injectors names,
// sorted. Two pods with the same values of these are served alike.
func SelectorKeys(injectors []Injector) []string {
	keys := []string{}
	for _, i := range injectors {
		keys = append(keys, i.SelectorKeys()...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// IgnoredNamespace says whether istiod injects nothing in the namespace
// whatever its labels (pkg/kube/inject/webhook.go and inject.go of Istio,
// IgnoredNamespaces; the last two since 1.9).
func IgnoredNamespace(name string) bool {
	switch name {
	case "kube-system", "kube-public", "kube-node-lease", "local-path-storage":
		return true
	}
	return false
}

// isInjector knows Istio's injectors by the webhook's name, which every chart
// and istioctl give it, or where a vendor renamed it by label and path.
func isInjector(c *admissionv1.MutatingWebhookConfiguration, w *admissionv1.MutatingWebhook) bool {
	if w.Name == injectorWebhook || strings.HasSuffix(w.Name, "."+injectorWebhook) {
		return true
	}
	_, revisioned := c.Labels[label.IoIstioRev.Name]
	_, tagged := c.Labels[label.IoIstioTag.Name]
	if c.Labels["app"] != injectorApp && !revisioned && !tagged {
		return false
	}
	return createsPods(w.Rules) && strings.HasPrefix(callPath(w.ClientConfig), "/inject")
}

// newInjector makes an Injector from an entry of a configuration.
func newInjector(c *admissionv1.MutatingWebhookConfiguration, w *admissionv1.MutatingWebhook) (Injector, error) {
	hook, err := mutatingHook(c, w)
	if err != nil {
		return Injector{}, err
	}
	revision := c.Labels[label.IoIstioRev.Name]
	if revision == "" {
		revision = DefaultRevision
	}
	return Injector{
		Hook: hook, Revision: revision, Tag: c.Labels[label.IoIstioTag.Name],
		Deactivated:        slices.Contains(hook.SelectorKeys(), deactivatedLabel),
		ReinvocationPolicy: text(w.ReinvocationPolicy),
	}, nil
}
