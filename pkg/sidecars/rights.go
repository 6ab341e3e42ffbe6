package sidecars

import (
	"context"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// CheckRights asks whether the user may do all that the plan takes, and adds a
// refusal that names what is missing. The error is the API server's.
func (p *Plan) CheckRights(ctx context.Context, c *cluster.Cluster) error {
	refusals, err := lackingRights(ctx, c, p.Moving())
	p.Refusals = append(p.Refusals, refusals...)
	return err
}

// lackingRights gives a refusal for what the user may not do of all that moving
// these items takes. A user who may do it everywhere is asked about once, others
// namespace by namespace.
func lackingRights(ctx context.Context, c *cluster.Cluster, items []Item) ([]gate.Refusal, error) {
	wanted := neededRights(items)
	if len(wanted) == 0 {
		return nil, nil
	}
	denied, err := c.Denied(ctx, everywhere(wanted))
	if err != nil || len(denied) == 0 {
		return nil, err
	}
	if denied, err = c.Denied(ctx, wanted); err != nil || len(denied) == 0 {
		return nil, err
	}
	var lacking []string
	for _, p := range denied {
		lacking = append(lacking, p.String())
	}
	return []gate.Refusal{{
		Object: "your rights", Reason: "you may not " + strings.Join(lacking, "; not "),
		Cure: "ask for a role with these rules: docs/rbac.md lists what each command needs",
	}}, nil
}

// neededRights lists what moving the items takes, in their order, each once.
func neededRights(items []Item) []cluster.Permission {
	var wanted []cluster.Permission
	seen := map[cluster.Permission]bool{}
	need := func(p cluster.Permission) {
		if !seen[p] {
			seen[p] = true
			wanted = append(wanted, p)
		}
	}
	for i := range items {
		item := &items[i]
		resource, ok := workload.Resources[item.Kind]
		if item.How == Nothing || !ok {
			continue
		}
		p := cluster.Permission{Group: resource.Group, Resource: resource.Resource, Namespace: item.Namespace}
		for _, verb := range []string{"list", "watch", "patch"} {
			if verb == "patch" && (item.How == Evict || item.How == Watch) {
				continue
			}
			p.Verb = verb
			need(p)
		}
		need(cluster.Permission{Verb: "watch", Resource: "pods", Namespace: item.Namespace})
		if item.How == Evict {
			need(cluster.Permission{Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: item.Namespace})
		}
	}
	return wanted
}

// everywhere gives the permissions without their namespaces, each once.
func everywhere(wanted []cluster.Permission) []cluster.Permission {
	var out []cluster.Permission
	seen := map[cluster.Permission]bool{}
	for _, p := range wanted {
		p.Namespace = ""
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}
