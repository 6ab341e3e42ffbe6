package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"istio.io/api/annotation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// InjectorConfigMap is the name of the default revision's ConfigMap with what
// its injector gives out; others have -REVISION behind it.
const InjectorConfigMap = "istio-sidecar-injector"

// Injection is what an injector's ConfigMap says of the proxies that it gives.
type Injection struct {
	Hub, Tag, Image, Variant string
	// LabelKeys are those that its never- and alwaysInjectSelector name.
	LabelKeys []string
}

// ReadInjection reads the ConfigMap istio-sidecar-injector[-REVISION] of a
// control plane: the key values holds the Helm values as JSON, the key config
// the injector's own configuration. The error is the API server's, or says that
// the values are no JSON.
func ReadInjection(ctx context.Context, kube kubernetes.Interface, namespace, revision string) (Injection, error) {
	name := InjectorConfigMap
	if revision != "" && revision != DefaultRevision {
		name += "-" + revision
	}
	cm, err := kube.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Injection{}, err
	}
	return ParseInjection(cm.Data)
}

// ParseInjection reads the ConfigMap's data. Before Istio 1.2 it has no values:
// the image stands in the template then.
func ParseInjection(data map[string]string) (Injection, error) {
	values, has := data["values"]
	if !has {
		return renderedInjection(data["config"]), nil
	}
	var given struct {
		Global struct {
			Hub     string `json:"hub"`
			Tag     any    `json:"tag"`
			Variant string `json:"variant"`
			Proxy   struct {
				Image string `json:"image"`
			} `json:"proxy"`
		} `json:"global"`
	}
	if err := json.Unmarshal([]byte(values), &given); err != nil {
		return Injection{}, fmt.Errorf("read the values in the injector's ConfigMap: %w", err)
	}
	in := Injection{
		Hub: given.Global.Hub, Image: given.Global.Proxy.Image, Variant: given.Global.Variant,
		LabelKeys: injectorKeys(data["config"]),
	}
	if tag, ok := given.Global.Tag.(string); ok {
		in.Tag = tag
	} else if given.Global.Tag != nil {
		raw, _ := json.Marshal(given.Global.Tag) // came from JSON
		in.Tag = string(raw)
	}
	if in.Image == "" {
		in.Image = "proxyv2"
	}
	return in, nil
}

// proxyImage finds the proxy's image in a template that Helm has rendered.
var proxyImage = regexp.MustCompile("[^\\s\"'`]+/(proxy|proxyv2|proxy_debug):[\\w][\\w.-]*")

func renderedInjection(config string) Injection {
	in := Injection{LabelKeys: injectorKeys(config)}
	repository, tag, _ := SplitImage(proxyImage.FindString(config))
	if at := strings.LastIndex(repository, "/"); at > 0 {
		in.Hub, in.Image, in.Tag = repository[:at], repository[at+1:], tag
	}
	return in
}

// injectorKeys gives the label keys that the injector itself looks at. The
// templates in its configuration need not be understood, so that one which is
// no YAML has none.
func injectorKeys(config string) []string {
	var selectors struct {
		Never  []metav1.LabelSelector `json:"neverInjectSelector"`
		Always []metav1.LabelSelector `json:"alwaysInjectSelector"`
	}
	_ = yaml.Unmarshal([]byte(config), &selectors)
	var keys []string
	for _, s := range slices.Concat(selectors.Never, selectors.Always) {
		keys = slices.AppendSeq(keys, maps.Keys(s.MatchLabels))
		for _, e := range s.MatchExpressions {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// ImageFor gives the proxy image that a pod with these annotations gets, "" where
// it is not known (istio pkg/kube/inject/inject.go, ProxyImage): an annotation
// with a whole reference wins; else hub, image and tag, with the type or variant
// as the tag's suffix.
func (in Injection) ImageFor(annotations map[string]string) string {
	if image := annotations[annotation.SidecarProxyImage.Name]; strings.Contains(image, "/") {
		return image
	}
	if strings.Contains(in.Image, "/") {
		return in.Image
	}
	if in.Hub == "" {
		return ""
	}
	kind := annotations[annotation.SidecarProxyImageType.Name]
	if kind == "" {
		kind = in.Variant
	}
	tag := in.Tag
	if kind != "" && tag != "" {
		tag = BaseTag(tag)
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
