package controlplane

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// objectKey tells objects of a manifest apart; an object that changes its API
// version stays itself.
type objectKey struct{ group, kind, namespace, name string }

func (k objectKey) compare(o objectKey) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.name, o.name))
}

func keyOf(o *unstructured.Unstructured, releaseNamespace string) objectKey {
	namespace := o.GetNamespace()
	if namespace == "" && !clusterScoped[o.GetKind()] {
		namespace = releaseNamespace
	}
	return objectKey{o.GroupVersionKind().Group, o.GetKind(), namespace, o.GetName()}
}

// clusterScoped are the kinds without a namespace in Istio's charts.
var clusterScoped = map[string]bool{
	"ClusterRole": true, "ClusterRoleBinding": true, "MutatingWebhookConfiguration": true,
	"ValidatingWebhookConfiguration": true, "ValidatingAdmissionPolicy": true,
	"ValidatingAdmissionPolicyBinding": true, "CustomResourceDefinition": true, "Namespace": true,
	"GatewayClass": true, "PriorityClass": true, "ClusterTrustBundle": true,
}

// objectChanges compares the objects of two manifests. It is a pure function.
func objectChanges(before, after []*unstructured.Unstructured, namespace string) []ObjectChange {
	changes := []ObjectChange{}
	old := map[objectKey]*unstructured.Unstructured{}
	for _, o := range before {
		old[keyOf(o, namespace)] = o
	}
	for _, o := range after {
		key := keyOf(o, namespace)
		was, ok := old[key]
		delete(old, key)
		switch {
		case !ok:
			changes = append(changes, ObjectChange{Kind: key.kind, Namespace: key.namespace, Name: key.name, Change: "added"})
		case !reflect.DeepEqual(was.Object, o.Object):
			changes = append(changes, ObjectChange{Kind: key.kind, Namespace: key.namespace, Name: key.name, Change: "changed"})
		}
	}
	for _, o := range before {
		if key := keyOf(o, namespace); old[key] != nil {
			changes = append(changes, ObjectChange{Kind: key.kind, Namespace: key.namespace, Name: key.name, Change: "removed"})
		}
	}
	return changes
}

// workloadsOf gives the Deployments and DaemonSets of a manifest.
func workloadsOf(objects []*unstructured.Unstructured, namespace string) []workload.Ref {
	refs := []workload.Ref{}
	for _, o := range objects {
		if kind := o.GetKind(); kind == workload.Deployment || kind == workload.DaemonSet {
			key := keyOf(o, namespace)
			refs = append(refs, workload.Ref{Group: "apps", Kind: kind, Namespace: key.namespace, Name: key.name})
		}
	}
	return refs
}

// istioImages are the last parts of the names of Istio's own images, the
// control plane's first.
var istioImages = []string{"pilot", "install-cni", "ztunnel", "proxyv2", "mixer", "citadel", "galley", "sidecar_injector"}

// imageOf gives the image that tells which Istio a release's workloads run: the
// first of Istio's own in the manifest, pilot before others; "" where there is
// none, as for injected gateways.
func imageOf(objects []*unstructured.Unstructured) string {
	best, rank := "", len(istioImages)
	for _, o := range objects {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		for _, item := range containers {
			container, _ := item.(map[string]any)
			image, _ := container["image"].(string)
			repository, _, _ := mesh.SplitImage(image)
			name := repository[strings.LastIndex(repository, "/")+1:]
			if at := slices.Index(istioImages, name); at >= 0 && at < rank {
				best, rank = image, at
			}
		}
	}
	return best
}

// tagOf gives the tag of a release's image.
func tagOf(objects []*unstructured.Unstructured) string {
	_, tag, _ := mesh.SplitImage(imageOf(objects))
	return tag
}

// typed converts an object of a manifest.
func typed(o *unstructured.Unstructured, into any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
		return fmt.Errorf("read %s %s of the chart: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// manifestObjects gives the objects that a stored revision wrote.
func manifestObjects(r helm.Release) ([]*unstructured.Unstructured, error) {
	objects, err := helm.ParseManifest(r.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read revision %d of %s: %w", r.Revision, r, err)
	}
	return objects, nil
}
