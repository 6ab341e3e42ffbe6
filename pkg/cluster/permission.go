package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	authv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// Permission is one thing that a step must be allowed to do.
type Permission struct {
	Verb, Group, Resource, Subresource string
	// Namespace is empty for cluster-scoped resources and for all namespaces.
	Namespace string
}

// String gives the permission as kubectl auth can-i words it.
func (p Permission) String() string {
	resource := p.Resource
	if p.Subresource != "" {
		resource += "/" + p.Subresource
	}
	if p.Group != "" {
		resource += "." + p.Group
	}
	if p.Namespace != "" {
		return fmt.Sprintf("%s %s in namespace %s", p.Verb, resource, p.Namespace)
	}
	return fmt.Sprintf("%s %s", p.Verb, resource)
}

// Denied asks the API server, by SelfSubjectAccessReview, which of the
// permissions the user lacks, and gives those in their order. The error is the
// API server's own, when it could not answer.
func (c *Cluster) Denied(ctx context.Context, wanted []Permission) ([]Permission, error) {
	denied := make([]bool, len(wanted))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, p := range wanted {
		group.Go(func() error {
			review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authv1.ResourceAttributes{
					Verb: p.Verb, Group: p.Group, Resource: p.Resource,
					Subresource: p.Subresource, Namespace: p.Namespace,
				},
			}}
			answer, err := c.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask whether you may %s: %w", p, err)
			}
			denied[i] = !answer.Status.Allowed
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var lacking []Permission
	for i, p := range wanted {
		if denied[i] && !slices.Contains(lacking, p) {
			lacking = append(lacking, p)
		}
	}
	return lacking, nil
}

// YourRights is the object of the refusal of a plan that the user may not carry
// out.
const YourRights = "your rights"

// RefuseRights gives a refusal that names what the user lacks of all that a plan
// takes, and nothing where nothing is lacking. A user who may do it everywhere
// is asked about once, others namespace by namespace. The error is the API
// server's.
func (c *Cluster) RefuseRights(ctx context.Context, wanted []Permission) ([]gate.Refusal, error) {
	wanted = unique(wanted)
	if len(wanted) == 0 {
		return nil, nil
	}
	lacking, err := c.Denied(ctx, everywhere(wanted))
	if err != nil || len(lacking) == 0 {
		return nil, err
	}
	if lacking, err = c.Denied(ctx, wanted); err != nil || len(lacking) == 0 {
		return nil, err
	}
	words := make([]string, 0, len(lacking))
	for _, p := range lacking {
		words = append(words, p.String())
	}
	slices.Sort(words)
	return []gate.Refusal{{
		Object: YourRights, Reason: "you lack rights that this needs: " + strings.Join(words, ", "),
		Cure: "ask for a role with these rules: docs/rbac.md lists what each command needs",
	}}, nil
}

// everywhere gives the permissions without their namespaces, each once.
func everywhere(wanted []Permission) []Permission {
	all := slices.Clone(wanted)
	for i := range all {
		all[i].Namespace = ""
	}
	return unique(all)
}

func unique(permissions []Permission) []Permission {
	seen := map[Permission]bool{}
	var out []Permission
	for _, p := range permissions {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}
