package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"istio.io/api/annotation"
)

const (
	oldImage = "docker.io/istio/proxyv2:1.30.2"
	newImage = "docker.io/istio/proxyv2:1.31.0"
)

// containers makes containers of names; each "name=image" bears an image.
func containers(pairs ...[2]string) []corev1.Container {
	var out []corev1.Container
	for _, p := range pairs {
		out = append(out, corev1.Container{Name: p[0], Image: p[1]})
	}
	return out
}

func TestProxyOf(t *testing.T) {
	app, proxy := [2]string{"web", "shop/web:1"}, [2]string{"istio-proxy", newImage}
	init := [2]string{"istio-init", newImage}
	for _, tc := range []struct {
		name   string
		status string
		spec   corev1.PodSpec
		want   Proxy
		has    bool
	}{
		{name: "no proxy", spec: corev1.PodSpec{Containers: containers(app)}},
		{
			name: "injected", status: `{"initContainers":["istio-init"],"containers":["istio-proxy"]}`,
			spec: corev1.PodSpec{Containers: containers(app, proxy), InitContainers: containers(init)},
			want: Proxy{Image: newImage, Containers: "istio-init,istio-proxy"}, has: true,
		},
		{
			name: "native, and the status lists what the pod has elsewhere", status: `{"initContainers":["istio-init","istio-proxy"]}`,
			spec: corev1.PodSpec{Containers: containers(app), InitContainers: containers(init, proxy)},
			want: Proxy{Image: newImage, Native: true, Containers: "istio-init,istio-proxy"}, has: true,
		},
		{
			name: "a listed container that is not there", status: `{"initContainers":["istio-validation"],"containers":["istio-proxy"]}`,
			spec: corev1.PodSpec{Containers: containers(app, proxy)},
			want: Proxy{Image: newImage, Containers: "istio-proxy"}, has: true,
		},
		{
			name: "without a status", spec: corev1.PodSpec{Containers: containers(proxy)},
			want: Proxy{Image: newImage}, has: true,
		},
		{
			name: "a status that is no JSON", status: "yes", spec: corev1.PodSpec{Containers: containers(app, proxy)},
			want: Proxy{Image: newImage}, has: true,
		},
		{
			name: "waiting for the injector", spec: corev1.PodSpec{Containers: containers([2]string{"istio-proxy", "auto"})},
			want: Proxy{Image: "auto"}, has: true,
		},
		{name: "ztunnel", spec: corev1.PodSpec{Containers: containers([2]string{"istio-proxy", "docker.io/istio/ztunnel:1.31.0-distroless"})}},
		{
			name: "a registry that bears ztunnel in its name", spec: corev1.PodSpec{Containers: containers([2]string{"istio-proxy", "ztunnel:5000/proxyv2@sha256:ab"})},
			want: Proxy{Image: "ztunnel:5000/proxyv2@sha256:ab"}, has: true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			meta := map[string]string{}
			if tc.status != "" {
				meta[annotation.SidecarStatus.Name] = tc.status
			}
			got, has := ProxyOf(meta, &tc.spec)
			if d := cmp.Diff(tc.want, got); d != "" || has != tc.has {
				t.Errorf("has %v, want %v; proxy (-want +got):\n%s", has, tc.has, d)
			}
		})
	}
}

func TestPromiseKept(t *testing.T) {
	promised := Proxy{Image: newImage, Containers: "istio-init,istio-proxy"}
	known := Promise{Known: true, Proxy: promised}
	guessed := Promise{Known: true, Guessed: true, Proxy: Proxy{Image: newImage}}
	alike := func(a, b string) bool { return a == "mirror/proxyv2:1.31.0" && b == newImage }
	for _, tc := range []struct {
		name    string
		promise Promise
		running Proxy
		none    bool
		want    bool
	}{
		{"exactly it", known, promised, false, true},
		{"no proxy at all", known, Proxy{}, true, false},
		{"nothing is asked of it", Promise{Any: true}, Proxy{}, true, true},
		{"no proxy, and nothing known", Promise{}, Proxy{}, true, false},
		{"any proxy where nothing is known", Promise{}, Proxy{Image: oldImage}, false, true},
		{"another image", known, Proxy{Image: oldImage, Containers: promised.Containers}, false, false},
		{"another form", known, Proxy{Image: newImage, Native: true, Containers: promised.Containers}, false, false},
		{"other containers", known, Proxy{Image: newImage, Containers: "istio-proxy"}, false, false},
		{"a pod that does not say which containers", known, Proxy{Image: newImage}, false, true},
		{"a promise that does not say which containers", Promise{Known: true, Proxy: Proxy{Image: newImage}}, promised, false, true},
		{"a guess knows no form", guessed, Proxy{Image: newImage, Native: true, Containers: "istio-proxy"}, false, true},
		{"a guess knows the image", guessed, Proxy{Image: oldImage}, false, false},
		{"the same image under another name", Promise{Known: true, Proxy: promised, Same: alike}, Proxy{Image: "mirror/proxyv2:1.31.0"}, false, true},
		{"not known to be the same", Promise{Known: true, Proxy: promised, Same: alike}, Proxy{Image: oldImage}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.promise.Kept(tc.running, !tc.none); got != tc.want {
				t.Errorf("kept %v, want %v", got, tc.want)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	for image, want := range map[string]string{
		newImage:                                    "",
		"istio/proxyv2@sha256:0a":                   "sha256:0a",
		"istio/proxyv2:1.31@sha256:0a":              "sha256:0a",
		"docker-pullable://istio/proxyv2@sha256:0a": "sha256:0a",
		"sha256:0a":                                 "sha256:0a",
	} {
		if got := Digest(image); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}
