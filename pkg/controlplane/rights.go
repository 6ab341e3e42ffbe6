package controlplane

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// lackingRights asks the API server whether the user may write the releases that
// are to be upgraded, and gives a refusal where something is lacking.
func lackingRights(ctx context.Context, c *cluster.Cluster, releases []ReleasePlan) ([]gate.Refusal, error) {
	var wanted []cluster.Permission
	for _, r := range releases {
		if r.Action != Upgrade && r.Action != Rollback || r.rendered == nil {
			continue
		}
		mapper, err := c.Mapper()
		if err != nil {
			return nil, err
		}
		verbs := []string{"create", "update"}
		if helm.HistoryFull(r.HelmRevision + 1) { // the way back may write two
			verbs = append(verbs, "delete")
		}
		for _, verb := range verbs {
			wanted = append(wanted, cluster.Permission{Verb: verb, Resource: helm.StorageResource(), Namespace: r.Namespace})
		}
		before, err := manifestObjects(r.release)
		if err != nil {
			return nil, err
		}
		groups := map[objectKey]schema.GroupVersionKind{}
		for _, o := range append(before, r.rendered.Objects...) {
			groups[keyOf(o, r.Namespace)] = o.GroupVersionKind()
		}
		for key, gvk := range groups {
			mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
			if err != nil {
				continue // of the revision before: the API may be gone
			}
			p := cluster.Permission{Verb: "patch", Group: mapping.Resource.Group, Resource: mapping.Resource.Resource, Namespace: key.namespace}
			if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
				p.Namespace = ""
			}
			switch changeOf(r, key) {
			case "added":
				wanted = append(wanted, p)
				p.Verb = "create"
			case "removed":
				p.Verb = "delete"
			}
			wanted = append(wanted, p)
		}
	}
	return c.RefuseRights(ctx, wanted)
}

func changeOf(r ReleasePlan, key objectKey) string {
	for _, change := range r.Objects {
		if change.Kind == key.kind && change.Name == key.name && change.Namespace == key.namespace {
			return change.Change
		}
	}
	return ""
}
