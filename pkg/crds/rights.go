package crds

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// checkRights asks the API server whether the user may do what the plan says,
// and gives an error that names what is lacking.
func (p *Plan) checkRights(ctx context.Context, c *cluster.Cluster) error {
	wanted, err := p.rights(c)
	if err != nil {
		return err
	}
	lacking, err := c.Denied(ctx, wanted)
	if err != nil || len(lacking) == 0 {
		return err
	}
	words := make([]string, 0, len(lacking))
	for _, permission := range lacking {
		words = append(words, permission.String())
	}
	return fmt.Errorf("you lack the rights for this plan: %s; see kubectl auth can-i", strings.Join(words, ", "))
}

// rights lists what the plan's action must be allowed to do.
func (p *Plan) rights(c *cluster.Cluster) ([]cluster.Permission, error) {
	crd := func(verb string) cluster.Permission {
		return cluster.Permission{Verb: verb, Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}
	}
	var wanted []cluster.Permission
	for _, change := range p.CRDs {
		if change.Action == Created {
			wanted = append(wanted, crd("create"))
			break
		}
	}
	if p.Action == Upgrade || p.Action == ApplyOnly {
		wanted = append(wanted, crd("patch"))
	}
	if p.Release == nil {
		return wanted, nil
	}
	verbs := []string{"create", "update"}
	if r := p.work.release; r != nil && (p.Action == Replace || r.Revision >= historyKept) {
		verbs = append(verbs, "delete")
	}
	for _, verb := range verbs {
		wanted = append(wanted, cluster.Permission{Verb: verb, Resource: helm.StorageResource(), Namespace: p.Release.Namespace})
	}
	if p.Action == Upgrade {
		return wanted, nil
	}
	mapper, err := c.Mapper()
	if err != nil {
		return nil, err
	}
	for _, object := range p.work.objects {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(schema.GroupKind{Group: kind.Group, Kind: kind.Kind}, kind.Version)
		if err != nil {
			return nil, fmt.Errorf("the API server does not know the kind %s: %w", kind, err)
		}
		permission := cluster.Permission{Group: mapping.Resource.Group, Resource: mapping.Resource.Resource}
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			permission.Namespace = p.Release.Namespace
		}
		for _, verb := range []string{"create", "delete"} {
			permission.Verb = verb
			wanted = append(wanted, permission)
		}
	}
	return wanted, nil
}

// historyKept is how many revisions of a release Helm keeps; then it deletes
// the oldest.
const historyKept = 10
