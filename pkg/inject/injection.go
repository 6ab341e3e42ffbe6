package inject

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// How an injection was recognised.
const (
	FoundByStatus = "status" // the injector's status annotation
	FoundByForm   = "form"   // a sidecar without it: the annotation was lost
)

// Injection says what was injected into a pod template.
type Injection struct {
	Template       string   `json:"template"` // where: "spec.template"; empty for a Pod
	FoundBy        string   `json:"foundBy"`  // FoundByStatus or FoundByForm
	Image          string   `json:"image"`    // of the proxy; empty where the template adds none (proxyless gRPC)
	Version        string   `json:"version"`  // the image's tag; empty for a digest
	Revision       string   `json:"revision"` // from the status annotation (1.11+) or the rev annotation or label
	Native         bool     `json:"native"`   // the proxy is an init container that restarts
	Containers     []string `json:"containers"`
	InitContainers []string `json:"initContainers"`
	Volumes        []string `json:"volumes"`
}

// Injected tells whether an object carries a sidecar in its own template: put
// there by hand (kube-inject), or, for a Pod, by the webhook too. A container
// istio-proxy that is a user's own (image `auto`, a gateway) does not count. A
// List is asked item by item by its reader; here it has none.
func Injected(obj *unstructured.Unstructured) (Injection, bool) {
	for _, t := range podTemplates(obj.Object) {
		if injection, _, found, err := detect(t); found && err == nil {
			return injection, true
		}
	}
	return Injection{}, false
}

// detect finds the injection of one template and its status: what the annotation
// lists, and what else has the form of a sidecar. An injection over another one
// (1.17+ merges them) lists the last alone; a lost or empty annotation lists
// nothing.
func detect(t podTemplate) (Injection, sidecarStatus, bool, error) {
	value, marked := t.annotations()[statusAnnotation]
	looks := looksInjected(t.spec)
	status, err := sidecarStatus{}, error(nil)
	if marked {
		status, err = parseStatus(value)
	}
	found := FoundByStatus
	switch {
	case marked && err == nil && (!status.empty() || !looks):
	case looks:
		status, found = sidecarStatus{}, FoundByForm
	case marked:
		return Injection{}, status, false, err
	default:
		return Injection{}, status, false, nil
	}
	status.addForm(t)
	return describe(t, status, found), status, true, nil
}

func describe(t podTemplate, status sidecarStatus, foundBy string) Injection {
	out := Injection{
		Template: t.path, FoundBy: foundBy,
		Containers: []string{}, InitContainers: []string{}, Volumes: []string{},
	}
	out.Containers = append(out.Containers, status.Containers...)
	out.InitContainers = append(out.InitContainers, status.InitContainers...)
	out.Volumes = append(out.Volumes, status.Volumes...)
	proxy := findContainer(listOf(t.spec, "containers"), proxyContainer)
	if native := findContainer(listOf(t.spec, "initContainers"), proxyContainer); native != nil && (proxy == nil || status.unlisted["containers["+proxyContainer+"]"]) {
		proxy, out.Native = native, true
	}
	out.Image, _ = proxy["image"].(string)
	out.Version = imageTag(out.Image)
	annotations, labels := t.annotations(), t.labels()
	switch {
	case status.Revision != nil && *status.Revision != "":
		out.Revision = *status.Revision
	case annotations[revKey] != "":
		out.Revision = annotations[revKey]
	default:
		out.Revision = labels[revKey]
	}
	return out
}

// imageTag is the tag of an image reference, empty where it has none.
func imageTag(image string) string {
	if at := strings.IndexByte(image, '@'); at >= 0 {
		image = image[:at]
	}
	name := image[strings.LastIndexByte(image, '/')+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}
