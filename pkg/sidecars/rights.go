package sidecars

import (
	"context"

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
// these items takes.
func lackingRights(ctx context.Context, c *cluster.Cluster, items []Item) ([]gate.Refusal, error) {
	return c.RefuseRights(ctx, neededRights(items))
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
		resource, ok := resourceOf(item.Kind)
		if item.How == Nothing || !ok {
			continue
		}
		p := cluster.Permission{Group: resource.Group, Resource: resource.Resource, Namespace: item.Namespace}
		for _, verb := range []string{"list", "watch", "patch"} {
			if verb == "patch" && (item.How == Evict || item.How == Watch) || verb != "patch" && item.Kind == workload.CronJob {
				continue
			}
			p.Verb = verb
			need(p)
		}
		if item.Kind != workload.CronJob { // which has no pods to be watched
			need(cluster.Permission{Verb: "watch", Resource: "pods", Namespace: item.Namespace})
		}
		// A StatefulSet's pods that hang are evicted once it has its new template.
		if item.way() == Evict || item.Kind == workload.StatefulSet && (item.anew || item.clears) {
			need(cluster.Permission{Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: item.Namespace})
		}
	}
	return wanted
}
