package mesh

import (
	"testing"

	"github.com/Masterminds/semver/v3"
)

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]string{
		"docker.io/istio/pilot:1.31.0":                           "1.31.0",
		"docker.io/istio/proxyv2:1.31.0-distroless":              "1.31.0",
		"docker.io/istio/proxyv2:1.31.0-debug":                   "1.31.0",
		"hub.example:5000/istio/pilot:1.4.10":                    "1.4.10",
		"hub.example:5000/istio/pilot":                           "",
		"istio/pilot:1.31.0@sha256:0123":                         "1.31.0",
		"istio/pilot@sha256:0123":                                "",
		"gcr.io/istio-testing/pilot:1.32-alpha.3f2c9b1":          "1.32.0-alpha.3f2c9b1",
		"gcr.io/istio-release/pilot:1.31.0-rc.0-distroless":      "1.31.0-rc.0",
		"example.com/mesh/pilot:v1.27.3-vendor0":                 "1.27.3-vendor0",
		"gcr.io/istio-testing/pilot:latest":                      "",
		"gcr.io/istio-testing/pilot:master-20260101-10-15":       "",
		"registry.example/pilot:20260101":                        "",
		"registry.example/pilot:2026.11.24":                      "",
		"":                                                       "",
		"auto":                                                   "",
		"docker.io/istio/pilot:3f2c9b1e0a4d5c6b7a8f9e0d1c2b3a4f": "",
	} {
		got := ""
		if v, ok := ImageVersion(image); ok {
			got = v.String()
		}
		if got != want {
			t.Errorf("ImageVersion(%q) = %q, want %q", image, got, want)
		}
	}
}

func TestVariant(t *testing.T) {
	for _, c := range []struct{ tag, base, variant string }{
		{"1.31.4", "1.31.4", ""},
		{"1.31.4-distroless", "1.31.4", "distroless"},
		{"1.31.4-debug", "1.31.4", "debug"},
		{"1.31.0-rc.0", "1.31.0-rc.0", ""},
	} {
		if base, variant := BaseTag(c.tag), Variant(c.tag); base != c.base || variant != c.variant {
			t.Errorf("%s: got %q and %q", c.tag, base, variant)
		}
	}
}

func TestSkew(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     SkewKind
	}{
		{"1.30.2", "1.30.2", SkewNone},
		{"1.30.2", "1.30.4", SkewNone},
		{"1.30.2", "1.31.0", SkewNone},
		{"1.31.0-rc.0", "1.31.0", SkewNone},
		{"1.31.0", "1.31.0-rc.0", Downgrade},
		{"1.31.0-alpha.1", "1.31.0-beta.0", SkewNone},
		{"1.31.0-beta.0", "1.31.0-alpha.1", Downgrade},
		{"1.30.2", "1.30.2-fips", SkewNone},
		{"1.30.2-fips", "1.30.2", SkewNone},
		{"1.30.2-asm.2", "1.30.2-asm.1", SkewNone},
		{"1.31.0-asm.2", "1.31.0-rc.0", Downgrade},
		{"1.31.0-asm.2", "1.30.9-asm.7", Downgrade},
		{"1.30.2", "1.30.1", Downgrade},
		{"1.31.0", "1.30.9", Downgrade},
		{"1.29.4", "1.31.0", SkippedMinor},
		{"1.31.0", "2.0.0", SkippedMinor},
	} {
		if got := Skew(semver.MustParse(c.from), semver.MustParse(c.to)); got != c.want {
			t.Errorf("%s to %s: got %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

func TestProxySkew(t *testing.T) {
	for _, c := range []struct {
		proxy, controlPlane string
		want                SkewKind
	}{
		{"1.31.0", "1.31.4", SkewNone},
		{"1.31.4", "1.31.0", SkewNone},
		{"1.30.2", "1.31.0", SkewNone},
		{"1.29.2", "1.31.0", ProxyTooOld},
		{"1.31.0", "1.30.9", ProxyTooNew},
		{"1.31.0", "2.0.0", ProxyTooOld},
		{"2.0.0", "1.31.0", ProxyTooNew},
	} {
		if got := ProxySkew(semver.MustParse(c.proxy), semver.MustParse(c.controlPlane)); got != c.want {
			t.Errorf("proxy %s, control plane %s: got %q, want %q", c.proxy, c.controlPlane, got, c.want)
		}
	}
}
