package crds

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// checkRights asks the API server whether the user may do what the plan says,
// and refuses the plan where something is lacking.
func (p *Plan) checkRights(ctx context.Context, c *cluster.Cluster) error {
	wanted, err := p.rights(c)
	if err != nil {
		return err
	}
	refusals, err := c.RefuseRights(ctx, wanted)
	p.Refusals = append(p.Refusals, refusals...)
	return err
}

// rights lists what the plan's action must be allowed to do.
func (p *Plan) rights(c *cluster.Cluster) ([]cluster.Permission, error) {
	crd := func(verb string) cluster.Permission {
		return cluster.Permission{Verb: verb, Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}
	}
	var wanted []cluster.Permission
	if slices.ContainsFunc(p.CRDs, func(change Change) bool { return change.Action == Created }) {
		wanted = append(wanted, crd("create"))
	}
	if p.Action == Upgrade || p.Action == ApplyOnly {
		wanted = append(wanted, crd("patch"))
	}
	if p.Release == nil {
		return wanted, nil
	}
	verbs := []string{"create", "update"}
	if r := p.work.release; r != nil && p.Action == Upgrade && r.Revision >= historyKept {
		verbs = append(verbs, "delete")
	}
	for _, verb := range verbs {
		wanted = append(wanted, cluster.Permission{Verb: verb, Resource: helm.StorageResource(), Namespace: p.Release.Namespace})
	}
	mapper, err := c.Mapper()
	if err != nil {
		return nil, err
	}
	before := map[string]bool{}
	for _, object := range p.work.stored {
		before[objectKey(object)] = true
	}
	for _, object := range p.work.objects {
		verbs := []string{"create", "delete"}
		if p.Action == Upgrade {
			verbs = []string{"get", "patch"}
			if !before[objectKey(object)] {
				verbs = append(verbs, "create")
			}
		}
		delete(before, objectKey(object))
		permissions, err := rightsOn(mapper, object, p.Release.Namespace, verbs)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, permissions...)
	}
	for _, object := range p.work.stored { // what the new chart does not have
		if !before[objectKey(object)] || p.Action != Upgrade || isCRD(object) {
			continue
		}
		permissions, err := rightsOn(mapper, object, p.Release.Namespace, []string{"delete"})
		if err != nil {
			continue // the API server knows the kind no more: there is nothing to delete
		}
		wanted = append(wanted, permissions...)
	}
	return wanted, nil
}

// rightsOn gives what it takes to do something to an object of a release.
func rightsOn(mapper meta.RESTMapper, object *unstructured.Unstructured, namespace string, verbs []string) ([]cluster.Permission, error) {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: kind.Group, Kind: kind.Kind}, kind.Version)
	if err != nil {
		return nil, fmt.Errorf("the API server does not know the kind %s: %w", kind, err)
	}
	p := cluster.Permission{Group: mapping.Resource.Group, Resource: mapping.Resource.Resource}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		p.Namespace = cmp.Or(object.GetNamespace(), namespace)
	}
	permissions := make([]cluster.Permission, 0, len(verbs))
	for _, verb := range verbs {
		p.Verb = verb
		permissions = append(permissions, p)
	}
	return permissions, nil
}

// historyKept is how many revisions of a release Helm keeps; then it deletes
// the oldest.
const historyKept = 10
