package mesh

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"istio.io/api/annotation"
)

func TestParseInjection(t *testing.T) {
	config := "neverInjectSelector:\n- matchLabels: {job: batch}\nalwaysInjectSelector:\n- matchExpressions:\n  - {key: tier, operator: Exists}\n"
	for _, tc := range []struct {
		name, values, config string
		want                 Injection
		bad                  bool
	}{
		{
			"a release", `{"global":{"hub":"docker.io/istio","tag":"1.31.0","variant":"distroless","proxy":{"image":"proxyv2"}}}`, config,
			Injection{Hub: "docker.io/istio", Tag: "1.31.0", Variant: "distroless", Image: "proxyv2", LabelKeys: []string{"job", "tier"}},
			false,
		},
		{"a tag that YAML took for a number", `{"global":{"tag":1.31}}`, "", Injection{Tag: "1.31", Image: "proxyv2"}, false},
		{"no tag, as charts without global.tag have", `{"global":{"hub":"h"}}`, "", Injection{Hub: "h", Image: "proxyv2"}, false},
		{"a config that is none", `{}`, "\t{", Injection{Image: "proxyv2"}, false},
		{"values that are none", `tag: 1`, config, Injection{}, true},
	} {
		got, err := ParseInjection(map[string]string{"values": tc.values, "config": tc.config})
		if (err != nil) != tc.bad {
			t.Errorf("%s: error %v", tc.name, err)
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

func TestImageFor(t *testing.T) {
	in := Injection{Hub: "docker.io/istio", Tag: "1.31.0", Image: "proxyv2"}
	with := func(change func(*Injection)) Injection {
		out := in
		change(&out)
		return out
	}
	image, kind := annotation.SidecarProxyImage.Name, annotation.SidecarProxyImageType.Name
	for _, tc := range []struct {
		name  string
		in    Injection
		notes map[string]string
		want  string
	}{
		{"hub, image and tag", in, nil, "docker.io/istio/proxyv2:1.31.0"},
		{"the mesh's variant", with(func(i *Injection) { i.Variant = "distroless" }), nil, "docker.io/istio/proxyv2:1.31.0-distroless"},
		{"the pod's own type", in, map[string]string{kind: "debug"}, "docker.io/istio/proxyv2:1.31.0-debug"},
		{"the pod's type before the mesh's", with(func(i *Injection) { i.Variant = "distroless" }), map[string]string{kind: "default"}, "docker.io/istio/proxyv2:1.31.0"},
		{"a type in the tag is replaced", with(func(i *Injection) { i.Tag = "1.31.0-distroless" }), map[string]string{kind: "debug"}, "docker.io/istio/proxyv2:1.31.0-debug"},
		{"an image of the pod's own", in, map[string]string{image: "mirror/proxyv2:1"}, "mirror/proxyv2:1"},
		{"an annotation that names no registry", in, map[string]string{image: "auto"}, "docker.io/istio/proxyv2:1.31.0"},
		{"a whole image in the values", with(func(i *Injection) { i.Image = "mirror/proxyv2@sha256:0a" }), nil, "mirror/proxyv2@sha256:0a"},
		{"no hub: nothing is known", with(func(i *Injection) { i.Hub = "" }), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.in.ImageFor(tc.notes); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// Before Istio 1.2 Helm rendered the image into the template.
func TestRenderedInjection(t *testing.T) {
	config := "policy: enabled\ntemplate: |-\n  containers:\n  - name: istio-proxy\n" +
		"    image: [[ annotation .ObjectMeta `sidecar.istio.io/proxyImage`  \"docker.io/istio/proxyv2:1.1.17\"  ]]\n"
	in, err := ParseInjection(map[string]string{"config": config})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := in.ImageFor(nil), "docker.io/istio/proxyv2:1.1.17"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
