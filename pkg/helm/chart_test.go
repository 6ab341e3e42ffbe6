package helm

import (
	"errors"
	"testing"

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
