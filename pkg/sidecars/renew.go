package sidecars

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// renew makes the new objects of all workloads injected by hand that lag: each
// is read, and those that share their settings go through one istioctl. What
// goes wrong holds the workloads that it concerns; the others go on. It writes
// nothing.
func (seen *observation) renew(ctx context.Context, a *asker, o *Options, subjects []*subject, plan *Plan) error {
	var lagging []*subject
	for _, s := range subjects {
		if s.item.How == Reinject {
			lagging = append(lagging, s)
		}
	}
	if len(lagging) == 0 {
		return nil
	}
	var err error
	if plan.BackupDir, err = backupFolder(o.ByHand.BackupDir, plan.Cluster.Context, o.now()); err != nil {
		return err
	}
	if err := readObjects(ctx, a, lagging); err != nil {
		return err
	}
	lagging = reinjecting(lagging)
	if o.ByHand.ToWebhook {
		seen.toWebhook(lagging)
	} else if err := seen.reinjectAll(ctx, a, o, subjects, lagging, plan); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for _, s := range lagging {
		if s.item.remake != nil && s.item.How != Nothing && !s.item.unwatched {
			group.Go(func() error { return a.askRemade(ctx, s) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	seen.offerWebhook(o, lagging)
	return nil
}

// reinjecting gives the subjects that are still to be injected again.
func reinjecting(subjects []*subject) []*subject {
	return slices.DeleteFunc(slices.Clone(subjects), func(s *subject) bool { return s.item.How != Reinject })
}

// hold leaves the workloads as they are, with the reason.
func hold(subjects []*subject, reason string) {
	for _, s := range subjects {
		s.item.How, s.item.Held = Nothing, oneLine(reason)
		s.item.evict, s.item.unwatched, s.item.remake = false, false, nil
	}
}

// readObjects reads the live object of each subject. What cannot be read holds
// its own workload.
func readObjects(ctx context.Context, a *asker, subjects []*subject) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for _, s := range subjects {
		group.Go(func() error {
			resource, ok := resourceOf(s.Ref.Kind)
			if !ok {
				hold([]*subject{s}, "a "+s.Ref.Kind+" cannot be injected again")
				return nil
			}
			object, err := a.c.Dynamic.Resource(resource).Namespace(s.Ref.Namespace).Get(ctx, s.Ref.Name, metav1.GetOptions{})
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case apierrors.IsNotFound(err):
				hold([]*subject{s}, "it was deleted meanwhile")
			case err != nil:
				hold([]*subject{s}, "its object cannot be read: "+err.Error())
			default:
				s.item.remake = &remake{before: object}
			}
			return nil
		})
	}
	return group.Wait()
}

// likeness names the settings of one istioctl process.
type likeness struct {
	revision        string
	native, webhook bool
}

// reinjectAll runs istioctl over all that lag.
func (seen *observation) reinjectAll(ctx context.Context, a *asker, o *Options, subjects, lagging []*subject, plan *Plan) error {
	if len(lagging) == 0 {
		return nil
	}
	istioctl, version, err := findIstioctl(ctx, o.ByHand)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		hold(lagging, err.Error())
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("workloads injected by hand stay as they are: %s", oneLine(err.Error())))
		return nil
	}
	plan.Istioctl = &Istioctl{Path: istioctl.Path, Version: version}
	forms := &forms{a: a, subjects: subjects, injectors: seen, known: map[string]bool{}, native: map[string]bool{}}
	groups := map[likeness][]*subject{}
	for _, s := range lagging {
		key := likeness{revision: s.revision()}
		key.native = forms.of(ctx, s)
		key.webhook = len(o.ByHand.Given.Missing()) == 3 && seen.configured(s, o)
		groups[key] = append(groups[key], s)
	}
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b likeness) int {
		return cmp.Or(cmp.Compare(a.revision, b.revision), cmp.Compare(btoi(a.native), btoi(b.native)), cmp.Compare(btoi(a.webhook), btoi(b.webhook)))
	})
	for _, key := range keys {
		members := groups[key]
		settings, err := seen.settings(ctx, a, o, key)
		if err == nil && !o.Force {
			err = sameMinor(version, settings, seen.injections[key.revision].Tag, o.PreviewTag)
		}
		if err == nil {
			err = reinjectGroup(ctx, istioctl, settings, members)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			hold(members, err.Error())
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("%d workloads injected by hand stay as they are: %s", len(members), oneLine(err.Error())))
		}
	}
	return nil
}

// findIstioctl finds the binary and asks for its version.
func findIstioctl(ctx context.Context, r *Reinjection) (*inject.Istioctl, string, error) {
	istioctl, err := inject.FindIstioctl(r.Istioctl)
	if err != nil {
		return nil, "", err
	}
	istioctl.Timeout, istioctl.KubeFlags = r.Timeout, r.KubeFlags
	version, err := istioctl.Version(ctx)
	return istioctl, version, err
}

// sameMinor refuses an istioctl of another minor version than what it injects:
// its templates' functions and the proxy's settings differ between minors.
func sameMinor(version string, s inject.Settings, tag, preview string) error {
	if given, err := parseInjection(map[string]string{"values": s.Values, "config": s.InjectConfig}); s.Values != "" && err == nil && given.Tag != "" {
		tag = given.Tag
	}
	if preview != "" {
		tag = preview
	}
	if same, known := inject.SameMinor(version, tag); known && !same {
		return fmt.Errorf("istioctl is %s and the injector gives %s: give an istioctl of the same minor version with --istioctl, or --force to use this one", version, tag)
	}
	return nil
}

// settings gives what istioctl injects by: the user's files, and for what is
// missing the control plane's ConfigMaps.
func (seen *observation) settings(ctx context.Context, a *asker, o *Options, key likeness) (inject.Settings, error) {
	s := o.ByHand.Given
	s.Revision, s.Native = key.revision, key.native
	if key.webhook {
		s.Webhook = true
		return s, nil
	}
	if len(s.Missing()) > 0 {
		read, err := inject.SettingsFromCluster(ctx, a.c.Kube, o.IstioNamespace, key.revision)
		if err != nil {
			return s, fmt.Errorf("%w; or give --inject-config, --mesh-config and --injection-values", err)
		}
		if o.PreviewTag != "" && s.Values == "" {
			read.Values = withTag(read.Values, o.PreviewTag)
		}
		s = s.Or(read)
	}
	return s, nil
}

// withTag puts another tag into the injector's values; values that are no JSON
// object come back as they are.
func withTag(values, tag string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(values), &fields) != nil {
		return values
	}
	global, ok := fields["global"].(map[string]any)
	if !ok {
		return values
	}
	global["tag"] = tag
	raw, err := json.Marshal(fields)
	if err != nil {
		return values
	}
	return string(raw)
}

// reinjectGroup runs one istioctl over workloads with the same settings. The
// error is about all of them; what concerns one holds that one.
func reinjectGroup(ctx context.Context, istioctl *inject.Istioctl, settings inject.Settings, members []*subject) error {
	objects := make([]*unstructured.Unstructured, len(members))
	for i, s := range members {
		objects[i] = s.item.remake.before
	}
	results, err := inject.Reinject(ctx, istioctl, settings, objects)
	if err != nil {
		return err
	}
	for i, s := range members {
		if results[i].Err != nil {
			hold([]*subject{s}, results[i].Err.Error())
			continue
		}
		for _, n := range results[i].Notes {
			s.item.Notes = append(s.item.Notes, n.String())
		}
		s.item.remake.again = func(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
			return reinjectOne(ctx, istioctl, settings, object)
		}
		s.remade(results[i].After)
	}
	return nil
}

// reinjectOne injects one object anew, which has moved since the plan was made.
func reinjectOne(ctx context.Context, istioctl *inject.Istioctl, settings inject.Settings, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	results, err := inject.Reinject(ctx, istioctl, settings, []*unstructured.Unstructured{object})
	switch {
	case err != nil:
		return nil, err
	case results[0].Err != nil:
		return nil, results[0].Err
	case len(results[0].Removed) == 0:
		return nil, fmt.Errorf("%s %s in %s has no sidecar in its template any more: someone took it out meanwhile", object.GetKind(), object.GetName(), object.GetNamespace())
	}
	return results[0].After, nil
}

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
	item.remake.after = after
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
		given.HasProxy, given.Proxy, given.Guessed = promised.HasProxy, promised.Proxy, promised.Guessed
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

// configured says whether a ProxyConfig applies to the workload's pods, which
// only the webhook knows.
func (seen *observation) configured(s *subject, o *Options) bool {
	return slices.ContainsFunc(seen.proxyConfigs, func(p proxyConfig) bool {
		return p.configures(s.Ref.Namespace, o.IstioNamespace, s.W.Template.Labels)
	})
}

// injectionsFor gives what the injectors' configurations say of a workload's
// proxy: the user's own values for one injected by hand, where they are given.
func (seen *observation) injectionsFor(s *subject, o *Options) map[string]injection {
	if o.ByHand == nil || o.ByHand.Given.Values == "" || !Manual(&s.W.Template) {
		return seen.injections
	}
	given, err := parseInjection(map[string]string{"values": o.ByHand.Given.Values, "config": o.ByHand.Given.InjectConfig})
	if err != nil {
		return seen.injections
	}
	return map[string]injection{s.revision(): given}
}

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
	given := ask(ctx, f.a.c.Kube, pod, f.a.manager)
	return given.Proxy.Native, given.Outcome == answered && given.HasProxy
}
