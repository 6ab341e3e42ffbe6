package sidecars

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/diff"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// examiner asks the API server, by dry runs, what applying objects would do.
type examiner struct {
	how        applier
	o          *Options
	makes      made
	asker      *asker
	injectors  []mesh.Injector
	namespaces map[string]workload.Namespace

	mu   sync.Mutex
	down map[string]string // what was said of injectors that do not answer, by revision
}

// examine asks what applying one object would do. place is its own in the
// files.
func (e *examiner) examine(ctx context.Context, place int, f *FileObject) error {
	object := f.manifest.Object
	f.Injected, f.Reason = f.manifest.Injected, f.manifest.Plain
	if template, ok := templateOf(object); ok {
		if proxy, has := workload.ProxyOf(template.Annotations, &template.Spec); has {
			to := formOf(proxy)
			f.To = &to
		}
	}
	if f.definition != "" {
		f.Action, f.Reason = Created, "its kind comes with the files"
		return nil
	}
	before, after, err := e.how.apply(ctx, f.client, object, true)
	namespace, comes := e.makes.namespaces[f.Namespace]
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && apierrors.IsNotFound(err) && comes && namespace > place:
		return gate.BadInputf("%s: %s comes before its namespace; move that one up", f.Source, f.In())
	case err != nil && apierrors.IsNotFound(err) && comes:
		f.Action = Created
		f.AdmissionUnknown = workloadOf(object) != nil
		return nil
	case err != nil:
		return fmt.Errorf("%s: %s would be refused: %w", f.Source, f.In(), err)
	}
	f.before = before
	switch {
	case before == nil:
		f.Action = Created
	case same(before, after), e.how.serverSide && sameServerSide(before, after):
		f.Action = Unchanged
		return nil
	default:
		f.Action = Changed
		f.live = workloadOf(before)
		if template, ok := templateOf(before); ok {
			if proxy, has := workload.ProxyOf(template.Annotations, &template.Spec); has {
				from := formOf(proxy)
				f.From = &from
			}
		}
	}
	if e.o.ByHand.Diff {
		if f.Diff, err = diff.Objects(diffName(object), withoutLastApplied(before), withoutLastApplied(after)); err != nil {
			return err
		}
	}
	return e.weigh(ctx, f, after)
}

// weigh asks whether the new pods of a workload would be admitted, and predicts
// what rolling it does to its callers.
func (e *examiner) weigh(ctx context.Context, f *FileObject, after *unstructured.Unstructured) error {
	w := workloadOf(after)
	switch {
	case w == nil, w.Desired == 0 && f.live == nil && w.Kind != workload.DaemonSet: // of which no file says how many pods
		return nil
	case w.Desired == 0 && f.live != nil:
		if f.live.Desired > 0 {
			f.weighed(e.o, Outage, "the file scales it to zero")
		}
		return nil
	case f.live != nil && equality.Semantic.DeepEqual(f.live.Template, w.Template) &&
		(w.Kind == workload.Rollout || !e.how.drops(f.before)): // a Rollout has its stamp elsewhere
		f.steady = true
		return nil
	}
	given := e.ask(ctx, w)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	account := f.Namespace + "/" + w.Template.Spec.ServiceAccountName
	if _, comes := e.makes.accounts[account]; comes && strings.Contains(given.Message, "error looking up service account "+account) {
		given = answer{} // it comes with the files (apiserver plugin/pkg/admission/serviceaccount)
	}
	switch given.Outcome {
	case answered, noRoom, rejected:
	default:
		f.AdmissionUnknown = true
	}
	if given.Outcome == rejected {
		f.Impact, f.Held = Refused, "the new pod would be refused: "+given.Message
		return nil
	}
	if f.live == nil || f.live.Desired == 0 {
		if given.Outcome == noRoom {
			f.Impact, f.Reason = AtRisk, "the quota has no room for its pods"+messageOf(given)
		}
		return nil
	}
	how, held := wayOf(w, e.o)
	if how == Nothing {
		f.Held = held
		return nil
	}
	f.evict = how == Evict
	if f.live.Paused {
		f.Held = "it is paused: resume it, and run this again"
		return nil
	}
	// The file's own strategy rolls them, with the file's own number of pods.
	impact, why := impactOf(w, how, given, surroundings{Room: noLimit, Disruptions: noLimit})
	f.weighed(e.o, impact, why)
	return nil
}

// weighed notes the impact that applying the object has, and holds back what was
// not allowed.
func (f *FileObject) weighed(o *Options, impact Impact, why string) {
	f.Impact = impact
	switch {
	case impact == Refused:
		f.Held = why
	case impact == Outage && !o.AllowDowntime:
		f.Held = why + "; --allow-downtime applies it all the same"
	case why != "":
		f.Reason = strings.TrimPrefix(f.Reason+"; "+why, "; ")
	}
}

func (e *examiner) ask(ctx context.Context, w *workload.Workload) answer {
	s := &subject{facts: facts{Ref: w.Ref, W: w}}
	s.Serving = mesh.Serving(e.injectors, e.namespaces[w.Namespace].Labels, w.Template.Labels, w.Namespace)
	given := e.asker.ask(ctx, s)
	if given.Outcome == injectorDown {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.down == nil {
			e.down = map[string]string{}
		}
		e.down[w.Namespace] = given.Message
	}
	return given
}

// refusals names the namespaces in which no pod can be created.
func (e *examiner) refusals() []gate.Refusal {
	var out []gate.Refusal
	for _, namespace := range slices.Sorted(maps.Keys(e.down)) {
		out = append(out, gate.Refusal{
			Object: "the injector of namespace " + namespace,
			Reason: "it does not answer, so new pods could not be created or would come up without a sidecar: " + e.down[namespace],
			Cure:   "bring istiod back, then run this again",
		})
	}
	return out
}

// checkRights refuses a plan that the user may not see through.
func (p *FilesPlan) checkRights(ctx context.Context, c *cluster.Cluster) error {
	var items []Item
	for i := range p.Objects {
		f := &p.Objects[i]
		if f.Action != Unchanged && f.Held == "" && (f.rolls() || f.Action == Created && workloadOf(f.manifest.Object) != nil) {
			items = append(items, Item{Ref: f.Ref, How: Reinject, evict: f.evict})
		}
	}
	refusals, err := lackingRights(ctx, c, items)
	p.Refusals = append(p.Refusals, refusals...)
	return err
}

// warnings names what of the file seems older than the live object, and who
// else writes it.
func (f *FileObject) warnings() []string {
	var out []string
	if f.live == nil {
		return out
	}
	if from, ok := sourceOf(f.live); ok {
		out = append(out, f.In()+" comes from "+from.name+"; "+from.cure)
	}
	var differs []string
	if template, ok := templateOf(f.manifest.Given); ok {
		differs = otherImages(&template.Spec, &f.live.Template.Spec)
	}
	if n, ok, _ := unstructured.NestedInt64(f.manifest.Given.Object, "spec", "replicas"); ok && n != int64(f.live.Desired) && f.live.Kind != workload.DaemonSet {
		differs = append(differs, fmt.Sprintf("it has %d replicas, the file says %d", f.live.Desired, n))
	}
	if len(differs) > 0 {
		out = append(out, f.In()+" is not as in its file, which may be older: "+strings.Join(differs, "; "))
	}
	return out
}

// otherImages says in which containers of the application a file names another
// image than the one that runs.
func otherImages(file, live *corev1.PodSpec) []string {
	var differs []string
	for i := range file.Containers {
		given := &file.Containers[i]
		for j := range live.Containers {
			runs := &live.Containers[j]
			if runs.Name == given.Name && runs.Name != workload.ProxyContainer && runs.Image != given.Image {
				differs = append(differs, fmt.Sprintf("container %s runs %s, the file says %s", runs.Name, runs.Image, given.Image))
			}
		}
	}
	return differs
}
