package controlplane

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// live is what the cluster has of the objects that a release renders.
type live map[objectKey]*unstructured.Unstructured

// readLive gets the objects that can stand in an upgrade's way: workloads,
// whose selectors and replicas matter, bindings, whose role is immutable, and
// what the release would add but may be there already.
func readLive(ctx context.Context, c *cluster.Cluster, r ReleasePlan) (live, error) {
	mapper, err := c.Mapper()
	if err != nil {
		return nil, err
	}
	added := map[objectKey]bool{}
	for _, change := range r.Objects {
		if change.Change == "added" {
			added[objectKey{"", change.Kind, change.Namespace, change.Name}] = true
		}
	}
	found := live{}
	for _, o := range r.rendered.Objects {
		key := keyOf(o, r.Namespace)
		isAdded := added[objectKey{"", key.kind, key.namespace, key.name}]
		if !isAdded && !strings.HasSuffix(key.kind, "Binding") && key.kind != workload.Deployment && key.kind != workload.DaemonSet {
			continue
		}
		gvk := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) {
			return nil, gate.BadInputf("the chart %s renders %s %s, which this API server does not know; take a chart made for its Kubernetes", r.ChartTo, gvk.GroupVersion(), gvk.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("find the resource of %s: %w", gvk, err)
		}
		namespace := key.namespace
		if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
			namespace = ""
		}
		object, err := c.Dynamic.Resource(mapping.Resource).Namespace(namespace).Get(ctx, key.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get %s %s: %w", gvk.Kind, key.name, err)
		}
		found[key] = object
	}
	return found, nil
}

// notReady says which of the workloads is not ready, or nothing.
func (l live) notReady(refs []workload.Ref) string {
	for _, ref := range refs {
		object := l[objectKey{ref.Group, ref.Kind, ref.Namespace, ref.Name}]
		if object == nil {
			return ref.In() + " is not there"
		}
		var w *workload.Workload
		if ref.Kind == workload.DaemonSet {
			var d appsv1.DaemonSet
			if typed(object, &d) != nil {
				continue
			}
			w = workload.FromDaemonSet(&d)
		} else {
			var d appsv1.Deployment
			if typed(object, &d) != nil {
				continue
			}
			w = workload.FromDeployment(&d)
		}
		if r := judge(w, nil, nil); !r.Done {
			return ref.In() + " is not ready: " + r.Message
		}
	}
	return ""
}

// liveRefusals compares what a release renders with what is there: immutable
// fields that differ, owners that are not this release, replicas that would
// fall. It is a pure function.
func liveRefusals(r ReleasePlan, there live) ([]gate.Refusal, error) {
	var refusals []gate.Refusal
	scaled := autoscaled(r.rendered.Objects)
	for _, o := range r.rendered.Objects {
		key := keyOf(o, r.Namespace)
		object := there[key]
		if object == nil {
			continue
		}
		name := strings.ToLower(key.kind) + "/" + key.name
		if key.namespace != "" {
			name += " in " + key.namespace
		}
		if refusal, ok := foreign(r, key, object); ok {
			refusal.Object = name
			refusals = append(refusals, refusal)
			continue
		}
		if field := immutable(o, object); field != "" {
			refusals = append(refusals, gate.Refusal{
				Object: name,
				Reason: fmt.Sprintf("%s differs from what the chart %s renders, and cannot be changed: it must be re-created", field, r.ChartTo),
				Cure:   recreate(key),
			})
		}
		if key.kind != workload.Deployment || scaled[key.name] || r.Action == Rollback { // which keeps what there is
			continue
		}
		now, then, err := replicasOf(object, o)
		if err != nil {
			return nil, err
		}
		if then < now {
			refusals = append(refusals, gate.Refusal{
				Object: name, Forceable: true,
				Reason: fmt.Sprintf("it has %d replicas, and the values of release %s would make them %d", now, r.Name, then),
				Cure:   replicasCure(r.Component, now),
			})
		}
	}
	return refusals, nil
}

// replicasOf gives the replicas of a Deployment as it is, without those that were
// lent to it, and as it is rendered: equal where the rendered one does not say.
func replicasOf(there, rendered *unstructured.Unstructured) (now, then int32, err error) {
	var is, to appsv1.Deployment
	if err := errors.Join(typed(there, &is), typed(rendered, &to)); err != nil {
		return 0, 0, err
	}
	if is.Spec.Replicas != nil {
		now = *is.Spec.Replicas
	}
	if before, raised := recorded(there); raised {
		now = int32(before)
	}
	if to.Spec.Replicas == nil {
		return now, now, nil
	}
	return now, *to.Spec.Replicas, nil
}

// replicasCure says which value sets the replicas of a component. Without
// --component a gateway has none of the values that are given.
func replicasCure(c helm.Component, replicas int32) string {
	if c == helm.Gateway {
		return fmt.Sprintf("upgrade the gateways in a run of their own, with --component gateway --set replicaCount=%d", replicas)
	}
	return fmt.Sprintf("give --set pilot.replicaCount=%d", replicas)
}

// foreign tells whether an object that the upgrade would add is there and
// belongs to somebody else, which Helm refuses to take over.
func foreign(r ReleasePlan, key objectKey, object *unstructured.Unstructured) (gate.Refusal, bool) {
	for _, change := range r.Objects {
		if change.Change != "added" || change.Kind != key.kind || change.Name != key.name || change.Namespace != key.namespace {
			continue
		}
		owners := mesh.OwnersOf(object)
		if owners.Helm != nil && owners.Helm.Name == r.Name && owners.Helm.Namespace == r.Namespace {
			return gate.Refusal{}, false
		}
		return gate.Refusal{
			Reason: fmt.Sprintf("the chart %s adds it, but it is there already and belongs to %s", r.ChartTo, owners),
			Cure:   "remove it, or mark it as the release's with Helm's label and annotations",
		}, true
	}
	return gate.Refusal{}, false
}

// immutable names the field of a rendered object that the API server would
// refuse to change, or "".
func immutable(rendered, there *unstructured.Unstructured) string {
	var field []string
	switch kind := rendered.GetKind(); {
	case kind == workload.Deployment || kind == workload.DaemonSet:
		field = []string{"spec", "selector", "matchLabels"}
	case strings.HasSuffix(kind, "RoleBinding"):
		field = []string{"roleRef", "name"}
	default:
		return ""
	}
	want, _, _ := unstructured.NestedFieldNoCopy(rendered.Object, field...)
	have, _, _ := unstructured.NestedFieldNoCopy(there.Object, field...)
	if reflect.DeepEqual(want, have) {
		return ""
	}
	return strings.Join(field, ".")
}

// recreate is the way out for an immutable field. Pods of a workload stay when
// it is orphaned, and go when the new one does not select them.
func recreate(key objectKey) string {
	command := fmt.Sprintf("kubectl delete %s %s", strings.ToLower(key.kind), key.name)
	if key.namespace != "" {
		command += " -n " + key.namespace
	}
	if key.kind == workload.Deployment || key.kind == workload.DaemonSet {
		command += " --cascade=orphan"
	}
	return "run " + command + ", and this command again at once"
}

// autoscaled gives the names of Deployments that an autoscaler of the same
// manifest scales.
func autoscaled(objects []*unstructured.Unstructured) map[string]bool {
	names := map[string]bool{}
	for _, o := range objects {
		if o.GetKind() == "HorizontalPodAutoscaler" {
			name, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
			names[name] = true
		}
	}
	return names
}
