package controlplane

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// checkRights asks the API server whether the user may write the releases that
// are to be upgraded. The error names what is lacking.
func checkRights(ctx context.Context, c *cluster.Cluster, releases []ReleasePlan) error {
	var wanted []cluster.Permission
	for _, r := range releases {
		if r.Action != Upgrade && r.Action != Rollback || r.rendered == nil {
			continue
		}
		mapper, err := c.Mapper()
		if err != nil {
			return err
		}
		for _, verb := range []string{"create", "update"} {
			wanted = append(wanted, cluster.Permission{Verb: verb, Resource: helm.StorageResource(), Namespace: r.Namespace})
		}
		before, err := manifestObjects(r.release)
		if err != nil {
			return err
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
	lacking, err := c.Denied(ctx, unique(wanted))
	if err != nil || len(lacking) == 0 {
		return err
	}
	words := make([]string, 0, len(lacking))
	for _, p := range lacking {
		words = append(words, p.String())
	}
	return fmt.Errorf("you lack rights that the upgrade needs: %s; kubectl auth can-i tells which you have", strings.Join(words, ", "))
}

func unique(permissions []cluster.Permission) []cluster.Permission {
	seen := map[cluster.Permission]bool{}
	var out []cluster.Permission
	for _, p := range permissions {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func changeOf(r ReleasePlan, key objectKey) string {
	for _, change := range r.Objects {
		if change.Kind == key.kind && change.Name == key.name && change.Namespace == key.namespace {
			return change.Change
		}
	}
	return ""
}
