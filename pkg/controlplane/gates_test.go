package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// wantRefusal fails unless there is exactly one refusal, with the text, or none
// where the text is empty.
func wantRefusal(t *testing.T, name string, got []gate.Refusal, text string, forceable bool) {
	t.Helper()
	switch {
	case text == "" && len(got) > 0:
		t.Errorf("%s: want no refusal, got %v", name, got)
	case text != "" && (len(got) != 1 || !strings.Contains(got[0].String(), text) || got[0].Forceable != forceable || got[0].Cure == ""):
		t.Errorf("%s: want one refusal with %q (forceable %v) and a cure, got %+v", name, text, forceable, got)
	}
}

func TestSkewRefusal(t *testing.T) {
	t.Parallel()
	target := semver.MustParse("1.31.0")
	for running, want := range map[string]string{
		"1.30.2": "", "1.30.2-distroless": "", "1.31.0": "", "latest": "",
		"1.31.1": "downgrade", "1.32.0": "downgrade", "1.29.4": "go to a release of 1.30 first",
	} {
		wantRefusal(t, running, skewRefusal("deployment/istiod", running, target), want, true)
	}
}

func TestProxyRefusal(t *testing.T) {
	t.Parallel()
	target := semver.MustParse("1.31.0")
	proxies := []ProxyVersion{
		{Version: "1.30.2", Pods: []string{"shop/fine"}, Count: 1},
		{Version: "1.28.0", Revision: "default", Pods: []string{"shop/f", "shop/e", "shop/d", "shop/c", "shop/b"}, Count: 49},
		{Version: "1.29.0", Revision: "canary", Pods: []string{"shop/canary"}, Count: 1},
	}
	wantRefusal(t, "this revision", proxyRefusal(proxies, "default", target),
		"49 proxies: they are too old for a control plane of 1.31.0, the oldest being 1.28.0: shop/b, shop/c, shop/d, shop/e, shop/f and 44 more", true)
	wantRefusal(t, "other revision", proxyRefusal(proxies, "canary", target), "1 proxies", true)
	wantRefusal(t, "none too old", proxyRefusal(proxies[:1], "default", target), "", false)
}

func TestReleaseRefusals(t *testing.T) {
	t.Parallel()
	pending := &Pending{Status: "pending-upgrade", Age: 7200, LastGood: 4}
	ours := *pending
	ours.Ours = true
	for name, c := range map[string]struct {
		plan    ReleasePlan
		owners  mesh.Owners
		options Options
		want    string
	}{
		"healthy":         {plan: ReleasePlan{}},
		"Flux":            {owners: mesh.Owners{Flux: "HelmRelease istiod in flux-system"}, want: "change the version there: Flux HelmRelease istiod in flux-system"},
		"Argo CD":         {owners: mesh.Owners{ArgoCD: "mesh"}, want: "Argo CD Application mesh"},
		"an operator":     {owners: mesh.Owners{Operator: "IstioRevision default"}, want: "change the version there: IstioRevision default"},
		"one of before":   {owners: mesh.Owners{Operator: "IstioOperator installed-state"}},
		"Helm 2":          {plan: ReleasePlan{Name: "istio", release: helm.Release{Helm2: true}}, want: "helm 2to3 convert istio"},
		"pending":         {plan: ReleasePlan{Pending: pending}, want: "pending-upgrade for 7200s; the last good revision is 4"},
		"pending, mended": {plan: ReleasePlan{Pending: pending}, options: Options{Recover: true}},
		"pending, ours":   {plan: ReleasePlan{Pending: &ours}},
	} {
		wantRefusal(t, name, releaseRefusals(c.plan, c.owners, c.options), c.want, false)
	}
}

func TestNoRelease(t *testing.T) {
	t.Parallel()
	for want, owners := range map[string]mesh.Owners{
		"run istioctl upgrade --revision canary with the istioctl of 1.31.0": {Istioctl: true},
		"change the version in IstioRevision prod":                           {Operator: "IstioRevision prod", Istioctl: true},
		"change the version there: Argo CD Application mesh":                 {ArgoCD: "mesh"},
		"upgrade it as it was installed":                                     {},
	} {
		got := noRelease(mesh.ControlPlane{Deployment: "istiod-canary", Namespace: "istio-system", Revision: "canary", Owners: owners}, nil, "1.31.0")
		wantRefusal(t, want, []gate.Refusal{got}, want, false)
	}
}

func TestCRDRefusal(t *testing.T) {
	t.Parallel()
	wantRefusal(t, "behind", crdRefusal([]string{"a is missing", "b is missing"}, "1.31.0-debug"), "a is missing (and 1 more); run kubectl istio-upgrade crds --tag 1.31.0-debug first", true)
	wantRefusal(t, "fine", crdRefusal(nil, "1.31.0"), "", false)
}

func TestPinWarnings(t *testing.T) {
	t.Parallel()
	target := semver.MustParse("1.31.0")
	deployment := func(image string) *helm.Rendered {
		objects, err := helm.ParseManifest(fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod}\nspec: {template: {spec: {containers: [{name: discovery, image: %q}]}}}\n", image))
		if err != nil {
			t.Fatal(err)
		}
		return &helm.Rendered{Objects: objects}
	}
	global := func(key string, value any) map[string]any {
		return map[string]any{"global": map[string]any{key: value}}
	}
	for want, r := range map[string]ReleasePlan{
		"":                                   {rendered: deployment("docker.io/istio/pilot:1.31.0-distroless"), values: global("hub", "docker.io/istio")},
		"pin the image own/pilot:1.30.2":     {rendered: deployment("own/pilot:1.30.2")},
		"global.proxy.image pins the image":  {rendered: deployment("i/pilot:1.31.0"), values: global("proxy", map[string]any{"image": "own/proxy:1"})},
		"has no images of 1.31.0":            {rendered: deployment("i/pilot:1.31.0"), values: global("hub", "gcr.io/istio-release")},
		"which is being shut down":           {rendered: deployment("i/pilot:1.31.0"), values: global("hub", "registry.istio.io/release/")},
		"pin the image i/pilot@sha256:00000": {rendered: deployment("i/pilot@sha256:00000")},
	} {
		got := pinWarnings(r, target)
		if want == "" && len(got) > 0 || want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("want a warning with %q, got %q", want, got)
		}
	}
}

func TestPinRefusal(t *testing.T) {
	t.Parallel()
	target := semver.MustParse("1.31.0")
	for name, c := range map[string]struct {
		plan ReleasePlan
		want string
	}{
		"at the target":        {ReleasePlan{Component: helm.Istiod, TagTo: "1.31.0-distroless"}, ""},
		"above it":             {ReleasePlan{Component: helm.Istiod, TagTo: "1.31.1"}, ""},
		"cni below it":         {ReleasePlan{Component: helm.CNI, TagTo: "1.30.2"}, ""},
		"no version":           {ReleasePlan{Component: helm.Istiod, TagTo: "latest"}, ""},
		"held by pilot.tag":    {ReleasePlan{Component: helm.Istiod, TagTo: "1.30.2", values: map[string]any{"pilot": map[string]any{"tag": "1.30.2"}}}, "give --set pilot.tag=null"},
		"held by another path": {ReleasePlan{Component: helm.Istio, TagTo: "1.30.2"}, "change the value that pins it"},
	} {
		wantRefusal(t, name, pinRefusal(c.plan, target), c.want, true)
	}
}
