package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// How long things are waited for that may pass by themselves: a container that
// crashes may be waiting for another one; pods that go away may hang on a lost
// node, and are no reason to fail.
const (
	crashPatience  = 30 * time.Second
	lingerPatience = 2 * time.Minute
)

// watcher follows the workloads of a release to their end.
type watcher struct {
	c       *cluster.Cluster
	emit    progress.Emitter
	timeout time.Duration
	now     func() time.Time
	// least is how many replicas a workload's autoscaler is to bring it to,
	// where that is waited for.
	least map[workload.Ref]int32
	// unmet is told what is not waited for any longer; nil where nobody wants to
	// know.
	unmet func(text string)
}

// await returns when all workloads are ready and their old pods gone. The error
// says which is not, and why: as soon as a pod's trouble is known not to pass,
// a *gate.Timeout after the timeout without progress, and ctx's own end.
func (w watcher) await(ctx context.Context, refs []workload.Ref, old map[types.UID]bool) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, ref := range refs {
		group.Go(func() error { return w.awaitOne(ctx, ref, old) })
	}
	return group.Wait()
}

func (w watcher) awaitOne(ctx context.Context, ref workload.Ref, old map[types.UID]bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	current, err := w.get(ctx, ref)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s is not there", ref.In())
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", ref.In(), err)
	}
	wake := make(chan struct{}, 1)
	objects, pods, err := w.watch(ctx, ref, current.Selector.String(), wake)
	if err != nil {
		return err
	}
	follow := follower{watcher: w, ref: ref, since: w.now()}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if seen := newest(objects); seen != nil {
			judged := judge(seen, podsIn(pods), old)
			judged.atLeast(w.least[ref])
			if done, err := follow.step(judged); done || err != nil {
				return err
			}
		} else {
			return fmt.Errorf("%s was deleted meanwhile", ref.In())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-tick.C:
		}
	}
}

// follower remembers since when a workload is as it is.
type follower struct {
	watcher
	ref     workload.Ref
	since   time.Time // of the last progress
	trouble time.Time // of the first sight of trouble
	last    readiness
}

// step takes one judgement in, tells of what is new, and says whether it is
// over.
func (f *follower) step(r readiness) (bool, error) {
	now := f.now()
	progressed := r.Updated != f.last.Updated || r.Ready != f.last.Ready || r.Desired != f.last.Desired || r.Lingering != f.last.Lingering
	if progressed {
		f.since = now
	}
	if r.Trouble == "" {
		f.trouble = time.Time{}
	} else if f.trouble.IsZero() {
		f.trouble = now
	}
	if r.Message != f.last.Message || r.Trouble != f.last.Trouble {
		f.tell(r)
	}
	f.last = r
	switch {
	case r.Done:
		return true, nil
	case r.Lingering && now.Sub(f.since) > min(lingerPatience, f.timeout):
		if f.unmet != nil {
			f.unmet(fmt.Sprintf("%s: gave up after %s: %s", f.ref.In(), min(lingerPatience, f.timeout), r.Message))
		}
		return true, nil
	case r.Trouble != "" && (r.Fatal || now.Sub(f.trouble) > crashPatience):
		return false, errors.New(f.ref.In() + ": " + r.Trouble)
	case now.Sub(f.since) > f.timeout:
		why := r.Message
		if r.Trouble != "" {
			why += "; " + r.Trouble
		}
		return false, &gate.Timeout{Reason: fmt.Sprintf("%s made no progress for %s: %s", f.ref.In(), f.timeout, why)}
	}
	return false, nil
}

func (f *follower) tell(r readiness) {
	event := progress.Event{
		Kind: progress.Updated, Object: progress.Object{Kind: f.ref.Kind, Namespace: f.ref.Namespace, Name: f.ref.Name},
		Message: r.Message, Ready: int(r.Ready), Updated: int(r.Updated), Desired: int(r.Desired),
	}
	if r.Trouble != "" {
		event.Kind, event.Message = progress.Waiting, r.Trouble
	}
	f.emit.Emit(event)
}

func (w watcher) get(ctx context.Context, ref workload.Ref) (*workload.Workload, error) {
	if ref.Kind == workload.DaemonSet {
		d, err := w.c.Kube.AppsV1().DaemonSets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return workload.FromDaemonSet(d), nil
	}
	d, err := w.c.Kube.AppsV1().Deployments(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return workload.FromDeployment(d), nil
}

// watch feeds two stores, of the workload and of its pods, and wakes at every
// change.
func (w watcher) watch(ctx context.Context, ref workload.Ref, selector string, wake chan<- struct{}) (objects, pods cache.Store, err error) {
	its := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", ref.Name).String()
	}
	object := appsinformers.NewFilteredDeploymentInformer(w.c.Kube, ref.Namespace, 0, cache.Indexers{}, its)
	if ref.Kind == workload.DaemonSet {
		object = appsinformers.NewFilteredDaemonSetInformer(w.c.Kube, ref.Namespace, 0, cache.Indexers{}, its)
	}
	podInformer := coreinformers.NewFilteredPodInformer(w.c.Kube, ref.Namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) { o.LabelSelector = selector })
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
	}
	for _, informer := range []cache.SharedIndexInformer{object, podInformer} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, nil, fmt.Errorf("watch %s: %w", ref.In(), err)
		}
		go informer.RunWithContext(ctx)
	}
	if !cache.WaitForCacheSync(ctx.Done(), object.HasSynced, podInformer.HasSynced) {
		return nil, nil, ctx.Err()
	}
	return object.GetStore(), podInformer.GetStore(), nil
}

func newest(store cache.Store) *workload.Workload {
	for _, item := range store.List() {
		switch o := item.(type) {
		case *appsv1.Deployment:
			return workload.FromDeployment(o)
		case *appsv1.DaemonSet:
			return workload.FromDaemonSet(o)
		}
	}
	return nil
}

func podsIn(store cache.Store) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, item := range store.List() {
		if pod, ok := item.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods
}

// podsNow gives the pods of the workloads as they are before an upgrade.
// A workload that is not there yet has none.
func (w watcher) podsNow(ctx context.Context, refs []workload.Ref) (map[types.UID]bool, error) {
	old := map[types.UID]bool{}
	for _, ref := range refs {
		current, err := w.get(ctx, ref)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", ref.In(), err)
		}
		pods, err := w.c.Kube.CoreV1().Pods(ref.Namespace).List(ctx, metav1.ListOptions{LabelSelector: current.Selector.String()})
		if err != nil {
			return nil, fmt.Errorf("list the pods of %s: %w", ref.In(), err)
		}
		for i := range pods.Items {
			old[pods.Items[i].UID] = true
		}
	}
	return old, nil
}
