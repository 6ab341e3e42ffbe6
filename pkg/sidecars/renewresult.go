package sidecars

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// remade takes over the new object: what it promises, and whether anything is
// left to be written.
func (s *subject) remade(after *unstructured.Unstructured) {
	item := &s.item
	changed, err := with(s.W, after)
	var patch []byte
	if err == nil {
		patch, err = inject.TemplatePatch(item.remake.before, after)
	}
	if err != nil {
		hold([]*subject{s}, err.Error())
		return
	}
	item.remake.after, item.remake.patch = after, patch
	s.renewed = changed
	s.Answer = answer{}
	s.Answer.Proxy, s.Answer.HasProxy = workload.ProxyOf(changed.Template.Annotations, &changed.Template.Spec)
	to := formOf(s.Answer.Proxy)
	item.To = &to
	if patch != nil {
		return
	}
	// The template is new already; the pods are, or are not.
	lags, evict := s.lags(), item.evict
	standing := s.standing()
	hold([]*subject{s}, "")
	item.Lags = lags
	switch {
	case !lags:
	case evict:
		item.How = Evict
	case standing != "":
		item.How, item.Reason = Watch, standing
	default:
		item.Held = "its template holds the new sidecar already, yet its pods run another"
	}
}

// askRemade asks whether the pod of the new template would be admitted.
func (a *asker) askRemade(ctx context.Context, s *subject) error {
	promised := s.Answer
	probe := &subject{facts: s.facts}
	probe.W = s.renewed
	given := a.ask(ctx, probe)
	s.asked = probe.asked
	if given.Outcome != answered || s.item.How == Reinject {
		given.HasProxy, given.Proxy, given.Guessed, given.AnyVariant = promised.HasProxy, promised.Proxy, promised.Guessed, promised.AnyVariant
	}
	s.Answer = given
	if s.item.How == Webhook && given.Outcome == answered {
		if !given.HasProxy {
			hold([]*subject{s}, "the webhook would not inject it")
			return ctx.Err()
		}
		to := formOf(given.Proxy)
		s.item.To = &to
	}
	return ctx.Err()
}
