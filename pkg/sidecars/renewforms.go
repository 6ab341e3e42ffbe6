package sidecars

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// forms finds out whether an injector gives native sidecars: the files do not
// say it, istiod finds it out from its settings and the cluster's nodes.
type forms struct {
	a         *asker
	injectors *observation
	subjects  []*subject
	known     map[string]bool // revisions that were asked for
	native    map[string]bool
}

// of gives the form for a workload: what the injector gives others of the same
// revision, or a pod that is asked for as a dry run, or else the form that the
// workload has now.
func (f *forms) of(ctx context.Context, s *subject) bool {
	revision := s.revision()
	if !f.known[revision] {
		f.known[revision] = true
		if native, ok := f.find(ctx, s, revision); ok {
			f.native[revision] = native
		} else {
			f.known[revision] = false
		}
	}
	if f.known[revision] {
		return f.native[revision]
	}
	proxy, _ := workload.ProxyOf(s.W.Template.Annotations, &s.W.Template.Spec)
	return proxy.Native
}

func (f *forms) find(ctx context.Context, s *subject, revision string) (native, ok bool) {
	for _, other := range f.subjects {
		if other.W != nil && other.revision() == revision && other.Answer.Outcome == answered && other.Answer.HasProxy && !other.item.Gateway {
			return other.Answer.Proxy.Native, true
		}
	}
	asks, ok := s.webhookServes(f.injectors.injectors)
	if !ok {
		return false, false
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	pod.Namespace, pod.GenerateName, pod.Labels = s.Ref.Namespace, "istio-upgrade-", asks
	given := ask(ctx, f.a.c, pod, f.a.manager)
	return given.Proxy.Native, given.Outcome == answered && given.HasProxy
}
