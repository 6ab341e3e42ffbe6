package sidecars

import (
	"encoding/json"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// A Rollout is restarted by spec.restartAt and nothing in its template, whatever
// the trigger; its undo is what stood there.
func TestRestartPatchOfARollout(t *testing.T) {
	newest := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		before, undo string
	}{
		"never restarted":  {"", `{"metadata":{"annotations":{"istio-upgrade/restarted":null}},"spec":{"restartAt":null}}`},
		"restarted before": {"2026-01-01T00:00:00Z", `{"metadata":{"annotations":{"istio-upgrade/restarted":null}},"spec":{"restartAt":"2026-01-01T00:00:00Z"}}`},
	} {
		for _, with := range []RestartWith{RestartByAnnotation, RestartByGracePeriod} {
			w := &workload.Workload{Ref: workload.Ref{Group: workload.RolloutGroup, Kind: workload.Rollout, Name: "web"}, RestartAt: tc.before, Newest: newest}
			value := stamp(newest.Add(time.Hour), "proxyv2:1.31.0", "ada")
			change, err := restartPatch(w, with, false, value, DefaultFieldManager)
			if err != nil {
				t.Fatal(err)
			}
			var patch struct {
				Metadata struct{ Annotations map[string]string }
				Spec     map[string]any
			}
			if err := json.Unmarshal(change.Patch, &patch); err != nil {
				t.Fatal(err)
			}
			if len(patch.Spec) != 1 || patch.Spec["restartAt"] != "2026-03-01T12:00:01Z" || patch.Metadata.Annotations[RestartAnnotation] != value {
				t.Errorf("%s, %s: patch %s", name, with, change.Patch)
			}
			if string(change.Undo) != tc.undo || change.Type != types.MergePatchType || change.RestartAt != "2026-03-01T12:00:01Z" || change.Stamp != "" {
				t.Errorf("%s, %s: undo %s, %+v", name, with, change.Undo, change)
			}
		}
	}
}

func TestImpactOfARolloutsRestart(t *testing.T) {
	rollout := func(desired, unavailable int32) *workload.Workload {
		return &workload.Workload{
			Ref: workload.Ref{Group: workload.RolloutGroup, Kind: workload.Rollout, Name: "web"}, Desired: desired,
			Strategy: workload.Strategy{Type: workload.RollingUpdate, MaxUnavailable: unavailable},
		}
	}
	for _, tc := range []struct {
		name string
		w    *workload.Workload
		s    surroundings
		want Impact
	}{
		{"one pod after the other", rollout(4, 1), surroundings{Room: noLimit, Disruptions: noLimit}, NoImpact},
		{"a full quota is no obstacle: it deletes first", rollout(4, 1), surroundings{Room: 0, Disruptions: noLimit}, NoImpact},
		{"its evictions have no room", rollout(4, 1), surroundings{Room: noLimit, Disruptions: 0}, AtRisk},
		{"its only pod", rollout(1, 1), surroundings{Room: noLimit, Disruptions: noLimit}, Outage},
		{"all at once", rollout(2, 2), surroundings{Room: noLimit, Disruptions: noLimit}, Outage},
	} {
		if got, why := impactOf(tc.w, Restart, answer{Outcome: answered}, tc.s); got != tc.want {
			t.Errorf("%s: %s (%s), want %s", tc.name, got, why, tc.want)
		}
	}
}

// What a plain init container takes for a moment counts where it is more than
// the containers take together.
func TestPodNeedsOfAGreedyInitContainer(t *testing.T) {
	spec := shaped()
	greedy := spec.DeepCopy()
	big := greedy.InitContainers[0].Resources.Requests["cpu"]
	big.SetMilli(4000)
	greedy.InitContainers[0].Resources.Requests["cpu"] = big
	need := podNeeds(greedy)
	if cpu := need["requests.cpu"]; cpu.MilliValue() != 4000 {
		t.Errorf("requests.cpu %s, want 4", cpu.String())
	}
}
