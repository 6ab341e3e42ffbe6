package controlplane

import (
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// legacyManifest is a part of what the chart istio writes.
func legacyManifest(tag string) string {
	return strings.ReplaceAll(`
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data:
  values: '{"global":{"hub":"docker.io/istio","tag":"TAG","proxy":{"image":"proxyv2"}}}'
  config: "template: |\n  image: \"{{ .Values.global.hub }}/proxyv2:{{ .Values.global.tag }}\""
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-pilot, namespace: istio-system}
spec: {template: {spec: {containers: [{name: discovery, image: "docker.io/istio/pilot:TAG"}, {name: istio-proxy, image: "docker.io/istio/proxyv2:TAG"}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {template: {spec: {containers: [{name: istio-proxy, image: "docker.io/istio/proxyv2:TAG"}, {name: ingress-sds, image: "docker.io/istio/node-agent-k8s:TAG"}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-sidecar-injector, namespace: istio-system}
spec: {template: {spec: {containers: [{name: sidecar-injector-webhook, image: "docker.io/istio/sidecar_injector:TAG"}]}}}
`, "TAG", tag)
}

func TestLegacyBetween(t *testing.T) {
	now, err := helm.ParseManifest(legacyManifest("1.4.10"))
	if err != nil {
		t.Fatal(err)
	}
	former, err := helm.ParseManifest(legacyManifest("1.4.9"))
	if err != nil {
		t.Fatal(err)
	}
	between, err := legacyBetween(now, proxyImages(now), proxyImages(former))
	if err != nil {
		t.Fatal(err)
	}
	in, _ := injectionIn(between)
	if got, want := in.ImageFor(nil), "docker.io/istio/proxyv2:1.4.9"; got != want {
		t.Errorf("the injector gives %s, want %s", got, want)
	}
	for i, want := range map[int]string{
		1: "docker.io/istio/pilot:1.4.10 docker.io/istio/proxyv2:1.4.10",
		2: "docker.io/istio/proxyv2:1.4.9 docker.io/istio/node-agent-k8s:1.4.10",
		3: "docker.io/istio/sidecar_injector:1.4.10",
	} {
		raw, err := yaml.Marshal(between[i].Object)
		if err != nil {
			t.Fatal(err)
		}
		for image := range strings.FieldsSeq(want) {
			if !strings.Contains(string(raw), image) {
				t.Errorf("%s: no %s in\n%s", between[i].GetName(), image, raw)
			}
		}
	}
	if changed := objectChanges(now, between, "istio-system"); len(changed) != 3 {
		t.Errorf("changed: %v", changed)
	}
	again, err := legacyBetween(between, proxyImages(between), proxyImages(former))
	if err != nil {
		t.Fatal(err)
	}
	if changed := objectChanges(between, again, "istio-system"); len(changed) != 0 {
		t.Errorf("a second time it changes %v", changed)
	}
}

// istiod's image stays what it is, whatever the former revision says of registry
// and variant.
func TestBetween(t *testing.T) {
	global := func(values map[string]any) map[string]any { return map[string]any{"global": values} }
	plan := &RollbackPlan{
		plane: revision(2, "deployed", "1.31.0-distroless"), old: revision(1, "superseded", "1.30.2"), From: "1.31.0-distroless", To: "1.30.2",
	}
	plan.plane.Values = global(map[string]any{"tag": "1.31.0", "variant": "distroless", "hub": "new.example"})
	plan.old.Values = global(map[string]any{"tag": "1.30.2", "variant": "debug", "hub": "old.example"})
	ch := &helm.Chart{Chart: &chart.Chart{Metadata: &chart.Metadata{Name: "istiod", APIVersion: "v2"}}}
	plan.plane.Chart, plan.old.Chart = ch, ch
	between, err := betweenOf(plan, ReleasePlan{})
	if err != nil {
		t.Fatal(err)
	}
	want := global(map[string]any{"tag": "1.30.2", "variant": "debug", "hub": "old.example"})
	want["pilot"] = map[string]any{"image": "i/pilot:1.31.0-distroless"}
	if diff := cmp.Diff(want, between.values); diff != "" || between.Action != Upgrade {
		t.Errorf("action %s, values (-want +got)\n%s", between.Action, diff)
	}
	// A pin of the newer proxy goes back to the former one's.
	plan.plane.Values = global(map[string]any{"tag": "1.31.0", "proxy": map[string]any{"image": "reg.corp/proxyv2:1.31.0-fips"}})
	plan.old.Values = global(map[string]any{"tag": "1.30.2", "proxy": map[string]any{"image": "reg.corp/proxyv2:1.30.2-fips"}})
	if between, err = betweenOf(plan, ReleasePlan{}); err != nil {
		t.Fatal(err)
	}
	want = global(map[string]any{"tag": "1.30.2", "proxy": map[string]any{"image": "reg.corp/proxyv2:1.30.2-fips"}})
	want["pilot"] = map[string]any{"image": "i/pilot:1.31.0-distroless"}
	if diff := cmp.Diff(want, between.values); diff != "" {
		t.Errorf("pinned (-want +got)\n%s", diff)
	}
	plan.plane.Values = between.values
	if again, err := betweenOf(plan, ReleasePlan{}); err != nil || again.Action != None {
		t.Errorf("a second time: action %s, %v", again.Action, err)
	}
	// Killed while it was written, it says what was to be, not what is.
	for _, status := range []string{"pending-upgrade", "failed"} {
		plan.plane.Status = status
		if again, err := betweenOf(plan, ReleasePlan{}); err != nil || again.Action != Upgrade {
			t.Errorf("%s: action %s, %v", status, again.Action, err)
		}
	}
}

// Before Istio 1.2 the image stands in the injector's template.
func TestLegacyBetweenRendered(t *testing.T) {
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-sidecar-injector}\ndata: {config: 'image: \"docker.io/istio/proxyv2:1.1.9\"'}\n"
	now, err := helm.ParseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	from := proxyImages(now)
	to := from
	to.Tag = "1.1.8"
	between, err := legacyBetween(now, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if in, _ := injectionIn(between); in.ImageFor(nil) != "docker.io/istio/proxyv2:1.1.8" {
		t.Errorf("the injector gives %s", in.ImageFor(nil))
	}
}

// Gateways that the upgrade has moved go back by themselves; any other newer
// proxy is refused.
func TestJudgeProxies(t *testing.T) {
	gateway := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "gw", Name: "gw"}
	idle := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "gw", Name: "idle"}
	web := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"}
	sum := func(version string, refs ...workload.Ref) ProxyVersion {
		p := ProxyVersion{Version: version, of: map[workload.Ref][]string{}, in: map[workload.Ref]int{}}
		for _, ref := range refs {
			p.add(ref, &workload.Sample{Count: 2, Names: []string{ref.Name + "-a", ref.Name + "-b"}})
		}
		return p
	}
	for _, c := range []struct {
		name     string
		proxies  []ProxyVersion
		wait     bool
		gateways []workload.Ref
		refusal  string
	}{
		{"nothing has moved", []ProxyVersion{sum("1.30.2", gateway, web)}, true, nil, ""},
		{"the gateway has", []ProxyVersion{sum("1.30.2", web, idle), sum("1.31.0", gateway)}, true, []workload.Ref{gateway}, ""},
		{"a workload has", []ProxyVersion{sum("1.31.0", web)}, true, nil, "2 proxies: they would be newer"},
		{"both have", []ProxyVersion{sum("1.31.0", gateway, web)}, true, []workload.Ref{gateway}, "shop/web-a, shop/web-b"},
		{"no waiting", []ProxyVersion{sum("1.31.0", gateway)}, false, []workload.Ref{gateway}, "leave --wait=false out"},
	} {
		p := RollbackPlan{Revision: "default", Releases: []ReleasePlan{
			{Component: helm.Gateway, Action: Rollback, Workloads: []workload.Ref{gateway, idle}},
		}}
		target := semver.MustParse("1.30.2")
		p.judgeProxies(c.proxies, target, c.wait)
		if diff := cmp.Diff(c.gateways, p.Gateways); diff != "" {
			t.Errorf("%s: gateways (-want +got)\n%s", c.name, diff)
		}
		var text string
		for _, r := range p.Refusals {
			text += r.String() + "\n"
		}
		if (c.refusal == "") != (text == "") || !strings.Contains(text, c.refusal) {
			t.Errorf("%s: refused %q, want %q", c.name, text, c.refusal)
		}
		if strings.Contains(text, "gw/gw-") {
			t.Errorf("%s: the gateway is named: %s", c.name, text)
		}
	}
}
