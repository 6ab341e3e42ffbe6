package helm

import (
	"errors"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

func TestChartVersion(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]string{
		"1.31.4":            "1.31.4",
		"1.31.4-distroless": "1.31.4",
		"1.31.4-debug":      "1.31.4",
		"v1.31.4":           "1.31.4",
		"1.31.0-rc.0":       "1.31.0-rc.0",
		"1.31":              "",
		"latest":            "",
		"":                  "",
		"1.31.0:x":          "",
	} {
		got, err := ChartVersion(tag)
		if got != want {
			t.Errorf("ChartVersion(%q) = %q, want %q", tag, got, want)
		}
		var bad *gate.BadInput
		if want == "" && !errors.As(err, &bad) {
			t.Errorf("ChartVersion(%q): want a BadInput, got %v", tag, err)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	have := []string{"1.20.1", "1.30.2", "1.31.4", "1.31.0", "1.32.0", "1.31.5", "not-a-version", "1.31.4"}
	want := []string{"1.31.5", "1.31.4", "1.31.0", "1.32.0", "1.30.2"}
	if diff := cmp.Diff(want, nearest("1.31.9", have)); diff != "" {
		t.Error(diff)
	}
}

func TestComponentOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Component{
		"istiod": Istiod, "istio-discovery": Istiod, "base": Base, "cni": CNI, "istio-cni": CNI,
		"ack-istio-init": IstioInit, "istio": Istio, "ztunnel": Ztunnel, "gateway": Gateway,
		"nginx": "", "istio-policy": "",
	} {
		if got, ok := ComponentOf(name); got != want || ok != (want != "") {
			t.Errorf("ComponentOf(%q) = %q, %v", name, got, ok)
		}
	}
}

func TestOtherMinorWarning(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		chart Chart
		want  []string
	}{
		"the same version":        {Chart{Version: "1.31.0"}, nil},
		"another patch":           {Chart{Version: "1.31.4"}, nil},
		"the minor before":        {Chart{Name: "base", Version: "1.30.2", From: "./charts"}, []string{"the chart base-1.30.2 from ./charts is not of the target's version 1.31.0"}},
		"another major":           {Chart{Name: "base", Version: "2.31.0", From: "x"}, []string{"the chart base-2.31.0 from x is not of the target's version 1.31.0"}},
		"a placeholder":           {Chart{Version: "1.0.0", Placeholder: true}, nil},
		"a version that is none":  {Chart{Version: "newest"}, nil},
		"a build of the same one": {Chart{Version: "1.31.0+corp.1"}, nil},
	} {
		if diff := cmp.Diff(c.want, c.chart.OtherMinorWarning(semver.MustParse("1.31.0"))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
