package sidecars

import (
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// TestSettleAgain: what this tool has restarted for the same target before is
// followed while that rollout lasts, and not begun again once it is over.
func TestSettleAgain(t *testing.T) {
	surging := func(f *facts) { // its new pod starts, and its old one still serves
		f.W.Desired, f.W.Strategy = 1, workload.Strategy{Type: workload.RollingUpdate, MaxSurge: 1}
		f.W.Status = workload.Status{Replicas: 2, Updated: 1, Ready: 1, Available: 1, Unfinished: true}
	}
	over := func(f *facts) {
		f.W.Status = workload.Status{Replicas: 2, Updated: 2, Ready: 2, Available: 2}
	}
	for _, tc := range []struct {
		name    string
		facts   []func(*facts)
		options Options
		how     How
		resume  bool
		words   string
	}{
		{name: "a surge of one", facts: []func(*facts){surging}, how: Restart, resume: true, words: "the run goes on with it"},
		{name: "not seen by its controller", facts: []func(*facts){over, func(f *facts) { f.W.Generation = 2 }}, how: Restart, resume: true},
		{name: "a StatefulSet whose pod ends", facts: []func(*facts){kind(workload.StatefulSet), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 0, Ready: 2, Available: 2}
		}}, how: Restart, resume: true},
		{name: "a StatefulSet that waits for minReadySeconds", facts: []func(*facts){kind(workload.StatefulSet), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 1, Ready: 2, Available: 1}
		}}, how: Restart, resume: true},
		{name: "a DaemonSet", facts: []func(*facts){kind(workload.DaemonSet), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 1, Ready: 2, Available: 2}
		}}, how: Restart, resume: true},
		{name: "over, and one pod is not ready", facts: []func(*facts){over, func(f *facts) { f.W.Status.Ready = 1 }}, how: Restart, resume: true},
		{name: "over", facts: []func(*facts){over}, how: Nothing, words: "did not converge; --force"},
		{name: "over, and forced", facts: []func(*facts){over}, options: Options{Force: true}, how: Restart},
		{name: "over, and of another form since", facts: []func(*facts){over, func(f *facts) { f.Answer.Proxy.Native = true }}, how: Restart},
		{name: "over, by a stamp of old", facts: []func(*facts){over, func(f *facts) {
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, newProxy, "")
		}}, how: Restart},
		{name: "under way for another target", facts: []func(*facts){surging, func(f *facts) {
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, targetOf(promised(oldProxy)), "")
		}}, how: Restart, words: "in the middle of a rollout now"},
		{name: "all its pods are new, and not ready", facts: []func(*facts){runs(newProxy), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2, Unfinished: true}
		}}, how: Watch, resume: true},
		{name: "it has no pod at this moment", facts: []func(*facts){func(f *facts) { f.Pods = nil }}, how: Watch, resume: true},
		{name: "all its pods were new, and one has failed since", facts: []func(*facts){runs(newProxy), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2, Ready: 1, Available: 1}
		}}, how: Nothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := stale()
			f.W.Strategy = workload.Strategy{Type: workload.RollingUpdate, MaxSurge: 1}
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, targetOf(promised(newProxy)), "ann")
			for _, change := range tc.facts {
				change(f)
			}
			tc.options.Rollout.Wait = true
			s := &subject{facts: *f, item: Item{Ref: f.Ref, How: Nothing}}
			s.settle(&tc.options)
			if s.item.How != tc.how || s.item.resume != tc.resume || !strings.Contains(s.item.Reason+s.item.Held, tc.words) {
				t.Errorf("%s, resume %v, %q, %q; want %s, %v, %q", s.item.How, s.item.resume, s.item.Reason, s.item.Held, tc.how, tc.resume, tc.words)
			}
		})
	}
}
