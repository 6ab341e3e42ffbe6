package sidecars

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Whoever reads how a run ended has the pod, the reason, the way back and the
// way on.
func TestVerdictNamesTheWayBack(t *testing.T) {
	const undo = "kubectl rollout undo deployment/web -n shop"
	for _, tc := range []struct {
		name    string
		kind    string
		outcome rollout.Outcome
		sent    bool
		says    string
		wayBack bool
	}{
		{"its pods do not come up", workload.Deployment, rollout.Failed, true, "the same command goes on", true},
		{"time ran out", workload.Deployment, rollout.TimedOut, true, "the same command goes on", true},
		{"its pods are not as promised", workload.Deployment, rollout.NotConverged, true, "the same command with --force", true},
		{"nothing was written", workload.Deployment, rollout.Failed, false, "the same command goes on", false},
		{"it is back already", workload.Deployment, rollout.Undone, true, "the same command goes on", false},
		{"someone took it back", workload.Deployment, rollout.Reverted, true, "the same command goes on", false},
		{"kubectl cannot take it back", workload.ReplicaSet, rollout.Failed, true, "the same command goes on", false},
	} {
		r := &Result{Counts: map[string]int{}, Workloads: []rollout.Result{{
			Ref: workload.Ref{Kind: tc.kind, Namespace: "shop", Name: "web"}, Outcome: tc.outcome, Sent: tc.sent,
			Message: "pod web-1: ImagePullBackOff", OutOfTime: tc.outcome == rollout.TimedOut,
		}}}
		err := r.verdict(true)
		if err == nil || !strings.Contains(err.Error(), "pod web-1: ImagePullBackOff") || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), undo) != tc.wayBack {
			t.Errorf("%s: %v", tc.name, err)
		}
		var stopped *gate.Stopped
		if errors.As(err, &stopped) == (tc.outcome == rollout.TimedOut) {
			t.Errorf("%s: %T", tc.name, err)
		}
	}
}

// What the run has passed over stays with a person, unless it is no more.
func TestStayingAfter(t *testing.T) {
	ref := func(name string) workload.Ref {
		return workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: name}
	}
	p := &Plan{Items: []Item{
		{Ref: ref("moved"), How: Restart},
		{Ref: ref("paused"), How: Restart},
		{Ref: ref("deleted"), How: Restart},
		{Ref: ref("held"), How: Nothing, Lags: true, Held: "it would be down"},
		{Ref: ref("fresh"), How: Nothing},
	}}
	got := map[string]string{}
	for _, item := range p.StayingAfter(&Result{Workloads: []rollout.Result{
		{Ref: ref("moved"), Outcome: rollout.Done},
		{Ref: ref("paused"), Outcome: rollout.Skipped, Message: "it is paused"},
		{Ref: ref("deleted"), Outcome: rollout.Skipped, Message: "it was deleted meanwhile"},
	}}) {
		got[item.Name] = item.Held
		if item.How != Nothing {
			t.Errorf("%s is moved: %s", item.Name, item.How)
		}
	}
	if want := map[string]string{"held": "it would be down", "paused": "it is paused"}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
