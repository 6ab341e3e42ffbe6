package sidecars

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// questionKey names what injection can depend on: two workloads with the same
// key get the same proxy, and one question to the injector serves both. It is
// the namespace, hostNetwork, the template's own istio-proxy, every annotation
// of Istio's, and the values of the labels that any selector names: those of
// the webhooks, the injector's never- and alwaysInjectSelector and ProxyConfigs
// (istio pkg/kube/inject/inject.go, injectRequired and RunTemplate).
func questionKey(w *workload.Workload, selectorKeys []string) string {
	t := &w.Template
	key := struct {
		Namespace   string
		HostNetwork bool
		Proxy       []corev1.Container `json:",omitempty"`
		Annotations map[string]string  `json:",omitempty"`
		Labels      map[string]string  `json:",omitempty"`
	}{
		Namespace: w.Namespace, HostNetwork: t.Spec.HostNetwork,
		Annotations: map[string]string{}, Labels: map[string]string{},
	}
	for _, list := range [][]corev1.Container{t.Spec.Containers, t.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == workload.ProxyContainer {
				key.Proxy = append(key.Proxy, list[i])
			}
		}
	}
	for _, k := range slices.Collect(maps.Keys(t.Annotations)) {
		if strings.Contains(k, "istio.io") {
			key.Annotations[k] = t.Annotations[k]
		}
	}
	for _, k := range selectorKeys {
		if v, ok := t.Labels[k]; ok {
			key.Labels[k] = v
		}
	}
	text, err := json.Marshal(key) // maps are marshalled in the order of their keys
	if err != nil {
		return string(w.UID)
	}
	return string(text)
}
