package sidecars

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"istio.io/api/annotation"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// injection is what an injector's ConfigMap says of the proxies that it gives.
type injection struct {
	Hub, Tag, Image, Variant string
	// LabelKeys are those that its never- and alwaysInjectSelector name.
	LabelKeys []string
}

// readInjection reads the ConfigMap istio-sidecar-injector[-REVISION] of a
// control plane: the key values holds the Helm values as JSON, the key config
// the injector's own configuration.
func readInjection(ctx context.Context, kube kubernetes.Interface, namespace, revision string) (injection, error) {
	name := "istio-sidecar-injector"
	if revision != "" && revision != mesh.DefaultRevision {
		name += "-" + revision
	}
	cm, err := kube.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return injection{}, err
	}
	return parseInjection(cm.Data)
}

func parseInjection(data map[string]string) (injection, error) {
	var values struct {
		Global struct {
			Hub     string `json:"hub"`
			Tag     any    `json:"tag"`
			Variant string `json:"variant"`
			Proxy   struct {
				Image string `json:"image"`
			} `json:"proxy"`
		} `json:"global"`
	}
	if err := json.Unmarshal([]byte(data["values"]), &values); err != nil {
		return injection{}, err
	}
	var config struct {
		Never  []metav1.LabelSelector `json:"neverInjectSelector"`
		Always []metav1.LabelSelector `json:"alwaysInjectSelector"`
	}
	// The templates in it need not be understood, so a config that is none is
	// no reason to fail.
	_ = yaml.Unmarshal([]byte(data["config"]), &config)
	in := injection{Hub: values.Global.Hub, Image: values.Global.Proxy.Image, Variant: values.Global.Variant}
	if tag, ok := values.Global.Tag.(string); ok {
		in.Tag = tag
	} else if values.Global.Tag != nil {
		raw, _ := json.Marshal(values.Global.Tag)
		in.Tag = string(raw)
	}
	if in.Image == "" {
		in.Image = "proxyv2"
	}
	for _, s := range slices.Concat(config.Never, config.Always) {
		in.LabelKeys = slices.AppendSeq(in.LabelKeys, maps.Keys(s.MatchLabels))
		for _, e := range s.MatchExpressions {
			in.LabelKeys = append(in.LabelKeys, e.Key)
		}
	}
	return in, nil
}

// imageFor gives the proxy image that a pod of the template gets (istio
// pkg/kube/inject/inject.go, ProxyImage): an annotation with a whole reference
// wins; else hub, image and tag, with the type or variant as the tag's suffix.
func (in injection) imageFor(t *corev1.PodTemplateSpec) string {
	if image := t.Annotations[annotation.SidecarProxyImage.Name]; strings.Contains(image, "/") {
		return image
	}
	if strings.Contains(in.Image, "/") {
		return in.Image
	}
	if in.Hub == "" {
		return ""
	}
	kind := t.Annotations[annotation.SidecarProxyImageType.Name]
	if kind == "" {
		kind = in.Variant
	}
	tag := in.Tag
	if kind != "" && tag != "" {
		tag = mesh.BaseTag(tag)
		if kind != "default" {
			tag += "-" + kind
		}
	}
	image := in.Hub + "/" + in.Image
	if tag != "" {
		image += ":" + tag
	}
	return image
}
