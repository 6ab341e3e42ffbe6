package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// pageSize is the number of objects asked for at a time.
const pageSize = 500

// Namespace is what is read of a namespace.
type Namespace struct {
	Labels, Annotations map[string]string
	Terminating         bool
}

// Inventory is what runs in one namespace or in all: the workloads, and a sum
// of the pods of each. It is one paged read of the pods and one of each kind of
// workload; its size follows the number of workloads, not that of pods.
type Inventory struct {
	Namespaces map[string]Namespace
	// Workloads are ordered by namespace, kind and name. Owners of pods that
	// have no template to read (Jobs, bare pods, custom resources) are in Pods
	// alone.
	Workloads []*Workload
	Pods      map[Ref]*Pods
	// Digests gives the sha256 that runs under an image reference.
	Digests map[string]string
	// Unread says what the user's rights did not allow to read.
	Unread []string
}

// Read takes the inventory of a namespace, or of all where namespace is "".
// Kinds that the user may not list are named in Unread; that pods cannot be
// listed is an error, and so is a namespace that is not there.
func Read(ctx context.Context, c *cluster.Cluster, namespace string) (*Inventory, error) {
	r := &reader{Inventory: Inventory{
		Namespaces: map[string]Namespace{}, Pods: map[Ref]*Pods{}, Digests: map[string]string{},
	}, c: c, namespace: namespace, byOwner: map[owner]*Pods{}, byRef: map[Ref]*Workload{}}
	for _, step := range []func(context.Context) error{
		// Pods come after their workloads: where the status of one says that all
		// pods were new, none that is read afterwards is old.
		r.readNamespaces, r.readWorkloads, r.readPods, r.readCustom, r.resolve,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.Workloads, func(a, b *Workload) int { return a.Compare(b.Ref) })
	return &r.Inventory, nil
}

// owner is the direct owner of pods together with the workload that stands
// behind it by its name.
type owner struct{ direct, likely Ref }

type reader struct {
	Inventory
	c         *cluster.Cluster
	namespace string
	byOwner   map[owner]*Pods
	byRef     map[Ref]*Workload
}

func (r *reader) readNamespaces(ctx context.Context) error {
	api := r.c.Kube.CoreV1().Namespaces()
	if r.namespace != "" {
		var ns *corev1.Namespace
		err := r.c.Persist(ctx, func(ctx context.Context) (err error) {
			ns, err = api.Get(ctx, r.namespace, metav1.GetOptions{})
			return err
		})
		switch {
		case apierrors.IsForbidden(err):
			r.Namespaces[r.namespace] = Namespace{}
			r.Unread = append(r.Unread, "namespace "+r.namespace+": its labels")
			return nil
		case err != nil:
			return fmt.Errorf("read namespace %s: %w", r.namespace, err)
		}
		r.addNamespace(ns)
		return nil
	}
	return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return api.List(ctx, o)
	}, r.addNamespace, "namespaces", "")
}

func (r *reader) addNamespace(ns *corev1.Namespace) {
	r.Namespaces[ns.Name] = Namespace{
		Labels: ns.Labels, Annotations: ns.Annotations, Terminating: ns.DeletionTimestamp != nil,
	}
}

func (r *reader) readPods(ctx context.Context) error {
	return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return r.c.Kube.CoreV1().Pods(r.namespace).List(ctx, o)
	}, r.addPod, "pods", r.namespace)
}

func (r *reader) addPod(pod *corev1.Pod) {
	if Finished(pod) || pod.DeletionTimestamp != nil {
		return
	}
	likely, certain := OwnerOf(pod)
	key := owner{direct: likely, likely: likely}
	if !certain {
		key.direct = OwnerRef(pod.Namespace, metav1.GetControllerOf(pod))
	}
	sum := r.byOwner[key]
	if sum == nil {
		sum = &Pods{Proxies: map[Proxy]*Sample{}}
		r.byOwner[key] = sum
	}
	sum.add(pod)
	if certain && sum.Labels == nil {
		if _, known := likely.Resource(); !known {
			sum.Labels, sum.Annotations = pod.Labels, pod.Annotations
		}
	}
}

func (r *reader) readWorkloads(ctx context.Context) error {
	apps, batch := r.c.Kube.AppsV1(), r.c.Kube.BatchV1()
	lists := []struct {
		resource string
		read     func() error
	}{
		{"deployments", func() error {
			return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return apps.Deployments(r.namespace).List(ctx, o)
			}, func(d *appsv1.Deployment) { r.addWorkload(FromDeployment(d)) }, "deployments", r.namespace)
		}},
		{"statefulsets", func() error {
			return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return apps.StatefulSets(r.namespace).List(ctx, o)
			}, func(s *appsv1.StatefulSet) { r.addWorkload(FromStatefulSet(s)) }, "statefulsets", r.namespace)
		}},
		{"daemonsets", func() error {
			return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return apps.DaemonSets(r.namespace).List(ctx, o)
			}, func(d *appsv1.DaemonSet) { r.addWorkload(FromDaemonSet(d)) }, "daemonsets", r.namespace)
		}},
		{"replicationcontrollers", func() error {
			return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return r.c.Kube.CoreV1().ReplicationControllers(r.namespace).List(ctx, o)
			}, func(c *corev1.ReplicationController) { r.addWorkload(FromReplicationController(c)) }, "replicationcontrollers", r.namespace)
		}},
		{"cronjobs", func() error {
			return each(ctx, r.c, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return batch.CronJobs(r.namespace).List(ctx, o)
			}, func(j *batchv1.CronJob) { r.addWorkload(FromCronJob(j)) }, "cronjobs", r.namespace)
		}},
	}
	for _, list := range lists {
		err := list.read()
		switch {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			r.Unread = append(r.Unread, list.resource)
		case err != nil:
			return err
		}
	}
	return nil
}

func (r *reader) addWorkload(w *Workload) {
	r.Workloads = append(r.Workloads, w)
	r.byRef[w.Ref] = w
}

// each calls fn on every object of a list, read a page at a time, the next page
// being fetched while this one is worked on. Where the list has grown too old
// to be continued, it goes on behind the last object as things are now: no
// object comes twice.
func each[T any](ctx context.Context, c *cluster.Cluster, list pager.ListPageFunc, fn func(*T), resource, namespace string) error {
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (page runtime.Object, err error) {
		for {
			err = c.Persist(ctx, func(ctx context.Context) error {
				page, err = list(ctx, o)
				return err
			})
			token := goOnFrom(err)
			if token == "" || token == o.Continue {
				return page, err
			}
			o.Continue = token
		}
	})
	p.PageSize, p.PageBufferSize = pageSize, 1
	err := p.EachListItem(ctx, metav1.ListOptions{}, func(obj runtime.Object) error {
		item, ok := any(obj).(*T)
		if !ok {
			return fmt.Errorf("got %T", obj)
		}
		fn(item)
		return nil
	})
	if err != nil {
		if namespace == "" {
			return fmt.Errorf("list %s of all namespaces: %w", resource, err)
		}
		return fmt.Errorf("list %s in namespace %s: %w", resource, namespace, err)
	}
	return nil
}

// goOnFrom gives the token with which the API server offers to continue a list
// that has expired (k8s.io/apiserver pkg/storage/etcd3, inconsistent
// continuation), "" for every other error.
func goOnFrom(err error) string {
	var status apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) || !errors.As(err, &status) {
		return ""
	}
	return status.Status().Continue
}
