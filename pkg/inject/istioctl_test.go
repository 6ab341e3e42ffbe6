package inject

import (
	"os"
	"os/exec"
	"path/filepath"
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
			data[obj.GetName()], _, _ = unstructured.NestedStringMap(obj.Object, "data")
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
			var names []string
			var originals, injected []*unstructured.Unstructured
			for _, p := range pairs {
				if unknowable[p.name] != "" {
					continue
				}
				before, after := readObjects(t, p.original), readObjects(t, p.result)
				for i := range before {
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
			if !native { // the rounds take a minute
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
