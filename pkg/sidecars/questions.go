package sidecars

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"istio.io/api/annotation"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// parallelQuestions is how many dry runs are under way at a time: enough to
// keep the injector busy, few enough for the API server's fairness.
const parallelQuestions = 32

// subject is a workload on its way through a plan.
type subject struct {
	facts
	item Item
	// configured is the image that the injector gives to pods that fix none.
	configured string
	// own is the revision that a workload injected by hand belongs to, unresolved
	// why none could be told.
	own, unresolved string
	key             string
	asked           *corev1.Pod // the pod that was last asked for
	// renewed is the workload with the template that it is to get, where it is
	// written anew.
	renewed *workload.Workload
}

// asker asks the API server what it would make of pods.
type asker struct {
	c       *cluster.Cluster
	manager string
	// down holds the revisions whose injector did not answer: after the first
	// ten seconds nobody is asked again.
	down sync.Map
	// closed holds the namespaces in which no dry run can be made: no permission.
	closed sync.Map
}

// askShared asks one question for all subjects with the same key, and gives
// every subject its answer.
func (a *asker) askShared(ctx context.Context, subjects []*subject) error {
	groups := map[string][]*subject{}
	for _, s := range subjects {
		groups[s.key] = append(groups[s.key], s)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		members := groups[key]
		group.Go(func() error {
			a.askOneOf(ctx, members)
			return ctx.Err()
		})
	}
	return group.Wait()
}

// askOneOf asks for one after the other until the API server tells what these
// pods would run, and gives that answer to all. One that is refused, by Pod
// Security or a quota, says nothing of the others.
func (a *asker) askOneOf(ctx context.Context, members []*subject) {
	var given answer
	asked := 0
	for _, m := range members {
		given = a.ask(ctx, m)
		m.Answer = given
		asked++
		if given.Outcome != rejected && given.Outcome != noRoom || ctx.Err() != nil {
			break
		}
	}
	for _, m := range members[:asked] {
		m.Answer = m.Answer.completedBy(given)
	}
	for _, m := range members[asked:] {
		m.Answer = given
	}
}

// askEach asks for each subject that has not been asked for itself: whether
// its own new pod would be admitted.
func (a *asker) askEach(ctx context.Context, subjects []*subject) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for _, s := range subjects {
		if s.asked != nil {
			continue
		}
		group.Go(func() error {
			s.Answer = a.ask(ctx, s).completedBy(s.Answer)
			return ctx.Err()
		})
	}
	return group.Wait()
}

func (a *asker) ask(ctx context.Context, s *subject) answer {
	revision := ""
	if len(s.Serving) > 0 {
		revision = s.Serving[0].Revision
	}
	if given, ok := a.down.Load(revision); ok {
		if known, ok := given.(answer); ok {
			return known
		}
	}
	if given, ok := a.closed.Load(s.W.Namespace); ok {
		if known, ok := given.(answer); ok {
			return known
		}
	}
	node := ""
	if s.Pods != nil {
		node = s.Pods.Node
	}
	s.asked = s.W.PodOf(node)
	given := ask(ctx, a.c, s.asked, a.manager)
	switch given.Outcome {
	case injectorDown:
		a.down.Store(revision, given)
	case notAllowed:
		a.closed.Store(s.W.Namespace, given)
	}
	return given
}

// guess completes an answer that says nothing of the proxy from the
// configuration of the injector that serves the workload.
func (s *subject) guess(injections map[string]mesh.Injection, revision string) {
	configured := Manual(&s.W.Template) || managedGateway(s.W) || s.Release != "" // never asked for
	if s.Answer.Told || !configured && !s.serves() && !s.maybeServed() {
		return
	}
	image := injections[revision].ImageFor(s.W.Template.Annotations)
	if image == "" || injections[revision].Tag == "" {
		return
	}
	s.Answer.HasProxy, s.Answer.Guessed = true, true
	s.Answer.Proxy = workload.Proxy{Image: image}
	s.Answer.AnyVariant = injections[revision].Variant == "" && s.W.Template.Annotations[annotation.SidecarProxyImageType.Name] == ""
}

// preview has the answer and what is configured say what they will once the
// injector gives another tag.
func (s *subject) preview(in mesh.Injection, o *Options) {
	s.configured = s.previewed(in.ImageFor(nil), in, o)
	if s.Answer.HasProxy {
		s.Answer.Proxy.Image = s.previewed(s.Answer.Proxy.Image, in, o)
	}
}

// previewed puts the tag that the injector is about to give in place of the one
// that it gives now, and where the whole image is known its repository too. Images
// with another tag are the workload's own, and stay.
func (s *subject) previewed(image string, in mesh.Injection, o *Options) string {
	now, then := in.Tag, o.preview(s.revision())
	if then == "" || now == "" || now == then {
		return image
	}
	for _, suffix := range []string{"", "-distroless", "-debug"} {
		repository, ok := strings.CutSuffix(image, ":"+mesh.BaseTag(now)+suffix)
		if !ok {
			continue
		}
		if plain, _, _ := mesh.SplitImage(in.ImageFor(nil)); o.PreviewImage != "" && repository == plain {
			repository, _, _ = mesh.SplitImage(o.PreviewImage)
		}
		return repository + ":" + mesh.BaseTag(then) + suffix
	}
	return image
}
