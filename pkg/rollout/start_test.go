package rollout

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// A rollout for another promise is waited for, unless its pods hang.
func TestObstacleOfAnotherRollout(t *testing.T) {
	m := Move{Promise: promise, Anew: true, Change: func(*workload.Workload) (Change, error) { return Change{}, nil }}
	hung := deployment(halfway)
	for _, tc := range []struct {
		name    string
		w       *workload.Workload
		pods    []*corev1.Pod
		overdue bool
		starts  bool
	}{
		{"on its way", hung, []*corev1.Pod{pod("a", oldImage), pod("b", "proxyv2:bad", unready)}, false, false},
		{"a pod crashes", hung, []*corev1.Pod{pod("a", oldImage), pod("b", "proxyv2:bad", crashing)}, false, true},
		{"one that is as promised crashes", hung, []*corev1.Pod{pod("a", oldImage), pod("b", newImage, crashing)}, false, false},
		{"a pod has not come up for long", hung, []*corev1.Pod{pod("a", oldImage), pod("b", "proxyv2:bad", unready)}, true, true},
		{"paused", deployment(halfway, func(w *workload.Workload) { w.Paused = true }), []*corev1.Pod{pod("b", "proxyv2:bad", crashing)}, true, false},
	} {
		if got := obstacle(&m, sight{W: tc.w, Pods: tc.pods}, tc.overdue); (got == "") != tc.starts {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}

// What has become an outage since the plan was made is not begun.
func TestBeginHoldsToThePlan(t *testing.T) {
	w := deployment()
	m := Move{Ref: w.Ref, Promise: promise, Change: func(*workload.Workload) (Change, error) { return Change{}, nil }}
	m.Holds = func(now *workload.Workload) string { return fmt.Sprintf("%d pods now", now.Desired) }
	e, _ := engine(Options{}, m)
	e.begin(t.Context(), e.runs[0], sight{W: w, Pods: []*corev1.Pod{pod("a", oldImage)}})
	if r := e.runs[0].result; r.Outcome != Skipped || r.Message != "2 pods now" || r.Sent {
		t.Errorf("%+v", r)
	}
}
