package helm

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

func TestReuse(t *testing.T) {
	t.Parallel()
	stored := map[string]any{"global": map[string]any{"tag": "1.30.2", "hub": "own"}, "env": map[string]any{"A": "1"}, "list": []any{"x"}}
	changes := map[string]any{"global": map[string]any{"tag": "1.31.0"}, "list": []any{"y"}}
	want := map[string]any{"global": map[string]any{"tag": "1.31.0", "hub": "own"}, "env": map[string]any{"A": "1"}, "list": []any{"y"}}
	if diff := cmp.Diff(want, Reuse(stored, changes)); diff != "" {
		t.Error(diff)
	}
	if stored["global"].(map[string]any)["tag"] != "1.30.2" || len(changes) != 2 {
		t.Error("Reuse changed its arguments")
	}
}

func TestUserValues(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), map[string]string{"a.yaml": "x: 1\nq: {z: 2}", "b.yaml": "q: {w: 3}", "bad.yaml": "a: [", "list.yaml": "- a"})
	got, err := UserValues([]string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")}, []string{"x=2,q.z=4"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"x": int64(2), "q": map[string]any{"z": int64(4), "w": float64(3)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, file := range []string{"bad.yaml", "list.yaml", "absent.yaml"} {
		_, err := UserValues([]string{filepath.Join(dir, file)}, nil)
		wantBadInput(t, file, err)
	}
	for _, set := range []string{"nonsense", "a[", "a[x]=1"} {
		_, err := UserValues(nil, []string{set})
		wantBadInput(t, "--set "+set, err)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	sub := &chart.Chart{Metadata: &chart.Metadata{Name: "pilot"}, Values: map[string]any{"autoscaleMin": 1}}
	umbrella := &chart.Chart{Metadata: &chart.Metadata{Name: "istio"}, Values: map[string]any{"global": map[string]any{"tag": "x"}}}
	umbrella.AddDependency(sub)
	for name, c := range map[string]struct {
		chart *chart.Chart
		path  []string
	}{
		"nested, 1.24 and later": {&chart.Chart{Metadata: &chart.Metadata{Name: "istiod"}, Values: map[string]any{
			"_internal_defaults_do_not_set": map[string]any{"global": map[string]any{"tag": "x"}},
		}}, []string{"global", "tag"}},
		"nested, 1.21 to 1.23": {&chart.Chart{Metadata: &chart.Metadata{Name: "istiod"}, Values: map[string]any{
			"defaults": map[string]any{"global": map[string]any{"tag": "x"}},
		}}, []string{"global", "tag"}},
		"of a subchart": {umbrella, []string{"pilot", "autoscaleMin"}},
	} {
		var at any = (&Chart{Chart: c.chart}).Defaults()
		for _, key := range c.path {
			at = at.(map[string]any)[key]
		}
		if at == nil {
			t.Errorf("%s: no default at %v", name, c.path)
		}
	}
}
