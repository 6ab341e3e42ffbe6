package sidecars

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// ApplyFiles applies what a FilesPlan creates or changes. Objects that make no
// workload roll go first, in the order of the files; workloads that are there
// already follow, many at a time, watched and judged as all others are, and new
// ones are watched until they are up. A CustomResourceDefinition is waited for
// until it is established. The error is as of Apply; an object that cannot be
// applied ends the run before any workload rolls.
func ApplyFiles(ctx context.Context, c *cluster.Cluster, p *FilesPlan, f Files, o Options, emit progress.Emitter) (*Result, error) {
	how := newApplier(&o, f)
	if err := keepReplaced(p, emit); err != nil {
		return &Result{Workloads: []rollout.Result{}, Counts: map[string]int{}}, err
	}
	var moves []rollout.Move
	for i := range p.Objects {
		object := &p.Objects[i]
		if object.Action == Unchanged || object.Held != "" {
			continue
		}
		if object.rolls() {
			moves = append(moves, object.move(c, how))
			continue
		}
		if err := object.apply(ctx, c, how, o.Rollout.Timeout); err != nil {
			return nil, fmt.Errorf("apply %s: %w", object.In(), err)
		}
		emit.Emit(progress.Event{Kind: progress.Done, Object: progress.Object{Kind: object.Kind, Namespace: object.Namespace, Name: object.Name}, Message: string(object.Action)})
		if w := workloadOf(object.manifest.Object); w != nil && object.Action == Created && (w.Desired > 0 || w.Kind == workload.DaemonSet) && o.Rollout.Wait {
			moves = append(moves, rollout.Move{Ref: object.Ref, Promise: promiseOf(w)})
		}
	}
	return run(ctx, c, moves, o, emit)
}

// apply applies an object that makes nothing roll.
func (f *FileObject) apply(ctx context.Context, c *cluster.Cluster, how applier, limit time.Duration) error {
	write := func(ctx context.Context) error {
		return c.Persist(ctx, func(ctx context.Context) error {
			_, _, err := how.apply(ctx, f.client, f.manifest.Object, false)
			return err
		})
	}
	if f.definition != "" {
		return onceServed(ctx, limit, write)
	}
	if err := write(ctx); err != nil || f.resource.GroupResource() != definitions {
		return err
	}
	return f.established(ctx, limit)
}

// rolls says whether applying the object gives new pods to a workload that is
// there and can be watched.
func (f *FileObject) rolls() bool { return f.live != nil && f.live.Desired > 0 && !f.steady }

// promiseOf is what the pods of a template run: its own sidecar, where it has one
// that names an image.
func promiseOf(w *workload.Workload) workload.Promise {
	proxy, has := workload.ProxyOf(w.Template.Annotations, &w.Template.Spec)
	if !has || leftToInjector(proxy.Image) {
		return workload.Promise{Any: true}
	}
	return workload.Promise{Known: true, Proxy: proxy}
}

// move makes the move of a workload: it is applied, and taken back by putting
// back all of its spec and metadata.
func (f *FileObject) move(c *cluster.Cluster, how applier) rollout.Move {
	to := *f.live
	if template, ok := templateOf(f.manifest.Object); ok {
		to.Template = *template
	}
	m := rollout.Move{Ref: f.Ref, Seen: f.live, Promise: promiseOf(&to), Force: true, Evict: f.evict, Cures: true}
	m.Apply = func(ctx context.Context) (rollout.Change, int64, error) {
		var before, after *unstructured.Unstructured
		if err := c.Persist(ctx, func(ctx context.Context) error {
			was, is, err := how.apply(ctx, f.client, f.manifest.Object, false)
			if before == nil {
				before = was // sent a second time, it finds what the first has written
			}
			after = is
			return err
		}); err != nil {
			return rollout.Change{}, 0, fmt.Errorf("apply %s: %w", f.In(), err)
		}
		change := rollout.Change{
			Type: types.MergePatchType, Patch: []byte("applied"), Manager: how.manager, Image: m.Promise.Proxy.Image,
			At: rollout.WrittenAt(after.GetManagedFields(), how.manager),
		}
		if before != nil {
			change.TakeBack = func(ctx context.Context) error {
				return takeBack(ctx, c, f.client, after, f.kept, how.manager, func(now *unstructured.Unstructured) ([]byte, error) {
					return wayBack(before, after, now)
				})
			}
		}
		return change, after.GetGeneration(), nil
	}
	return m
}

// workloadOf reads an object as a workload that can be watched; nil for others.
func workloadOf(object *unstructured.Unstructured) *workload.Workload {
	read := func(into any) bool {
		return runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into) == nil
	}
	switch object.GroupVersionKind().GroupKind().String() {
	case "Deployment.apps":
		if d := new(appsv1.Deployment); read(d) {
			return workload.FromDeployment(d)
		}
	case "StatefulSet.apps":
		if s := new(appsv1.StatefulSet); read(s) {
			return workload.FromStatefulSet(s)
		}
	case "DaemonSet.apps":
		if d := new(appsv1.DaemonSet); read(d) {
			return workload.FromDaemonSet(d)
		}
	case "ReplicaSet.apps":
		if r := new(appsv1.ReplicaSet); read(r) {
			return workload.FromReplicaSet(r)
		}
	case "ReplicationController":
		if r := new(corev1.ReplicationController); read(r) {
			return workload.FromReplicationController(r)
		}
	}
	if w := workload.FromCustom(object); w != nil && w.TemplateFrom == nil { // else another object has the template
		return w
	}
	return nil
}
