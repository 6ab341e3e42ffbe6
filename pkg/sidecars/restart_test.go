package sidecars

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// patched gives the Deployment as the API server would store it after a patch.
func patched(t *testing.T, d *appsv1.Deployment, patch []byte) *appsv1.Deployment {
	t.Helper()
	before, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, appsv1.Deployment{})
	if err != nil {
		t.Fatal(err)
	}
	out := &appsv1.Deployment{}
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRestartPatch(t *testing.T) {
	type notes = map[string]string
	for _, tc := range []struct {
		name            string
		with            RestartWith
		again           bool
		grace           int64
		own, template   notes // annotations before
		wantGrace       int64
		wantOwn, wantTm notes // and after
	}{
		{name: "by annotation", with: RestartByAnnotation, grace: 30, template: notes{"a": "b"}, wantGrace: 30, wantTm: notes{"a": "b", RestartAnnotation: "now"}},
		{
			name: "by annotation again", with: RestartByAnnotation, grace: 30, template: notes{RestartAnnotation: "before"},
			wantGrace: 30, wantTm: notes{RestartAnnotation: "now"},
		},
		{name: "a second up", with: RestartByGracePeriod, grace: 30, wantGrace: 31, wantOwn: notes{GraceAnnotation: "30", RestartAnnotation: "now"}},
		{
			name: "and down again", with: RestartByGracePeriod, grace: 31, own: notes{GraceAnnotation: "30", RestartAnnotation: "before", "a": "b"},
			wantGrace: 30, wantOwn: notes{RestartAnnotation: "now", "a": "b"},
		},
		{name: "a long one is not cut to thirty", with: RestartByGracePeriod, grace: 120, wantGrace: 121, wantOwn: notes{GraceAnnotation: "120", RestartAnnotation: "now"}},
		{
			name: "31 of its own goes up", with: RestartByGracePeriod, grace: 31, wantGrace: 32,
			wantOwn: notes{GraceAnnotation: "31", RestartAnnotation: "now"},
		},
		{
			name: "its team has set another one since", with: RestartByGracePeriod, grace: 60, own: notes{GraceAnnotation: "30"},
			wantGrace: 61, wantOwn: notes{GraceAnnotation: "60", RestartAnnotation: "now"},
		},
		{
			name: "again for the same target goes further up", with: RestartByGracePeriod, again: true, grace: 121, own: notes{GraceAnnotation: "120"},
			wantGrace: 122, wantOwn: notes{GraceAnnotation: "120 raised to 122", RestartAnnotation: "now"},
		},
		{
			name: "and again", with: RestartByGracePeriod, again: true, grace: 122, own: notes{GraceAnnotation: "120 raised to 122"},
			wantGrace: 123, wantOwn: notes{GraceAnnotation: "120 raised to 123", RestartAnnotation: "now"},
		},
		{
			name: "the next upgrade comes back from there", with: RestartByGracePeriod, grace: 122, own: notes{GraceAnnotation: "120 raised to 122"},
			wantGrace: 120, wantOwn: notes{RestartAnnotation: "now"},
		},
		{
			name: "again after it went down does not go back up by one", with: RestartByGracePeriod, again: true, grace: 120,
			wantGrace: 130, wantOwn: notes{GraceAnnotation: "120 raised to 130", RestartAnnotation: "now"},
		},
		{
			name: "a note that is no number", with: RestartByGracePeriod, grace: 30, own: notes{GraceAnnotation: "thirty"},
			wantGrace: 31, wantOwn: notes{GraceAnnotation: "30", RestartAnnotation: "now"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := &appsv1.Deployment{}
			before.Annotations, before.Spec.Template.Annotations = tc.own, tc.template
			before.Spec.Template.Spec.TerminationGracePeriodSeconds = &tc.grace
			change, err := restartPatch(workload.FromDeployment(before), tc.with, tc.again, "now", "istio-upgrade")
			if err != nil || change.Type != types.StrategicMergePatchType || change.Manager != "istio-upgrade" {
				t.Fatalf("%v, type %s, manager %s", err, change.Type, change.Manager)
			}
			want := before.DeepCopy()
			want.Annotations, want.Spec.Template.Annotations = tc.wantOwn, tc.wantTm
			want.Spec.Template.Spec.TerminationGracePeriodSeconds = &tc.wantGrace
			after := patched(t, before, change.Patch)
			if d := cmp.Diff(want, after, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("after the patch (-want +got):\n%s", d)
			}
			if d := cmp.Diff(before, patched(t, after, change.Undo), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("after the undo (-want +got):\n%s", d)
			}
			// Who watches for the stamp must find it in the template.
			if change.Stamp != after.Spec.Template.Annotations[change.StampKey] {
				t.Errorf("stamp %q at %q is not in the template", change.Stamp, change.StampKey)
			}
		})
	}
}

func TestRestartPatchWithoutAGracePeriod(t *testing.T) {
	d := &appsv1.Deployment{}
	change, err := restartPatch(workload.FromDeployment(d), RestartByGracePeriod, false, "now", "istio-upgrade")
	if err != nil {
		t.Fatal(err)
	}
	if got := patched(t, d, change.Patch).Spec.Template.Spec.TerminationGracePeriodSeconds; got == nil || *got != 31 {
		t.Errorf("one more than the API's default of 30: %v", got)
	}
}

func TestFieldManager(t *testing.T) {
	for label, want := range map[string]string{
		"app":                               "mine",
		"kustomize.toolkit.fluxcd.io/name":  "flux-client-side-apply",
		"helm.toolkit.fluxcd.io/name":       "flux-client-side-apply",
		"helm.toolkit.fluxcd.io/namespaced": "mine",
	} {
		w := &workload.Workload{Labels: map[string]string{label: "x"}}
		if got := fieldManager(w, "mine"); got != want {
			t.Errorf("label %s: %s, want %s", label, got, want)
		}
	}
}
