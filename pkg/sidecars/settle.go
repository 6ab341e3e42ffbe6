package sidecars

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// settle passes the verdict and says how the workload is moved, if it is.
func (s *subject) settle(o *Options) {
	j := judge(s.facts)
	item := &s.item
	item.Verdict, item.Reason, item.Lags = j.Verdict, j.Reason, j.Lags
	if s.Pods != nil {
		item.Pods, item.Ready = s.Pods.Total, s.Pods.Ready
		for _, p := range s.Pods.Sorted() {
			item.Proxies = append(item.Proxies, ProxyCount{ProxyForm: formOf(p), Pods: s.Pods.Proxies[p].Count, Sample: s.Pods.Proxies[p].Names})
		}
	}
	if s.Answer.HasProxy {
		to := formOf(s.Answer.Proxy)
		if s.Answer.Guessed && len(item.Proxies) > 0 {
			to.Native = item.Proxies[0].Native // not known; most likely as it is
		}
		item.To = &to
	}
	if s.W == nil {
		return
	}
	item.w = s.W
	item.Revision = s.revision()
	item.Gateway = injectedGateway(s.W)
	item.promise = s.Answer.promise(s.Same)
	if managedGateway(s.W) {
		s.settleManaged()
		return
	}
	switch j.Verdict {
	case Pinned:
		s.lagOfPinned()
	case Stale, Missing, Mixed:
		if j.Lags {
			item.How, item.Held = wayOf(s.W, o)
		}
	case ByHand:
		if j.Lags {
			s.settleByHand(o)
		}
	case Outside:
		if s.W.Desired == 0 && s.serves() {
			item.Verdict, item.Reason = Left, "it is scaled to zero: its next pods will be new"
		}
	}
	if item.How != Nothing && !item.unwatched {
		if why := s.standing(); why != "" {
			item.Reason = why
		}
		s.settleAgain(o)
	}
}

// lagOfPinned shows how far a pinned proxy is from what its injector gives to
// others.
func (s *subject) lagOfPinned() {
	if s.configured == "" || len(s.item.Proxies) == 0 {
		return
	}
	to := formOf(workload.Proxy{Image: s.configured, Native: s.item.Proxies[0].Native})
	s.item.To, s.item.Lags = &to, s.item.Proxies[0].Image != s.configured && !s.Same(s.item.Proxies[0].Image, s.configured)
}

// settleAgain handles a workload that this tool has restarted for the same
// target before: where that rollout is complete it did not converge and is not
// restarted in a loop; where it is not, the run goes on with it.
func (s *subject) settleAgain(o *Options) {
	target := lastTarget(s.W)
	if target == "" || target != s.Answer.Proxy.Image || s.item.How != Restart {
		return
	}
	if s.standing() != "" {
		s.item.resume = true
		s.item.Reason = "its restart is not complete: the run goes on with it"
	} else if !o.Force {
		s.item.How = Nothing
		s.item.Held = "it was restarted for " + target + " before and did not converge; --force restarts it again"
	}
}

// settleManaged handles a Deployment that istiod renders: it is only watched.
func (s *subject) settleManaged() {
	s.item.Gateway = true
	s.item.Verdict, s.item.Reason = Fresh, ""
	if s.lags() {
		s.item.Verdict, s.item.Lags = Stale, true
		s.item.How, s.item.Reason = Watch, "istiod renders it, and moves it itself"
	}
}

// wayOf says how a workload of its kind and strategy is moved, or why this run
// leaves it.
func wayOf(w *workload.Workload, o *Options) (How, string) {
	switch {
	case w.Deleting:
		return Nothing, "it is being deleted"
	case w.Strategy.Type == workload.OnDelete && !o.Evict && (w.Kind == workload.StatefulSet || w.Kind == workload.DaemonSet):
		return Nothing, "its update strategy is OnDelete: --evict replaces its pods one at a time"
	case w.Strategy.Type == workload.OnDelete && !o.Evict:
		return Nothing, "a bare " + w.Kind + " makes new pods only when old ones go: --evict replaces them one at a time"
	case w.Strategy.Type == workload.OnDelete:
		return Evict, ""
	case w.Strategy.Partition > 0:
		return Nothing, fmt.Sprintf("its partition of %d keeps pods of lower ordinals as they are: lower it first", w.Strategy.Partition)
	}
	if _, ok := workload.Resources[w.Kind]; !ok {
		return Nothing, "a " + w.Kind + " cannot be restarted"
	}
	return Restart, ""
}

// standing says what keeps a workload from being started right now; it is taken
// later in the run if that passes.
func (s *subject) standing() string {
	w := s.W
	switch {
	case w.Paused:
		return "paused now: taken only if it goes on meanwhile"
	case w.Status.ObservedGeneration < w.Generation, w.Kind == workload.Deployment && w.Status.Updated < w.Desired:
		return "in the middle of a rollout now: taken when that is done"
	case w.Status.Ready < w.Desired:
		text := fmt.Sprintf("unhealthy now (%d of %d ready): taken only if it recovers", w.Status.Ready, w.Desired)
		if s.Pods != nil && s.Pods.Trouble != "" {
			text += "; " + oneLine(s.Pods.Trouble)
		}
		return text
	}
	return ""
}

// weigh predicts the impact of a workload's move, and holds back what was not
// allowed.
func (s *subject) weigh(seen *observation, o *Options) {
	item := &s.item
	if item.How == Nothing || s.W == nil {
		return
	}
	if item.unwatched {
		item.Impact = NoImpact
		return
	}
	item.services = seen.servicesOf(s.W)
	room := roomFor(&s.W.Template.Spec, seen.quotas[s.W.Namespace])
	item.AdmissionUnknown = s.Answer.Outcome != answered && s.Answer.Outcome != noRoom && s.Answer.Outcome != rejected && item.How != Watch
	how := item.How
	if item.evict {
		how = Evict
	}
	item.Impact, item.ImpactReason = impactOf(s.W, how, s.Answer, surroundings{
		Room: room, Disruptions: disruptionsFor(s.W, seen.budgets[s.W.Namespace]), Served: len(item.services) > 0,
	})
	if item.How == Watch {
		return
	}
	item.promise = s.Answer.promise(s.Same)
	switch {
	case item.Impact == Refused:
		item.How, item.Held = Nothing, item.ImpactReason
	case item.Impact == Outage && !o.AllowDowntime:
		item.How, item.Held = Nothing, item.ImpactReason+"; --allow-downtime moves it all the same"
	}
}

// order puts what moves before what stays, the harmless first, gateways last.
func (p *Plan) order() {
	weight := map[Impact]int{NoImpact: 0, AtRisk: 1, Outage: 2}
	slices.SortStableFunc(p.Items, func(a, b Item) int {
		return cmp.Or(
			cmp.Compare(btoi(a.How == Nothing), btoi(b.How == Nothing)),
			cmp.Compare(btoi(a.Gateway), btoi(b.Gateway)),
			cmp.Compare(weight[a.Impact], weight[b.Impact]),
			a.Compare(b.Ref))
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// refusals gives what must not be started at all: injectors that do not answer.
func refusals(subjects []*subject) []gate.Refusal {
	var out []gate.Refusal
	told := map[string]bool{}
	for _, s := range subjects {
		if s.Answer.Outcome != injectorDown || told[s.revision()] {
			continue
		}
		told[s.revision()] = true
		out = append(out, gate.Refusal{
			Object: "the injector of revision " + s.revision(), Forceable: false,
			Reason: "it does not answer, so new pods could not be created or would come up without a sidecar: " + s.Answer.Message,
			Cure:   "bring istiod back, then run this again",
		})
	}
	return out
}

// warnings gives what a person should know before confirming.
func warnings(seen *observation, subjects []*subject) []string {
	var out []string
	unread := slices.Clone(seen.unread)
	slices.Sort(unread)
	for _, what := range slices.Compact(unread) {
		out = append(out, "not permitted to read "+what+": what depends on it is unknown")
	}
	unknown := 0
	for _, s := range subjects {
		if s.item.AdmissionUnknown {
			unknown++
		}
	}
	if unknown > 0 {
		out = append(out, fmt.Sprintf("whether the new pods would be admitted is unknown for %d workloads: no dry run could be made; start with --canary 1", unknown))
	}
	return out
}
