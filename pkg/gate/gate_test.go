package gate

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
	soft := Refusal{Object: "release istiod in istio-system", Reason: "it is pending", Cure: "give --recover", Forceable: true}
	hard := Refusal{Object: "deployment/web in shop", Reason: "it would lose its sidecar"}
	for _, tc := range []struct {
		name     string
		refusals []Refusal
		force    bool
		left     []Refusal // nil: nothing stands in the way
		text     string
	}{
		{name: "no refusals"},
		{name: "no refusals, forced", refusals: []Refusal{}, force: true},
		{
			name: "one", refusals: []Refusal{soft}, left: []Refusal{soft},
			text: "crds refused: release istiod in istio-system: it is pending; give --recover (--force overrides this)",
		},
		{name: "force overrides it", refusals: []Refusal{soft, soft}, force: true},
		{
			name: "force does not override all", refusals: []Refusal{soft, hard}, force: true, left: []Refusal{hard},
			text: "crds refused: deployment/web in shop: it would lose its sidecar (--force does not override this)",
		},
		{
			name: "several, one a line", refusals: []Refusal{hard, soft}, left: []Refusal{hard, soft},
			text: "crds refused for 2 reasons:\n" +
				"  - deployment/web in shop: it would lose its sidecar (--force does not override this)\n" +
				"  - release istiod in istio-system: it is pending; give --recover (--force overrides this)",
		},
		{
			name: "about nothing in particular", refusals: []Refusal{{Reason: "no CRDs"}}, left: []Refusal{{Reason: "no CRDs"}},
			text: "crds refused: no CRDs (--force does not override this)",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Check("crds", tc.refusals, tc.force)
			if tc.left == nil {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("%T, want *Error", err)
			}
			if d := cmp.Diff(tc.left, refused.Refusals); d != "" {
				t.Errorf("refusals (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.text, err.Error()); d != "" {
				t.Errorf("text (-want +got):\n%s", d)
			}
		})
	}
}

func TestBadInputIsKnownWhenWrapped(t *testing.T) {
	err := fmt.Errorf("read the charts: %w", BadInputf("%q is no version", "latest"))
	var bad *BadInput
	if !errors.As(err, &bad) || bad.Reason != `"latest" is no version` {
		t.Errorf("got %v", err)
	}
}
