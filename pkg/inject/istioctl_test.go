package inject

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// realIstioctl is the istioctl that ISTIOCTL names or that is on PATH.
func realIstioctl(t *testing.T) *Istioctl {
	t.Helper()
	istioctl, err := FindIstioctl(os.Getenv("ISTIOCTL"))
	if err != nil {
		t.Skipf("no istioctl here (set ISTIOCTL): %v", err)
	}
	return istioctl
}

// chartSettings are the settings of the charts that istioctl itself carries.
func chartSettings(t *testing.T, istioctl *Istioctl, set ...string) Settings {
	t.Helper()
	args := []string{"manifest", "generate"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, err := exec.CommandContext(t.Context(), istioctl.Path, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	data := map[string]map[string]string{}
	for _, obj := range readObjects(t, file) {
		if obj.GetKind() == "ConfigMap" {
			data[strings.TrimSuffix(obj.GetName(), "-canary")], _, _ = unstructured.NestedStringMap(obj.Object, "data")
		}
	}
	settings, err := SettingsFromData("default", data[injectorConfigMap], data[meshConfigMap])
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// TestReinjectCorpus: injecting what Uninject gives is injecting the original,
// for every pair that this istioctl can inject, and ten rounds change nothing.
func TestReinjectCorpus(t *testing.T) {
	istioctl := realIstioctl(t)
	for _, native := range []bool{false, true} {
		settings := chartSettings(t, istioctl)
		settings.Native = native
		injectable, total := map[string]int{}, map[string]int{}
		for release, pairs := range byRelease(corpusPairs(t)) {
			if native && release != "newest" { // the form of the proxy does not depend on the input's release
				continue
			}
			var names []string
			var originals, injected []*unstructured.Unstructured
			for _, p := range pairs {
				if unknowable[p.name] != "" {
					continue
				}
				before, after := readObjects(t, p.original), readObjects(t, p.result)
				for i := range before {
					if optsOut(before[i]) { // kube-inject injects a manual sidecar's owner only
						continue
					}
					if len(podTemplates(before[i].Object)) > 0 {
						names = append(names, p.name)
						originals, injected = append(originals, before[i]), append(injected, after[i])
					}
				}
			}
			want, err := Reinject(t.Context(), istioctl, settings, originals)
			if err != nil {
				t.Fatalf("%s: %v", release, err)
			}
			got, err := Reinject(t.Context(), istioctl, settings, injected)
			if err != nil {
				t.Fatalf("%s: %v", release, err)
			}
			for i, name := range names {
				total[release]++
				if (want[i].Err == nil) != (got[i].Err == nil) {
					t.Errorf("%s/%s: the original: %v, the injected one: %v", release, name, want[i].Err, got[i].Err)
				}
				if want[i].Err != nil || got[i].Err != nil {
					continue
				}
				injectable[release]++
				if diff := cmp.Diff(meaning(t, templateOnly(want[i].After)), meaning(t, templateOnly(got[i].After))); diff != "" {
					t.Errorf("%s/%s: injected again it differs from the injected original (-want +got):\n%s", release, name, diff)
				}
			}
			if !native && (release == "newest" || release == "1.6.14") { // each round takes seconds
				rounds(t, istioctl, settings, release, names, got)
			}
		}
		for _, release := range sortedKeys(total) {
			t.Logf("%-12s native %-5v %3d of %3d workloads injectable by this istioctl, all as from the original", release, native, injectable[release], total[release])
		}
	}
}

// rounds injects the results again and again.
func rounds(t *testing.T, istioctl *Istioctl, settings Settings, release string, names []string, first []Reinjected) {
	t.Helper()
	var kept []string
	var objects []*unstructured.Unstructured
	for i, r := range first {
		if r.Err == nil {
			kept, objects = append(kept, names[i]), append(objects, r.After)
		}
	}
	current := objects
	for range 10 {
		results, err := Reinject(t.Context(), istioctl, settings, current)
		if err != nil {
			t.Fatalf("%s: %v", release, err)
		}
		current = nil
		for i, r := range results {
			if r.Err != nil {
				t.Fatalf("%s/%s: %v", release, kept[i], r.Err)
			}
			current = append(current, r.After)
		}
	}
	for i := range objects {
		if diff := cmp.Diff(objects[i].Object, current[i].Object); diff != "" {
			t.Errorf("%s/%s: ten rounds changed it (-first +last):\n%s", release, kept[i], diff)
		}
	}
}

func optsOut(obj *unstructured.Unstructured) bool {
	for _, t := range podTemplates(obj.Object) {
		if t.annotations()[injectKey] == "false" || t.labels()[injectKey] == "false" {
			return true
		}
	}
	return false
}

// templateOnly leaves the pod templates of an object: the rest of an injected
// file was written out by another kube-inject.
func templateOnly(obj *unstructured.Unstructured) *unstructured.Unstructured {
	out := map[string]any{"kind": obj.GetKind()}
	for _, t := range podTemplates(obj.Object) {
		out["spec"] = map[string]any{"template": map[string]any{
			"spec":     t.spec,
			"metadata": map[string]any{"annotations": stringsAny(t.annotations()), "labels": stringsAny(t.labels())},
		}}
	}
	return &unstructured.Unstructured{Object: copyOf(out)}
}

func stringsAny(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func byRelease(pairs []pair) map[string][]pair {
	out := map[string][]pair{}
	for _, p := range pairs {
		out[p.release] = append(out[p.release], p)
	}
	return out
}

// richTemplate has one of everything that injection touches.
const richTemplate = `
metadata:
  name: kept
  labels: {app: web, version: v2, team: a, security.istio.io/tlsMode: disabled}
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9102", note: mine, traffic.sidecar.istio.io/excludeOutboundPorts: "3306", sidecar.istio.io/proxyCPU: 10m}
spec:
  serviceAccountName: web
  securityContext: {fsGroup: 2000, sysctls: [{name: net.core.somaxconn, value: "1024"}]}
  dnsConfig: {searches: [corp], options: [{name: ndots, value: "4"}]}
  imagePullSecrets: [{name: mine}]
  initContainers:
  - {name: migrate, image: web, command: [migrate]}
  - name: helper
    image: helper
    restartPolicy: Always
    ports: [{name: probe, containerPort: 7000}]
    startupProbe: {tcpSocket: {port: probe}, failureThreshold: 9}
    readinessProbe: {grpc: {port: 7001, service: ready}}
  containers:
  - name: web
    image: web
    ports: [{name: https, containerPort: 8443}, {name: metrics, containerPort: 9102}]
    readinessProbe: {httpGet: {path: /ready, port: https, scheme: HTTPS, httpHeaders: [{name: X-A, value: b}]}, timeoutSeconds: 4}
    livenessProbe: {tcpSocket: {port: 1234}, periodSeconds: 7}
    startupProbe: {exec: {command: ["true"]}}
    lifecycle:
      preStop: {httpGet: {path: /drain, port: metrics}}
      postStart: {tcpSocket: {port: 8444, host: 127.0.0.1}}
    resources: {limits: {cpu: 3000m, memory: 1024Mi}}
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: second, image: second, livenessProbe: {grpc: {port: 9000}}}
  volumes: [{name: data, emptyDir: {}}]`

// TestRoundTrip: what the real istioctl injects under many settings, Uninject
// takes out again.
func TestRoundTrip(t *testing.T) {
	istioctl := realIstioctl(t)
	for name, set := range map[string][]string{
		"defaults": nil,
		"cni":      {"components.cni.enabled=true"},
		"hold":     {"values.global.proxy.holdApplicationUntilProxyStarts=true"},
		"secrets":  {"values.global.imagePullSecrets[0]=theirs"},
		"network":  {"values.global.network=net1"},
		"revision": {"revision=canary"},
	} {
		for _, native := range []bool{false, true} {
			settings := chartSettings(t, istioctl, set...)
			settings.Native = native
			original := object(t, deployment(richTemplate))
			results, err := Reinject(t.Context(), istioctl, settings, []*unstructured.Unstructured{original})
			if err != nil || results[0].Err != nil {
				t.Fatal(err, results)
			}
			if found, ok := Injected(results[0].After); !ok || found.Native != native {
				t.Errorf("%s: injected %v, native %v, want %v", name, ok, found.Native, native)
			}
			clean, result, err := Uninject(results[0].After)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(meaning(t, original), meaning(t, clean)); diff != "" {
				t.Errorf("%s, native %v: (-want +got):\n%s\n%v", name, native, diff, result.Notes)
			}
		}
	}
}

// TestConfigFormats: injector configurations of all eras, and what kube-inject
// with files passes over in them.
func TestConfigFormats(t *testing.T) {
	istioctl := realIstioctl(t)
	old := "containers:\n- name: istio-proxy\n  image: old/proxy:1\n  args: [proxy, sidecar]\n{{ if true }}\nvolumes:\n- name: istio-envoy\n{{ end }}\n"
	indented := "  " + strings.ReplaceAll(strings.TrimSpace(old), "\n", "\n  ")
	pod := "spec:\n" + indented
	extra := "metadata:\n  labels: {extra: yes}\nspec:\n  containers:\n  - {name: extra, image: extra}"
	block := func(s string) string { return "|\n    " + strings.ReplaceAll(s, "\n", "\n    ") + "\n" }
	for name, tc := range map[string]struct {
		config, templates string
		extra             bool
	}{
		"policy and template":    {config: "policy: enabled\ntemplate: |\n" + indented + "\n"},
		"a bare template of old": {config: old},
		"a bare template":        {config: pod},
		"templates":              {config: "policy: enabled\ntemplates:\n  sidecar: " + block(pod)},
		"default templates":      {config: "defaultTemplates: [sidecar, more]\ntemplates:\n  sidecar: " + block(pod) + "  more: " + block(strings.ReplaceAll(extra, "yes", `"yes"`)), extra: true},
		"an alias":               {config: "aliases: {both: [sidecar, more]}\ntemplates:\n  sidecar: " + block(pod) + "  more: " + block(strings.ReplaceAll(extra, "yes", `"yes"`)), templates: "both", extra: true},
	} {
		settings := chartSettings(t, istioctl)
		settings.InjectConfig = tc.config
		original := object(t, deployment("metadata: {labels: {app: web}}\nspec: {containers: [{name: web, image: web}]}"))
		template := podTemplates(original.Object)[0]
		if tc.templates != "" {
			template.setMeta("annotations", map[string]string{templatesAnnotation: tc.templates})
		}
		results, err := Reinject(t.Context(), istioctl, settings, []*unstructured.Unstructured{original})
		if err != nil || results[0].Err != nil {
			t.Errorf("%s: %v %v", name, err, results)
			continue
		}
		after := podTemplates(results[0].After.Object)[0]
		if got := results[0].Added[0].Version; got != "1" {
			t.Errorf("%s: proxy %q", name, got)
		}
		if has := after.labels()["extra"] == "yes" && findContainer(listOf(after.spec, "containers"), "extra") != nil; has != tc.extra {
			t.Errorf("%s: the extra template: %v, want %v", name, has, tc.extra)
		}
		if got := after.annotations()[templatesAnnotation]; got != tc.templates {
			t.Errorf("%s: the choice of templates became %q", name, got)
		}
	}
}

// TestLiveIsAsFromTheManifest: a live workload bears the API server's defaults;
// injected again it gets the proxy that its manifest gets.
func TestLiveIsAsFromTheManifest(t *testing.T) {
	istioctl := realIstioctl(t)
	settings := chartSettings(t, istioctl)
	explicit := strings.ReplaceAll(richTemplate, "{name: metrics, containerPort: 9102}", "{name: metrics, containerPort: 9102, protocol: TCP}")
	original := object(t, deployment(explicit))
	fromFile, err := Reinject(t.Context(), istioctl, settings, []*unstructured.Unstructured{original})
	if err != nil || fromFile[0].Err != nil {
		t.Fatal(err, fromFile)
	}
	live := fromFile[0].After.DeepCopy()
	addDefaults(podTemplates(live.Object)[0].spec)
	again, err := Reinject(t.Context(), istioctl, settings, []*unstructured.Unstructured{live})
	if err != nil || again[0].Err != nil {
		t.Fatal(err, again)
	}
	want := proxyEnv(podTemplates(fromFile[0].After.Object)[0])
	got := proxyEnv(podTemplates(again[0].After.Object)[0])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// addDefaults is what the API server fills in of what injection looks at.
func addDefaults(spec map[string]any) {
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(spec, key) {
			for _, p := range listOf(c, "ports") {
				p["protocol"] = "TCP"
			}
			for _, h := range handlers {
				handler := mapAt(c, h.path...)
				if handler == nil {
					continue
				}
				if get := mapAt(handler, "httpGet"); get != nil && get["scheme"] == nil {
					get["scheme"] = "HTTP"
				}
				if _, set := handler["timeoutSeconds"]; !set && len(h.path) == 1 {
					handler["timeoutSeconds"] = int64(1)
				}
			}
		}
	}
}
