package controlplane

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// An injector that refuses dry-runs is judged by its ConfigMap.
func TestJudgedByConfigMap(t *testing.T) {
	t.Parallel()
	const unable = "the injector could not be asked: a webhook on pods does not support dry-runs"
	for _, c := range []struct {
		name, values string
		anyAnswer    bool
		image, want  string // of the warning, or of the error
		fails        bool
	}{
		{
			name: "the new tag", values: `{"global":{"hub":"docker.io/istio","tag":"1.4.10","proxy":{"image":"proxyv2"}}}`,
			image: "docker.io/istio/proxyv2:1.4.10", want: unable + "; by its ConfigMap istio-sidecar-injector in istio-system it gives out docker.io/istio/proxyv2:1.4.10",
		},
		{
			name: "an image of its own", values: `{"global":{"hub":"docker.io/istio","tag":"1.4.9","proxy":{"image":"mirror/proxyv2:1.4.10"}}}`,
			image: "mirror/proxyv2:1.4.10", want: "it gives out mirror/proxyv2:1.4.10",
		},
		{
			name: "another tag", values: `{"global":{"hub":"docker.io/istio","tag":"1.4.9"}}`,
			want: "the injector does not give out 1.4.10: " + unable, fails: true,
		},
		{name: "another tag, on the way back", values: `{"global":{"hub":"docker.io/istio","tag":"1.4.9"}}`, anyAnswer: true, want: "it gives out docker.io/istio/proxyv2:1.4.9"},
		{name: "no ConfigMap", want: "there is no ConfigMap istio-sidecar-injector in istio-system"},
		{name: "no values in it", values: `nonsense`, want: "cannot be read"},
	} {
		var objects []runtime.Object
		if c.values != "" {
			objects = append(objects, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-sidecar-injector"},
				Data:       map[string]string{"values": c.values},
			})
		}
		v := verifier{
			c: &cluster.Cluster{Kube: fake.NewClientset(objects...)}, istioNamespace: "istio-system",
			revision: mesh.DefaultRevision, tag: "1.4.10", anyAnswer: c.anyAnswer,
		}
		image, warning, err := v.configured(t.Context(), unable)
		text := warning
		if err != nil {
			text = err.Error()
		}
		if (err != nil) != c.fails || image != c.image || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, %q, %v", c.name, image, warning, err)
		}
	}
}

// What is pinned is the right answer, whatever the tag says.
func TestBears(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		v     verifier
		image string
		want  bool
	}{
		{"the tag", verifier{tag: "1.31.0"}, "docker.io/istio/proxyv2:1.31.0", true},
		{"the tag with a variant", verifier{tag: "1.31.0"}, "docker.io/istio/proxyv2:1.31.0-distroless", true},
		{"the former tag", verifier{tag: "1.31.0"}, "docker.io/istio/proxyv2:1.30.2", false},
		{"hub and tag", verifier{tag: "1.31.0", image: "docker.io/istio/proxyv2:1.31.0"}, "mirror.example/proxyv2:1.31.0-debug", true},
		{"pinned", verifier{tag: "1.31.0", image: "reg.corp/proxyv2:1.31.0-fips"}, "reg.corp/proxyv2:1.31.0-fips", true},
		{"not yet what is pinned", verifier{tag: "1.31.0", image: "reg.corp/proxyv2:1.31.0-fips"}, "reg.corp/proxyv2:1.30.2-fips", false},
		{"pinned, from a mirror", verifier{tag: "1.31.0", image: "reg.corp/proxyv2:1.31.0-fips"}, "mirror.example/proxyv2:1.31.0-fips", true},
		{"a digest", verifier{tag: "1.31.0", image: "reg.corp/proxyv2@sha256:ab"}, "reg.corp/proxyv2@sha256:ab", true},
		{"another digest", verifier{tag: "1.31.0", image: "reg.corp/proxyv2@sha256:ab"}, "reg.corp/proxyv2@sha256:cd", false},
		{"a digest in place of its tag", verifier{tag: "1.31.0", image: "reg.corp/proxyv2:1.31.0@sha256:ab"}, "reg.corp/proxyv2@sha256:ab", true},
		{"a digest that tells nothing of the tag", verifier{tag: "1.31.0"}, "reg.corp/proxyv2@sha256:ab", false},
		{"a tag and not yet the digest", verifier{tag: "1.31.0", image: "reg.corp/proxyv2:x@sha256:ab"}, "reg.corp/proxyv2:x", false},
	} {
		if got := c.v.bears(c.image); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// An answer by digest alone is no answer where a tag is wanted.
func TestHiddenByADigest(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]bool{
		"reg.corp/proxyv2@sha256:ab": true, "reg.corp/proxyv2:1.31.0@sha256:ab": false, "reg.corp/proxyv2:1.30.2": false,
	} {
		if got := (verifier{tag: "1.31.0"}).hidden(image); got != want {
			t.Errorf("%s: %v", image, got)
		}
		if (verifier{image: "reg.corp/proxyv2@sha256:cd"}).hidden(image) {
			t.Errorf("%s: a digest is wanted", image)
		}
	}
}

func TestGivenOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ data, want string }{
		"hub and tag":  {`{values: '{"global":{"hub":"docker.io/istio","tag":"1.31.0"}}'}`, "docker.io/istio/proxyv2:1.31.0"},
		"pinned":       {`{values: '{"global":{"hub":"docker.io/istio","tag":"1.31.0","proxy":{"image":"reg.corp/proxyv2:1.31.0-fips"}}}'}`, "reg.corp/proxyv2:1.31.0-fips"},
		"without tag":  {`{values: '{"global":{"hub":"docker.io/istio","proxy":{"image":"reg.corp/proxyv2@sha256:ab"}}}'}`, "reg.corp/proxyv2@sha256:ab"},
		"template":     {`{config: 'image: "reg.corp/proxyv2:1.1.9-own"'}`, "reg.corp/proxyv2:1.1.9-own"},
		"no values":    {`{values: nonsense}`, ""},
		"no ConfigMap": {"", ""},
	} {
		text := ""
		if c.data != "" {
			text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-sidecar-injector}\ndata: " + c.data + "\n"
		}
		objects, err := helm.ParseManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := givenOut(objects); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The answer of an API server whose webhook declares no sideEffects.
func TestDryRunsRefused(t *testing.T) {
	t.Parallel()
	kube := fake.NewClientset()
	kube.PrependReactor("create", "pods", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New(`admission webhook "sidecar-injector.istio.io" does not support dry run`)
	})
	v := verifier{c: &cluster.Cluster{Kube: kube}, now: time.Now, tag: "1.4.10", revision: mesh.DefaultRevision}
	if got := v.ask(t.Context(), "shop"); !strings.Contains(got.unable, "does not support dry-runs") || got.failure != "" {
		t.Errorf("%+v", got)
	}
}
