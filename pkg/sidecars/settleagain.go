package sidecars

import (
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// settleAgain handles a workload that this tool has restarted for the same
// target before: where that rollout is complete it did not converge and is not
// restarted in a loop; where it is not, the run goes on with it.
func (s *subject) settleAgain(o *Options) {
	last := lastTarget(s.W)
	if s.item.How != Restart || !last.aims(s.item.promise) {
		return
	}
	switch {
	case s.standing() != "":
		s.goOn(o)
	case !o.Force && last.is(s.item.promise):
		s.item.How = Nothing
		s.item.Held = "it was restarted for " + string(last) + " before and did not converge; --force restarts it again"
	}
}

// settleAnew handles a rollout that hangs, or may, and is for another proxy than
// the injector gives now: its own end is no use, so it is begun anew.
func (s *subject) settleAnew(o *Options) {
	last, why := lastTarget(s.W), s.brokenSidecar()
	switch {
	case s.W.Paused, s.W.Kind == workload.Rollout, s.item.way() == Evict, !o.Rollout.Wait:
		return
	case s.W.Rolling(), s.W.Status.DeadlineExceeded, why != "" && s.W.Status.Ready == 0:
	default:
		return // at rest, and unhealthy
	}
	s.item.anew = why != "" || s.item.How == Restart && last != "" && !last.aims(s.item.promise)
	if why != "" {
		s.item.Reason = "its rollout hangs on the sidecar that it brings, and is begun anew: " + oneLine(why)
	}
}

// brokenSidecar says why pods do not come up that hang on a proxy which new pods
// would not get any more, "" where there are none.
func (s *subject) brokenSidecar() string {
	for _, p := range s.Pods.Sorted() {
		if why := s.Pods.Proxies[p].Trouble; why != "" && s.item.promise.Known && !s.item.promise.Kept(p, true) {
			return why
		}
	}
	return ""
}

// settleUnfinished handles a workload that has none but new pods, or none at
// this moment, since its restart by this tool is about to end: the run watches
// it to its end.
func (s *subject) settleUnfinished(o *Options) {
	if s.Answer.HasProxy && s.W.Rolling() && !s.W.Paused && lastTarget(s.W).aims(s.item.promise) {
		s.item.Verdict, s.item.How = Stale, Watch
		s.goOn(o)
	}
}

// goOn has the run follow a restart that was begun before it.
func (s *subject) goOn(o *Options) {
	s.item.resume = true
	s.item.clears = s.item.How == Restart && s.Pods != nil && s.Pods.Ready < s.Pods.Total
	s.item.Reason = "its restart is not complete: the run goes on with it"
	if !o.Rollout.Wait {
		s.item.How, s.item.Held = Nothing, "its restart is not complete, and goes on: --wait watches it"
	}
}
