package rollout

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// watches feed all moves of one namespace: one watch for each kind that moves
// there, one for the pods and one for the warnings. Nothing polls.
type watches struct {
	namespace string
	kinds     map[string]cache.SharedIndexInformer
	pods      cache.SharedIndexInformer
	synced    []cache.InformerSynced
	start     func(ctx context.Context)
	stop      func()

	mu       sync.Mutex
	warnings map[workload.Ref]warning
}

// warning is the newest event that tells of pods that cannot be made.
type warning struct {
	Text  string
	Since time.Time
}

const byOwner = "owner"

// newWatches prepares the watches; changed is called with every workload that
// something has happened to.
func newWatches(c *cluster.Cluster, namespace string, kinds []string, changed func(workload.Ref)) (*watches, error) {
	objects := informers.NewSharedInformerFactoryWithOptions(c.Kube, 0,
		informers.WithNamespace(namespace), informers.WithTransform(slim))
	events := informers.NewSharedInformerFactoryWithOptions(c.Kube, 0,
		informers.WithNamespace(namespace), informers.WithTransform(slim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "type=" + corev1.EventTypeWarning }))
	w := &watches{namespace: namespace, kinds: map[string]cache.SharedIndexInformer{}, warnings: map[workload.Ref]warning{}}
	for _, kind := range kinds {
		informer, err := kindInformer(objects, kind)
		if err != nil {
			return nil, err
		}
		w.kinds[kind] = informer
		if err := w.listen(informer, func(obj any) {
			if x := fromObject(obj); x != nil {
				changed(x.Ref)
			}
		}); err != nil {
			return nil, err
		}
	}
	w.pods = objects.Core().V1().Pods().Informer()
	if err := w.pods.AddIndexers(cache.Indexers{byOwner: podOwners}); err != nil {
		return nil, fmt.Errorf("index the pods of namespace %s: %w", namespace, err)
	}
	if err := w.listen(w.pods, func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok {
			for _, ref := range refsOf(pod) {
				changed(ref)
			}
		}
	}); err != nil {
		return nil, err
	}
	if err := w.listen(events.Core().V1().Events().Informer(), func(obj any) {
		if event, ok := obj.(*corev1.Event); ok {
			if ref, ok := w.note(event); ok {
				changed(ref)
			}
		}
	}); err != nil {
		return nil, err
	}
	w.start = func(ctx context.Context) { objects.StartWithContext(ctx); events.StartWithContext(ctx) }
	w.stop = func() { objects.Shutdown(); events.Shutdown() }
	return w, nil
}

func kindInformer(f informers.SharedInformerFactory, kind string) (cache.SharedIndexInformer, error) {
	switch kind {
	case workload.Deployment:
		return f.Apps().V1().Deployments().Informer(), nil
	case workload.StatefulSet:
		return f.Apps().V1().StatefulSets().Informer(), nil
	case workload.DaemonSet:
		return f.Apps().V1().DaemonSets().Informer(), nil
	case workload.ReplicaSet:
		return f.Apps().V1().ReplicaSets().Informer(), nil
	case workload.ReplicationController:
		return f.Core().V1().ReplicationControllers().Informer(), nil
	}
	return nil, fmt.Errorf("a %s cannot be watched", kind)
}

func (w *watches) listen(informer cache.SharedIndexInformer, handle func(any)) error {
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, obj any) { handle(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			handle(obj)
		},
	})
	if err != nil {
		return fmt.Errorf("watch namespace %s: %w", w.namespace, err)
	}
	w.synced = append(w.synced, registration.HasSynced)
	return nil
}

// synchronise waits until each watch has its first list.
func (w *watches) synchronise(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		return fmt.Errorf("watch namespace %s: %w", w.namespace, context.Cause(ctx))
	}
	return nil
}

// see gives what the watches show of a workload.
func (w *watches) see(ref workload.Ref) sight {
	var v sight
	if informer := w.kinds[ref.Kind]; informer != nil {
		if obj, ok, err := informer.GetStore().GetByKey(ref.Namespace + "/" + ref.Name); ok && err == nil {
			v.W = fromObject(obj)
		}
	}
	if pods, err := w.pods.GetIndexer().ByIndex(byOwner, ref.In()); err == nil {
		for _, obj := range pods {
			if pod, ok := obj.(*corev1.Pod); ok && !workload.Finished(pod) {
				v.Pods = append(v.Pods, pod)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	warned, ok := w.warnings[ref]
	if !ok && v.W != nil && v.W.Status.FailureMessage != "" {
		warned = warning{Text: v.W.Status.FailureReason + ": " + v.W.Status.FailureMessage, Since: time.Now()}
		w.warnings[ref] = warned
	}
	v.Blocked, v.Since = warned.Text, warned.Since
	return v
}

// forget drops what was warned of before a workload starts.
func (w *watches) forget(ref workload.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.warnings, ref)
}

func podOwners(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	var keys []string
	for _, ref := range refsOf(pod) {
		keys = append(keys, ref.In())
	}
	return keys, nil
}

// refsOf gives the workloads that a pod may belong to: its owner, and where
// that is a ReplicaSet the Deployment that its name tells of.
func refsOf(pod *corev1.Pod) []workload.Ref {
	likely, certain := workload.OwnerOf(pod)
	if certain {
		return []workload.Ref{likely}
	}
	direct := workload.Ref{Group: "apps", Kind: workload.ReplicaSet, Namespace: pod.Namespace, Name: metav1.GetControllerOf(pod).Name}
	return []workload.Ref{likely, direct}
}

func fromObject(obj any) *workload.Workload {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return workload.FromDeployment(o)
	case *appsv1.StatefulSet:
		return workload.FromStatefulSet(o)
	case *appsv1.DaemonSet:
		return workload.FromDaemonSet(o)
	case *appsv1.ReplicaSet:
		return workload.FromReplicaSet(o)
	case *corev1.ReplicationController:
		return workload.FromReplicationController(o)
	}
	return nil
}
