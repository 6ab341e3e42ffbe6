package sidecars

import (
	"context"
	"maps"
	"slices"
	"strings"

	"istio.io/api/annotation"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// NewPlan looks at the cluster and says what would be moved. It writes nothing.
// The error is the API server's, or a *gate.BadInput for a workload or
// namespace that is not there.
func NewPlan(ctx context.Context, c *cluster.Cluster, o Options) (*Plan, error) {
	seen, err := observe(ctx, c, &o)
	if err != nil {
		return nil, err
	}
	subjects, err := seen.subjects(&o)
	if err != nil {
		return nil, err
	}
	if o.Revision != "" {
		subjects = slices.DeleteFunc(subjects, func(s *subject) bool { return s.W == nil || s.revision() != o.Revision })
	}
	a := &asker{c: c, manager: o.FieldManager}
	var ask []*subject
	for _, s := range subjects {
		if s.W != nil && s.worthAsking() {
			ask = append(ask, s)
		}
	}
	if err := a.askShared(ctx, ask); err != nil {
		return nil, err
	}
	for _, s := range subjects {
		if s.W != nil {
			s.guess(seen.injectionsFor(s, &o), s.revision())
			s.preview(seen.injections[s.revision()], &o)
		}
		s.settle(&o)
	}
	var moving []*subject
	for _, s := range subjects {
		if s.item.How == Restart || s.item.How == Evict {
			moving = append(moving, s)
		}
	}
	if err := a.askEach(ctx, moving); err != nil {
		return nil, err
	}
	for _, s := range moving {
		// Its own answer may be another than that of those it seemed to be like.
		s.preview(seen.injections[s.revision()], &o)
		s.settle(&o)
	}
	plan := &Plan{Cluster: c.Identity(), Scope: scope(&o)}
	if err := seen.renew(ctx, a, &o, subjects, plan); err != nil {
		return nil, err
	}
	sources := sourceWarnings(subjects)
	freeing := map[string][]corev1.ResourceList{} // what pods of restarts of ours, under way, give back, by namespace
	for _, s := range subjects {
		if s.item.resume && o.Rollout.Wait && s.item.way() != Evict && s.W.Strategy.MaxSurge > 0 {
			pod := podNeeds(&s.W.Template.Spec)
			if s.asked != nil { // else the answer is of another that is treated alike
				pod = s.needs()
			}
			freeing[s.Ref.Namespace] = append(freeing[s.Ref.Namespace], pod)
		}
	}
	for _, s := range subjects {
		if s.item.How != Nothing {
			s.weigh(seen, &o, freeing[s.Ref.Namespace])
		}
		if s.item.Verdict != Outside {
			plan.Items = append(plan.Items, s.item)
		}
	}
	plan.order(o.Rollout.Canary)
	plan.ExpectedSeconds = plan.expected(o.Rollout.MaxParallel)
	plan.Refusals, plan.Unanswered = refusals(subjects), unanswered(seen.injectors, subjects)
	plan.Warnings = slices.Concat(plan.Warnings, warnings(seen, subjects), sources, graceWarnings(&o, subjects), mixedWarnings(subjects))
	return plan, nil
}

func scope(o *Options) string {
	text := "all namespaces"
	if o.Namespace != "" {
		text = "namespace " + o.Namespace
	}
	if o.Revision != "" {
		text += ", revision " + o.Revision
	}
	return text
}

// subjects gives what the verdicts are passed on: every chosen workload, and
// the owners of pods that have no template to read.
func (seen *observation) subjects(o *Options) ([]*subject, error) {
	var subjects []*subject
	known := map[workload.Ref]bool{}
	for _, w := range seen.inventory.Workloads {
		known[w.Ref] = true
		if w.Owner != nil && w.Owner.Controller != nil && w.Kind != workload.CronJob && isKnownOwner(w) {
			continue // its owner is moved, not itself
		}
		if o.wants(w.Ref, w.Labels) {
			subjects = append(subjects, seen.subject(w.Ref, w))
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(seen.inventory.Pods), workload.Ref.Compare) {
		if !known[ref] && o.wants(ref, seen.inventory.Pods[ref].Labels) {
			subjects = append(subjects, seen.subject(ref, nil))
		}
	}
	for _, n := range o.Only {
		if !slices.ContainsFunc(subjects, func(s *subject) bool { return n.names(s.Ref) }) {
			return nil, gate.BadInputf("%s is not in %s, or the selector leaves it out",
				workload.Ref{Group: n.Group, Kind: n.Kind, Name: n.Name}, scope(o))
		}
	}
	return subjects, nil
}

// isKnownOwner says whether the workload belongs to another one that is looked
// at itself.
func isKnownOwner(w *workload.Workload) bool {
	_, ok := workload.OwnerRef(w.Namespace, w.Owner).Resource()
	return ok
}

func (seen *observation) subject(ref workload.Ref, w *workload.Workload) *subject {
	s := &subject{facts: facts{
		Ref: ref, W: w, Pods: seen.inventory.Pods[ref],
		Namespace: seen.inventory.Namespaces[ref.Namespace], Same: seen.same,
		Unread: seen.unreadInjectors, Hidden: seen.hidden,
	}}
	if w != nil {
		s.Serving = mesh.Serving(seen.injectors, s.Namespace.Labels, w.Template.Labels, ref.Namespace)
		s.Release = istioRelease(w)
		if Manual(&w.Template) {
			s.own, s.unresolved = seen.revisionByHand(s)
		}
		keys := seen.selectorKeys
		if seen.allLabels {
			keys = slices.Collect(maps.Keys(w.Template.Labels))
		}
		s.key = questionKey(w, keys)
		if slices.ContainsFunc(s.Serving, func(i mesh.Injector) bool { return i.Conditional }) {
			s.key = ref.In() // conditions may ask for anything
		}
	}
	return s
}

// same says whether two image references are known to be one image: by the
// digest in the reference, or by that of a pod that runs it.
func (seen *observation) same(a, b string) bool {
	digest := func(image string) string {
		if d := workload.Digest(image); d != "" {
			return d
		}
		return seen.inventory.Digests[image]
	}
	d := digest(a)
	return d != "" && d == digest(b)
}

// worthAsking says whether the injector's answer is needed: not for workloads
// injected by hand that no webhook serves, nor where neither a proxy runs nor a
// webhook matches, nor for what Istio itself renders.
func (s *subject) worthAsking() bool {
	if s.W.Kind == workload.CronJob || s.W.Desired == 0 || s.Release != "" {
		return false
	}
	if Manual(&s.W.Template) {
		return s.serves()
	}
	if managedGateway(s.W) {
		return false
	}
	return s.Pods.HasProxy() || len(s.Serving) > 0
}

// istioRelease names the Helm release of a component of Istio whose template
// holds its own proxy, as the gateways, Policy and Telemetry of the charts up
// to 1.11 do; "" for everything else.
func istioRelease(w *workload.Workload) string {
	if _, explicit := templateProxy(&w.Template); !explicit || Manual(&w.Template) {
		return ""
	}
	if w.Labels["istio"] == "" && w.Template.Labels["istio"] == "" {
		return ""
	}
	if r := w.Annotations["meta.helm.sh/release-name"]; r != "" {
		return r
	}
	return w.Labels["release"]
}

// managedGateway says whether istiod itself renders and moves the Deployment,
// for a Gateway of the Kubernetes Gateway API (istio
// pilot/pkg/config/kube/gateway/deploymentcontroller.go).
func managedGateway(w *workload.Workload) bool {
	_, managed := w.Labels["gateway.istio.io/managed"]
	return managed
}

// injectedGateway says whether the workload is a gateway whose proxy the
// webhook fills in.
func injectedGateway(w *workload.Workload) bool {
	if strings.Contains(w.Template.Annotations[annotation.InjectTemplates.Name], "gateway") {
		return true
	}
	proxy, ok := workload.ProxyOf(w.Template.Annotations, &w.Template.Spec)
	return ok && proxy.Image == autoImage
}
