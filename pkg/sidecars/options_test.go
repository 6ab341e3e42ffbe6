package sidecars

import (
	"cmp"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Only the injector of the control plane that is upgraded gives another tag after.
func TestPreviewIsOfOneRevision(t *testing.T) {
	for _, c := range []struct{ revision, of, want string }{
		{"", "default", "1.31.0"},
		{"default", "default", "1.31.0"},
		{"default", "canary", ""},
	} {
		o := Options{PreviewTag: "1.31.0", PreviewRevision: c.revision}
		if got := o.preview(c.of); got != c.want {
			t.Errorf("of %q, asked for %s: %q, want %q", c.revision, c.of, got, c.want)
		}
	}
}

func TestScope(t *testing.T) {
	for want, o := range map[string]Options{
		"all namespaces":                  {},
		"namespace shop":                  {Namespace: "shop"},
		"all namespaces, revision canary": {Revision: "canary"},
	} {
		if got := scope(&o); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What the injector is about to give is another tag, and may be another registry's;
// what a workload fixes itself stays.
func TestPreview(t *testing.T) {
	in := mesh.Injection{Hub: "docker.io/istio", Image: "proxyv2", Tag: "1.31.0"}
	for _, c := range []struct{ gives, image, want string }{
		{"docker.io/istio/proxyv2:1.31.0", "", "docker.io/istio/proxyv2:1.30.2"},
		{"docker.io/istio/proxyv2:1.31.0", "old.example/proxyv2:1.30.2", "old.example/proxyv2:1.30.2"},
		{"docker.io/istio/proxyv2:1.31.0-distroless", "old.example/proxyv2:1.30.2", "old.example/proxyv2:1.30.2-distroless"},
		{"mirror.example/istio/proxyv2:1.31.0", "old.example/proxyv2:1.30.2", "mirror.example/istio/proxyv2:1.30.2"},
		{"own.example/proxyv2:7", "old.example/proxyv2:1.30.2", "own.example/proxyv2:7"},
	} {
		s := &subject{facts: *stale()}
		s.Answer.Proxy = workload.Proxy{Image: c.gives}
		if s.preview(in, &Options{PreviewTag: "1.30.2", PreviewImage: c.image}); s.Answer.Proxy.Image != c.want {
			t.Errorf("%s, then %q: %s, want %s", c.gives, c.image, s.Answer.Proxy.Image, c.want)
		}
		if want := cmp.Or(c.image, "docker.io/istio/proxyv2:1.30.2"); s.configured != want {
			t.Errorf("then %q: %s is what others get, want %s", c.image, s.configured, want)
		}
	}
}
