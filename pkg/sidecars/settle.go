package sidecars

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// settle passes the verdict and says how the workload is moved, if it is.
func (s *subject) settle(o *Options) {
	j := judge(s.facts)
	s.item = Item{Ref: s.Ref, How: Nothing, Proxies: []ProxyCount{}}
	item := &s.item
	item.Verdict, item.Reason, item.Lags, item.unknown = j.Verdict, j.Reason, j.Lags, j.Unknown
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
		if j.Verdict == Mixed && o.toWebhook() {
			s.settleByHand(o)
		} else if j.Lags {
			item.How, item.Held = wayOf(s.W, o)
		}
	case ByHand:
		if item.Held = s.unpromised(); item.Held == "" && (j.Lags || o.toWebhook()) {
			s.settleByHand(o)
		}
	case Outside:
		if s.W.Desired == 0 && s.serves() {
			item.Verdict, item.Reason = Left, "it is scaled to zero: its next pods will be new"
		}
	}
	if item.How != Nothing && s.Namespace.Terminating {
		item.How, item.Held = Nothing, "its namespace is being deleted"
	}
	switch {
	case item.How != Nothing && !item.unwatched:
		if why := s.standing(); why != "" {
			item.Reason = why
			s.settleAnew(o)
		}
		s.settleAgain(o)
	case !j.Lags && (item.Verdict == Fresh || item.Verdict == Outside && s.W.Desired > 0):
		s.settleUnfinished(o)
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

// settleManaged handles a Deployment that istiod renders: it is only watched.
func (s *subject) settleManaged() {
	s.item.Gateway = true
	s.item.Verdict, s.item.Reason = Fresh, ""
	if s.Pods.HasProxy() && !s.Answer.known() {
		s.item.Verdict, s.item.Reason, s.item.unknown = Left, s.whyUnknown(), true
	}
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
	case w.Manual:
		return Nothing, "it has no trigger on a change of its configuration: oc rollout latest dc/" + w.Name + " -n " + w.Namespace + " restarts it"
	case w.TemplateFrom != nil && len(w.Template.Spec.Containers) == 0:
		return Nothing, w.TemplateFrom.String() + ", from which it takes its template, is not there"
	case w.Strategy.Partition > 0:
		return Nothing, fmt.Sprintf("its partition of %d keeps pods of lower ordinals as they are: lower it first", w.Strategy.Partition)
	}
	if _, ok := w.Resource(); !ok {
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
	case !w.Observed(), !w.Replaced():
		return "in the middle of a rollout now: taken when that is done"
	case w.Status.Ready < w.Desired:
		text := fmt.Sprintf("unhealthy now (%d of %d ready): taken only if it recovers", w.Status.Ready, w.Desired)
		if s.Pods != nil && s.Pods.Trouble != "" {
			text += "; " + oneLine(s.Pods.Trouble)
		}
		return text
	case !w.RolledOut():
		return "its pods have not been ready for long enough yet: taken when they have"
	}
	return ""
}

// weigh predicts the impact of a workload's move, and holds back what was not
// allowed. Freeing is what comes back to quotas in the course of the run, pod by pod.
func (s *subject) weigh(seen *observation, o *Options, freeing []corev1.ResourceList) {
	item := &s.item
	if item.How == Nothing || s.W == nil {
		return
	}
	if item.unwatched {
		item.Impact = NoImpact
		return
	}
	item.services = seen.servicesOf(s.W)
	if s.Pods != nil {
		item.ExpectedSeconds = int(s.W.Duration(s.Pods.Startup).Seconds())
	}
	need := s.needs()
	room := roomFor(need, seen.quotas[s.W.Namespace])
	item.AdmissionUnknown = item.How != Watch && (s.Hidden && !s.Answer.Told ||
		s.Answer.Outcome != answered && s.Answer.Outcome != noRoom && s.Answer.Outcome != rejected)
	asked := s.Answer
	if item.resume {
		// Under way already: its new pod has been admitted, and has taken its room.
		asked.Outcome, room = answered, noLimit
	}
	comes := func(pod corev1.ResourceList) bool {
		then := roomFor(need, givenBack(seen.quotas[s.W.Namespace], pod))
		return then > 0 || then == noLimit && covers(pod, need) // a quota with scopes, say
	}
	if (asked.Outcome == noRoom || room == 0) && !item.resume && slices.ContainsFunc(freeing, comes) {
		asked.Outcome, room = answered, 1
	}
	item.Impact, item.ImpactReason = impactOf(s.W, item.way(), asked, surroundings{
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

// needs is what a new pod of the workload takes from quotas.
func (s *subject) needs() corev1.ResourceList {
	if s.Answer.Needs != nil {
		return s.Answer.Needs
	}
	return podNeeds(&s.W.Template.Spec)
}

// covers says whether one pod's needs are at least another's.
func covers(pod, need corev1.ResourceList) bool {
	for name, quantity := range need {
		if has := pod[name]; has.Cmp(quantity) < 0 {
			return false
		}
	}
	return true
}
