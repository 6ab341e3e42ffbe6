package preflight

import (
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// What is a failure of check refuses the step that it concerns; warnings do not.
func TestRefusals(t *testing.T) {
	image := func(state helm.ImageState) func(*Facts) {
		return func(f *Facts) { f.Images = []Image{{Name: "docker.io/istio/pilot:1.31.0", State: state}} }
	}
	for _, tc := range []struct {
		name, step string
		spoil      func(*Facts)
		want       string
	}{
		{"nothing is wrong", "control-plane", func(*Facts) {}, ""},
		{"istiod is scaled to zero", "control-plane", func(f *Facts) { f.Mesh.ControlPlanes[0].Replicas = 0 }, "deployment/istiod in istio-system: it is scaled to zero: no pod can be injected"},
		{"istiod is not ready", "control-plane", func(f *Facts) { f.Mesh.ControlPlanes[0].Ready = 1 }, "deployment/istiod in istio-system: 1 of 2 replicas are ready; bring it up"},
		{"one replica", "control-plane", func(f *Facts) { f.Mesh.ControlPlanes[0].Replicas, f.Mesh.ControlPlanes[0].Ready = 1, 1 }, ""},
		{"a CRD that is not established", "control-plane", func(f *Facts) { f.Mesh.CRDs[0].Established = false }, "CRDs: gateways.networking.istio.io is not established; kubectl describe"},
		{"an image that is not there", "control-plane", image(helm.ImageAbsent), "docker.io/istio/pilot:1.31.0: its registry has no such image"},
		{"a registry that cannot be asked", "control-plane", image(helm.ImageUnknown), ""},
		{"a CRD that crds may mend", "crds", func(f *Facts) { f.Mesh.CRDs[0].Established = false }, ""},
	} {
		f := Facts{Mesh: healthy()}
		tc.spoil(&f)
		got := Refusals(tc.step, f)
		switch {
		case tc.want == "" && len(got) > 0:
			t.Errorf("%s: refused by %v", tc.name, got)
		case tc.want != "" && (len(got) != 1 || !got[0].Forceable || !strings.HasPrefix(got[0].String(), tc.want)):
			t.Errorf("%s: refused by %v, want %q", tc.name, got, tc.want)
		}
	}
}
