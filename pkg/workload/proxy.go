package workload

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"istio.io/api/annotation"
)

// ProxyContainer is the name of the sidecar's and the gateway's container.
const ProxyContainer = "istio-proxy"

// Proxy is what is compared of a pod's proxy: never its environment or volumes,
// which change without mattering. It can be a map's key.
type Proxy struct {
	// Image is the image reference in the pod's spec.
	Image string
	// Native is true where the proxy is a native sidecar: an init container
	// whose restart policy is Always.
	Native bool
	// Containers are the names of the containers that injection brought, init
	// containers included, sorted and joined by commas. It does not change with
	// the form. Empty where the pod does not say.
	Containers string
}

// injected says whether injection brought the container of this name.
func (p Proxy) injected(name string) bool {
	return name == ProxyContainer || slices.Contains(strings.Split(p.Containers, ","), name)
}

// ProxyOf gives the pod's proxy, and false where it has none. A ztunnel is no
// proxy of its pod, though its container bears that name.
func ProxyOf(meta map[string]string, spec *corev1.PodSpec) (Proxy, bool) {
	container, native := proxyContainer(spec)
	if container == nil || imageName(container.Image) == "ztunnel" {
		return Proxy{}, false
	}
	return Proxy{
		Image: container.Image, Native: native,
		Containers: injectedContainers(meta[annotation.SidecarStatus.Name], spec),
	}, true
}

func proxyContainer(spec *corev1.PodSpec) (container *corev1.Container, native bool) {
	for i := range spec.Containers {
		if spec.Containers[i].Name == ProxyContainer {
			return &spec.Containers[i], false
		}
	}
	for i := range spec.InitContainers {
		if spec.InitContainers[i].Name == ProxyContainer {
			return &spec.InitContainers[i], true
		}
	}
	return nil, false
}

// injectedContainers reads the status annotation that the injector leaves
// (istio pkg/kube/inject, SidecarInjectionStatus). What it lists but the pod
// does not have does not count.
func injectedContainers(status string, spec *corev1.PodSpec) string {
	if status == "" {
		return ""
	}
	var listed struct {
		InitContainers []string `json:"initContainers"`
		Containers     []string `json:"containers"`
	}
	if json.Unmarshal([]byte(status), &listed) != nil {
		return ""
	}
	names := slices.Concat(listed.InitContainers, listed.Containers)
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		has := func(c corev1.Container) bool { return c.Name == name }
		return !slices.ContainsFunc(spec.Containers, has) && !slices.ContainsFunc(spec.InitContainers, has)
	})
	return strings.Join(names, ",")
}

// ImageIDOf gives the digest that the kubelet reports for the pod's proxy, as
// in "docker.io/istio/proxyv2@sha256:…", or "" while there is none.
func ImageIDOf(status *corev1.PodStatus) string {
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == ProxyContainer {
				return list[i].ImageID
			}
		}
	}
	return ""
}

// imageName gives the last path element of an image reference, without tag and
// digest: "proxyv2" of "docker.io/istio/proxyv2:1.31.0".
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndex(image, "/")+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}

// Digest gives the sha256 part of an image reference or image ID, or "".
func Digest(image string) string {
	if i := strings.LastIndex(image, "sha256:"); i >= 0 {
		return image[i:]
	}
	return ""
}

// Finished says whether the pod has run to its end: such pods do not count.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Ready says whether the pod takes traffic. A pod that is being deleted does
// not, whatever its conditions say.
func Ready(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			return pod.Status.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

// Promise is what the pods of a workload are to run once it has moved.
type Promise struct {
	// Any is true where nothing is asked of a pod's proxy, not even that there is
	// one: of a workload that gets none, or whose webhook decides.
	Any bool
	// Known is false where nothing could be found out beforehand.
	Known bool
	Proxy Proxy
	// Guessed is true where only the image is known, not form and containers.
	Guessed bool
	// Same says whether two image references are known to be one image. It may
	// be nil.
	Same func(a, b string) bool
}

// Kept says whether a pod's proxy is the promised one; has is false for a pod
// without one. Pods that say nothing of what injection brought are judged by
// image and form. A promise that is not known is kept by any proxy.
func (p Promise) Kept(running Proxy, has bool) bool {
	switch {
	case p.Any:
		return true
	case !has:
		return false
	case !p.Known:
		return true
	case running.Image != p.Proxy.Image && (p.Same == nil || !p.Same(running.Image, p.Proxy.Image)):
		return false
	case p.Guessed:
		return true
	case running.Native != p.Proxy.Native:
		return false
	}
	return running.Containers == "" || p.Proxy.Containers == "" || running.Containers == p.Proxy.Containers
}

// KeptBy says whether a pod's proxy is the promised one.
func (p Promise) KeptBy(pod *corev1.Pod) bool {
	proxy, has := ProxyOf(pod.Annotations, &pod.Spec)
	return p.Kept(proxy, has)
}
