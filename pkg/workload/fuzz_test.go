package workload

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"istio.io/api/annotation"
)

// A word names a kind or none; a kind of Kubernetes' own reads the same again.
func FuzzParseKind(f *testing.F) {
	for _, word := range []string{"deploy", "sts.apps", "deployments.v1.apps", "statefulset.apps.kruise.io", "deployment.batch", ".", "v1.", "\x00"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		kind, known := ParseKind(word)
		if !known {
			return
		}
		if kind.Kind == "" {
			t.Fatalf("%q is of no kind", word)
		}
		if group, own := groups[kind.Kind]; !own || group != kind.Group {
			return
		}
		again := kind.Kind
		if kind.Group != "" {
			again += "." + kind.Group
		}
		if got, ok := ParseKind(again); !ok || !strings.EqualFold(got.Kind, kind.Kind) || got.Group != kind.Group {
			t.Errorf("%q is %v, which reads as %v", word, kind, got)
		}
	})
}

// Whatever a pod's status annotation says, only containers that the pod has
// count as injected.
func FuzzProxyOf(f *testing.F) {
	f.Add(`{"initContainers":["istio-init"],"containers":["istio-proxy"]}`, "docker.io/istio/proxyv2:1.31.0")
	f.Add(`{"containers":["nobody",""]}`, "ztunnel")
	f.Add("[", "@:/")
	f.Fuzz(func(t *testing.T, status, image string) {
		spec := &corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "istio-init"}},
			Containers:     []corev1.Container{{Name: "app"}, {Name: ProxyContainer, Image: image}},
		}
		proxy, has := ProxyOf(map[string]string{annotation.SidecarStatus.Name: status}, spec)
		if !has {
			return
		}
		for name := range strings.SplitSeq(proxy.Containers, ",") {
			if proxy.Containers != "" && !slices.Contains([]string{"istio-init", "app", ProxyContainer}, name) {
				t.Errorf("%q counts as injected by %q", name, status)
			}
		}
	})
}
