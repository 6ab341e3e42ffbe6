package controlplane

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

func TestTagValues(t *testing.T) {
	t.Parallel()
	for component, want := range map[helm.Component]map[string]any{
		helm.Istiod:  {"global": map[string]any{"tag": "1.31.0"}},
		helm.Istio:   {"global": map[string]any{"tag": "1.31.0"}},
		helm.CNI:     {"global": map[string]any{"tag": "1.31.0"}},
		helm.Ztunnel: {"tag": "1.31.0"},
		helm.Gateway: {},
	} {
		if diff := cmp.Diff(want, tagValues(component, "1.31.0")); diff != "" {
			t.Errorf("%s: %s", component, diff)
		}
	}
}

// The charts append the variant, so that it must not be in the tag as well.
func TestWithoutVariants(t *testing.T) {
	t.Parallel()
	const tag = "1.31.0-distroless"
	for name, c := range map[string]struct {
		tag          string
		values, want map[string]any
	}{
		"in the tag and in the values": {
			tag,
			map[string]any{"global": map[string]any{"tag": tag, "variant": "distroless"}},
			map[string]any{"global": map[string]any{"tag": tag, "variant": ""}},
		},
		"in the values alone": {
			"1.31.0",
			map[string]any{"global": map[string]any{"tag": "1.31.0", "variant": "distroless"}},
			map[string]any{"global": map[string]any{"tag": "1.31.0", "variant": "distroless"}},
		},
		"of ztunnel, and of istiod alone": {
			tag,
			map[string]any{"tag": tag, "variant": "debug", "pilot": map[string]any{"variant": "distroless"}},
			map[string]any{"tag": tag, "variant": "", "pilot": map[string]any{"variant": ""}},
		},
		"of a tag that is pinned": {
			tag,
			map[string]any{"pilot": map[string]any{"tag": "1.30.2", "variant": "debug"}},
			map[string]any{"pilot": map[string]any{"tag": "1.30.2", "variant": "debug"}},
		},
	} {
		if diff := cmp.Diff(c.want, withoutVariants(c.values, c.tag)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestUserChanges(t *testing.T) {
	t.Parallel()
	changes := map[string]any{"global": map[string]any{"hub": "x"}, "pilot": map[string]any{"a": 1}}
	global := map[string]any{"global": changes["global"]}
	only := func(c helm.Component) Options { return Options{Components: []helm.Component{c}} }
	for name, c := range map[string]struct {
		component helm.Component
		options   Options
		want      map[string]any
	}{
		"istiod":              {helm.Istiod, Options{}, changes},
		"legacy":              {helm.Istio, only(helm.Istiod), changes},
		"cni":                 {helm.CNI, Options{}, global},
		"gateway":             {helm.Gateway, Options{}, map[string]any{}},
		"a gateway, by name":  {helm.Gateway, only(helm.Gateway), changes},
		"ztunnel, by name":    {helm.Ztunnel, only(helm.Ztunnel), changes},
		"cni beside a gatway": {helm.CNI, only(helm.Gateway), global},
	} {
		if diff := cmp.Diff(c.want, userChanges(changes, c.component, c.options)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestValueChanges(t *testing.T) {
	t.Parallel()
	from := map[string]any{"same": float64(2), "gone": "x", "deep": map[string]any{"a": 1, "b": map[string]any{}}, "list": []any{"a"}}
	to := map[string]any{"same": int64(2), "deep": map[string]any{"a": 2, "b": map[string]any{}}, "list": []any{"a", "b"}, "new": nil, "dot.ted": true}
	want := []ValueChange{
		{Path: "deep.a", From: 1, To: 2},
		{Path: `dot\.ted`, To: true},
		{Path: "gone", From: "x"},
		{Path: "list", From: []any{"a"}, To: []any{"a", "b"}},
	}
	if diff := cmp.Diff(want, valueChanges(from, to)); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownValues(t *testing.T) {
	t.Parallel()
	ch := &helm.Chart{Chart: &chart.Chart{
		Metadata: &chart.Metadata{Name: "istiod"},
		Values: map[string]any{"_internal_defaults_do_not_set": map[string]any{
			"autoscaleMin": 1, "env": map[string]any{}, "meshConfig": map[string]any{"a": true},
			"global": map[string]any{"tag": "x", "proxy": map[string]any{"image": "proxyv2"}},
		}},
		Templates: []*common.File{{Name: "t", Data: []byte(`{{ .Values.global.caName }} {{ index .Values "experimental" }} {{ .Values.mixerless }}`)}},
	}}
	user := map[string]any{
		"pilot":        map[string]any{"autoscaleMin": 2, "oldPilotValue": 1},
		"env":          map[string]any{"ANY": "1"},
		"meshConfig":   map[string]any{"accessLogFile": "/dev/stdout"},
		"experimental": map[string]any{"x": 1},
		"mixer":        map[string]any{"policy": 1},
		"global":       map[string]any{"tag": "y", "caName": "x", "proxy": map[string]any{"image": "p", "gone": 1}},
	}
	want := []string{"pilot.oldPilotValue", "global.proxy.gone", "mixer"}
	if diff := cmp.Diff(want, unknownValues(ch, user)); diff != "" {
		t.Error(diff)
	}
}
