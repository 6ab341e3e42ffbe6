package workload

import (
	"context"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// FromCronJob reads a CronJob. Its template is the pod's; the marks of manual
// injection, which kube-inject leaves on the Job's metadata in every version of
// Istio (pkg/kube/inject, IntoObject), are laid on it.
func FromCronJob(j *batchv1.CronJob) *Workload {
	w := fromMeta(CronJob, "batch", j.ObjectMeta)
	w.Template = j.Spec.JobTemplate.Spec.Template
	w.Paused = j.Spec.Suspend != nil && *j.Spec.Suspend
	if marks := j.Spec.JobTemplate.Annotations; len(marks) > 0 {
		merged := map[string]string{}
		for _, source := range []map[string]string{marks, w.Template.Annotations} {
			maps.Copy(merged, source)
		}
		w.Template.Annotations = merged
	}
	return w
}

// resolve puts the pods of ReplicaSets and Jobs under the workload that stands
// behind them. For almost all that workload is known by name; the few others
// are asked for one by one.
func (r *reader) resolve(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	type found struct {
		ref Ref
		w   *Workload
		err error
	}
	answers := map[owner]*found{}
	for key := range r.byOwner {
		ask := key.direct.Is(Job) || key.direct.Is(ReplicaSet) && r.byRef[key.likely] == nil
		if !ask {
			continue
		}
		answer := &found{ref: key.direct}
		answers[key] = answer
		group.Go(func() error {
			answer.ref, answer.w, answer.err = r.ask(groupCtx, key.direct)
			return nil
		})
	}
	_ = group.Wait() // the answers bear their errors
	for key, sum := range r.byOwner {
		ref := key.likely
		if key.direct.Is(ReplicationController) && r.byRef[ref] == nil {
			ref = r.behindController(key.direct)
		}
		if answer := answers[key]; answer != nil {
			if answer.err != nil {
				return answer.err
			}
			ref = answer.ref
			if answer.w != nil && r.byRef[ref] == nil {
				r.addWorkload(answer.w)
			}
		}
		r.place(ref, sum)
	}
	return nil
}

// behindController gives the owner of a ReplicationController, or itself where
// it has none: these were all listed.
func (r *reader) behindController(ref Ref) Ref {
	if w := r.byRef[ref]; w != nil && w.Owner != nil {
		return OwnerRef(ref.Namespace, w.Owner)
	}
	return ref
}

func (r *reader) place(ref Ref, sum *Pods) {
	if mine := r.Pods[ref]; mine != nil {
		mine.merge(sum)
	} else {
		r.Pods[ref] = sum
	}
	for proxy, sample := range sum.Proxies {
		if sample.Digest != "" {
			r.Digests[proxy.Image] = sample.Digest
		}
	}
}

// ask reads a ReplicaSet or a Job and gives the workload that it belongs to:
// its controller, or itself. A ReplicaSet without one comes with its template.
func (r *reader) ask(ctx context.Context, ref Ref) (Ref, *Workload, error) {
	if ref.Kind == ReplicaSet {
		rs, err := cluster.Reading(ctx, r.c, func(ctx context.Context) (*appsv1.ReplicaSet, error) {
			return r.c.Kube.AppsV1().ReplicaSets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		})
		if err != nil {
			return ref, nil, r.unread(err, ref)
		}
		if controller := metav1.GetControllerOf(rs); controller != nil {
			return OwnerRef(ref.Namespace, controller), nil, nil
		}
		return ref, FromReplicaSet(rs), nil
	}
	jobs := schema.GroupVersionResource{Group: batchv1.GroupName, Version: "v1", Resource: "jobs"}
	job, err := cluster.Reading(ctx, r.c, func(ctx context.Context) (*metav1.PartialObjectMetadata, error) {
		return r.c.Metadata.Resource(jobs).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	})
	if err != nil {
		return ref, nil, r.unread(err, ref)
	}
	if controller := metav1.GetControllerOf(job); controller != nil {
		return OwnerRef(ref.Namespace, controller), nil, nil
	}
	return ref, nil, nil
}

// unread forgives that an owner is gone or may not be read: its pods then stand
// under the owner that they name.
func (r *reader) unread(err error, ref Ref) error {
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	return fmt.Errorf("read %s: %w", ref.In(), err)
}
