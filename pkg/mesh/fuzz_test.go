package mesh

import (
	"strings"
	"testing"
)

// Whatever stands in an injector's ConfigMap, it is read or refused, and an
// image that is made of it is one of its hub or one that it names itself.
func FuzzParseInjection(f *testing.F) {
	f.Add(`{"global":{"hub":"docker.io/istio","tag":"1.31.0","variant":"distroless"}}`, "neverInjectSelector: [{matchLabels: {a: b}}]", true)
	f.Add(`{"global":{"hub":"docker.io/istio","tag":1.31,"proxy":{"image":"proxyv2"}}}`, "alwaysInjectSelector: [{matchExpressions: [{key: a, operator: Exists}]}]", true)
	f.Add("", `template: "image: gcr.io/istio-release/proxyv2:1.1.7"`, false)
	f.Add("{", "a: &a [*a, *a]", true)
	f.Fuzz(func(t *testing.T, values, config string, has bool) {
		data := map[string]string{"config": config}
		if has {
			data["values"] = values
		}
		in, err := ParseInjection(data)
		if err != nil {
			return
		}
		image := in.ImageFor(nil)
		if image != "" && !strings.HasPrefix(image, in.Hub+"/") && !strings.Contains(in.Image, "/") {
			t.Errorf("%q is not of the hub %q", image, in.Hub)
		}
	})
}

// An image reference comes apart into pieces of itself, and its tag names a
// version only where it has one.
func FuzzSplitImage(f *testing.F) {
	f.Add("hub:5000/istio/pilot:1.31.0-distroless@sha256:abc")
	f.Add("istio/pilot")
	f.Add("a:b/c@")
	f.Fuzz(func(t *testing.T, image string) {
		repository, tag, digest := SplitImage(image)
		whole := repository
		if tag != "" {
			whole += ":" + tag
		}
		if digest != "" {
			whole += "@" + digest
		}
		// A colon or an at sign with nothing behind it is dropped.
		if got := strings.NewReplacer(":", "", "@", "").Replace(whole); got != strings.NewReplacer(":", "", "@", "").Replace(image) {
			t.Errorf("%q comes apart into %q, %q and %q", image, repository, tag, digest)
		}
		if v, ok := ImageVersion(image); ok && (v.Major() > maxMajor || !strings.Contains(tag, ".")) {
			t.Errorf("%q is of version %s", image, v)
		}
	})
}
