package inject

import (
	"slices"
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

// detect finds the injection of one template and its status, which for a lost
// annotation is made up from the known names.
func detect(t podTemplate) (Injection, sidecarStatus, bool, error) {
	value, marked := t.annotations()[statusAnnotation]
	lost, looksInjected := lostStatus(t.spec)
	status, err := sidecarStatus{}, error(nil)
	if marked {
		status, err = parseStatus(value)
	}
	found := FoundByStatus
	switch {
	case marked && err == nil:
	case looksInjected:
		status, found = lost, FoundByForm
	case marked:
		return Injection{}, status, false, err
	default:
		return Injection{}, status, false, nil
	}
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
	if proxy == nil {
		proxy = findContainer(listOf(t.spec, "initContainers"), proxyContainer)
		out.Native = proxy != nil
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

// lostStatus recognises a sidecar whose status annotation is gone, by two marks
// that a user's own istio-proxy (image auto, overrides only) does not have both:
// the arguments of the sidecar role, and environment that only the template
// writes. Gateways (`proxy router`) and waypoints are no sidecars.
func lostStatus(spec map[string]any) (sidecarStatus, bool) {
	var status sidecarStatus
	for key, names := range map[string]*[]string{"containers": &status.Containers, "initContainers": &status.InitContainers} {
		for _, c := range listOf(spec, key) {
			if nameOf(c) == proxyContainer && sidecarForm(c) {
				*names = append(*names, proxyContainer)
			}
		}
	}
	if len(status.Containers)+len(status.InitContainers) == 0 {
		return sidecarStatus{}, false
	}
	for _, c := range listOf(spec, "initContainers") {
		switch name := nameOf(c); name {
		case initContainer, validationContainer, coreDumpContainer:
			status.InitContainers = append(status.InitContainers, name)
		}
	}
	for _, v := range listOf(spec, "volumes") {
		name, _ := v["name"].(string)
		if knownVolumes[name] && !usedByOthers(spec, name, status) {
			status.Volumes = append(status.Volumes, name)
		}
	}
	return status, true
}

func sidecarForm(c map[string]any) bool {
	image, _ := c["image"].(string)
	args, env := containerArgs(c), containerEnv(c)
	_, interception := env[envInterception]
	_, generator := env[envGenerator]
	return image != "" && image != autoImage &&
		slices.Contains(args, "proxy") && slices.Contains(args, "sidecar") && (interception || generator)
}

// usedByOthers: a volume that a container of the user's mounts stays.
func usedByOthers(spec map[string]any, volume string, status sidecarStatus) bool {
	for key, gone := range map[string][]string{"containers": status.Containers, "initContainers": status.InitContainers} {
		for _, c := range listOf(spec, key) {
			if !slices.Contains(gone, nameOf(c)) && mounts(c, volume) {
				return true
			}
		}
	}
	return false
}

func mounts(container map[string]any, volume string) bool {
	for _, m := range listOf(container, "volumeMounts") {
		if m["name"] == volume {
			return true
		}
	}
	return false
}
