package helm

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A registry is asked by HEAD for the manifest, and its answers are told apart.
func TestResolveImage(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		switch r.URL.Path {
		case "/v2/istio/pilot/manifests/1.31.0":
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			w.Header().Set("Content-Length", "2")
			w.Header().Set("Docker-Content-Digest", "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
		case "/v2/":
		case "/v2/istio/secret/manifests/1.31.0":
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for image, want := range map[string]ImageState{
		host + "/istio/pilot:1.31.0":           ImageThere,
		host + "/istio/pilot:1.31.99":          ImageAbsent,
		host + "/istio/secret:1.31.0":          ImageUnknown,
		"127.0.0.1:1/istio/pilot:1.31.0":       ImageUnknown, // nobody listens there
		host + "/istio/not a reference:1.31.0": ImageUnknown,
	} {
		got, err := ResolveImage(t.Context(), image)
		if got != want || (err != nil) != (want == ImageUnknown) {
			t.Errorf("%s is %s (%v), want %s", image, got, err, want)
		}
	}
	for _, request := range asked {
		if strings.Contains(request, "/manifests/") && !strings.HasPrefix(request, "HEAD ") {
			t.Errorf("more than a HEAD: %s", request)
		}
	}
}
