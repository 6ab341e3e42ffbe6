package rollout

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/dynamicinformer"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// watches feed all moves of one namespace, or of all: one watch for each kind
// that moves there, one for the pods and one for the warnings. Nothing polls.
// client-go opens a watch that was closed, or whose resourceVersion has expired
// (410), anew.
type watches struct {
	feed      *feed
	namespace string
	kinds     map[string]cache.SharedIndexInformer
	pods      cache.SharedIndexInformer
	all       []cache.SharedIndexInformer
	synced    []cache.InformerSynced
	running   sync.WaitGroup
	denied    chan error // that something may not be watched; holds one

	mu       sync.Mutex
	warnings map[workload.Ref]map[types.UID]warning // by pod, "" for the workload
	deaf     bool                                   // the warnings may not be watched
}

const byOwner = "owner"

// podIndexers find the pods of a workload and those of a namespace.
var podIndexers = cache.Indexers{byOwner: podOwners, cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}

// newWatches prepares the watches of a namespace, or of all where it is "".
func newWatches(c *cluster.Cluster, namespace string, kinds []string, f *feed) (*watches, error) {
	w := &watches{
		feed: f, namespace: namespace, kinds: map[string]cache.SharedIndexInformer{},
		denied: make(chan error, 1), warnings: map[workload.Ref]map[types.UID]warning{},
	}
	for _, kind := range kinds {
		informer, err := w.kindInformer(c, kind)
		if err != nil {
			return nil, err
		}
		w.kinds[kind] = informer
		if err := w.add(informer, w.workloadHandler(kind)); err != nil {
			return nil, err
		}
	}
	w.pods = coreinformers.NewPodInformer(c.Kube, namespace, 0, podIndexers)
	if err := w.add(w.pods, handler(func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok {
			for _, ref := range refsOf(pod) {
				f.changed(ref)
			}
		}
	})); err != nil {
		return nil, err
	}
	return w, w.addEvents(coreinformers.NewFilteredEventInformer(c.Kube, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = "type=" + corev1.EventTypeWarning
	}))
}

// typed are the watches of the kinds that client-go knows, one by one: its
// factory of all informers would be a tenth of the binary.
var typed = map[string]func(kubernetes.Interface, string, time.Duration, cache.Indexers, internalinterfaces.TweakListOptionsFunc) cache.SharedIndexInformer{
	workload.Deployment:            appsinformers.NewFilteredDeploymentInformer,
	workload.StatefulSet:           appsinformers.NewFilteredStatefulSetInformer,
	workload.DaemonSet:             appsinformers.NewFilteredDaemonSetInformer,
	workload.ReplicaSet:            appsinformers.NewFilteredReplicaSetInformer,
	workload.ReplicationController: coreinformers.NewFilteredReplicationControllerInformer,
}

// kindInformer gives the watch of a kind: a typed one, or a dynamic one for
// custom resources.
func (w *watches) kindInformer(c *cluster.Cluster, kind string) (cache.SharedIndexInformer, error) {
	resource, ok := workload.Resources[kind]
	if !ok {
		return nil, fmt.Errorf("a %s cannot be watched", kind)
	}
	if watch := typed[kind]; watch != nil {
		return watch(c.Kube, w.namespace, 0, cache.Indexers{}, nil), nil
	}
	return dynamicinformer.NewFilteredDynamicInformer(c.Dynamic, resource, w.namespace, 0, cache.Indexers{}, nil).Informer(), nil
}

// workloadHandler tells the feed of changed workloads, and of new ones.
func (w *watches) workloadHandler(kind string) cache.ResourceEventHandler {
	ref := func(obj any) (workload.Ref, metav1.Object) {
		o, err := meta.Accessor(last(obj))
		if err != nil {
			return workload.Ref{}, nil
		}
		return workload.Ref{Group: workload.Resources[kind].Group, Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}, o
	}
	changed := func(obj any) {
		if r, o := ref(obj); o != nil {
			w.feed.changed(r)
		}
	}
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, first bool) {
			r, o := ref(obj)
			if o == nil {
				return
			}
			if !first && metav1.GetControllerOf(o) == nil {
				w.feed.came(r)
			}
			w.feed.changed(r)
		},
		UpdateFunc: func(_, obj any) { changed(obj) },
		DeleteFunc: func(obj any) {
			if r, o := ref(obj); o != nil {
				w.feed.went(r)
			}
			changed(obj)
		},
	}
}

// handler calls one function with every object that came, changed or went.
func handler(handle func(any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, obj any) { handle(obj) },
		DeleteFunc: func(obj any) { handle(last(obj)) },
	}
}

// last gives the object, also where only its last state is known.
func last(obj any) any {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return unknown.Obj
	}
	return obj
}

func (w *watches) add(informer cache.SharedIndexInformer, handle cache.ResourceEventHandler) error {
	if err := informer.SetTransform(w.slim); err != nil {
		return fmt.Errorf("watch %s: %w", w.where(), err)
	}
	registration, err := informer.AddEventHandler(handle)
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.where(), err)
	}
	w.all, w.synced = append(w.all, informer), append(w.synced, registration.HasSynced)
	return informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsForbidden(err) {
			select {
			case w.denied <- err:
			default:
			}
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
}

// addEvents adds the watch of the warnings. Users who may not see them move
// workloads all the same. What there was before the run, what a new list only
// repeats, and what is removed because it is old, says nothing new.
func (w *watches) addEvents(informer cache.SharedIndexInformer) error {
	note := func(obj any) {
		if event, ok := obj.(*corev1.Event); ok {
			if ref, ok := w.note(event); ok {
				w.feed.changed(ref)
			}
		}
	}
	if err := informer.SetTransform(w.slim); err != nil {
		return fmt.Errorf("watch %s: %w", w.where(), err)
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, first bool) {
			if !first {
				note(obj)
			}
		},
		UpdateFunc: func(before, obj any) {
			if !sameVersion(before, obj) {
				note(obj)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.where(), err)
	}
	w.all = append(w.all, informer)
	w.synced = append(w.synced, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.deaf || registration.HasSynced()
	})
	return informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsForbidden(err) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.deaf = true
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
}

// sameVersion says whether two objects are one and the same state.
func sameVersion(a, b any) bool {
	x, errX := meta.Accessor(a)
	y, errY := meta.Accessor(b)
	return errX == nil && errY == nil && x.GetUID() == y.GetUID() && x.GetResourceVersion() == y.GetResourceVersion()
}

// start runs the watches until the context ends.
func (w *watches) start(ctx context.Context) {
	for _, informer := range w.all {
		w.running.Go(func() { informer.RunWithContext(ctx) })
	}
}

// stop waits until the watches have ended.
func (w *watches) stop() { w.running.Wait() }

// synchronise waits until each watch has its first list. The error says what
// the user may not watch.
func (w *watches) synchronise(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer func() { <-done }()
	over, release := context.WithCancel(ctx)
	go func() {
		defer close(done)
		select {
		case err := <-w.denied:
			cancel(err)
		case <-over.Done():
		}
	}()
	defer release()
	if !cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		return fmt.Errorf("watch %s: %w", w.where(), context.Cause(ctx))
	}
	return nil
}

func (w *watches) where() string {
	if w.namespace == "" {
		return "all namespaces"
	}
	return "namespace " + w.namespace
}
