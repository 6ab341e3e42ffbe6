package crds

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// claim is what the owner of a live definition means for the plan.
type claim struct {
	// adopt says that the definition is to get the release's marks; from is
	// whose it was.
	adopt bool
	from  string
	// gone is the release that the marks name and that is not there any more.
	gone *mesh.Ref
	// refusal is empty where there is none.
	refusal gate.Refusal
}

// judgeOwner decides about one live definition of the target. release is the
// one that is upgraded, nil without one; marks says that Helm itself writes
// definitions of this release, and so wants its marks on them; gone says that
// the release which the marks name is not there any more.
func judgeOwner(crd mesh.CRD, release *helm.Release, marks bool, adoptFrom string, gone func(mesh.Ref) bool) claim {
	object := "customresourcedefinition/" + crd.Name
	if owner := crd.Owners.GitOps(); owner != "" {
		return claim{refusal: gate.Refusal{
			Object: object, Reason: "it belongs to " + owner,
			Cure: "change the version there, and check the outcome with --external",
		}}
	}
	owner := crd.Owners.Helm
	switch {
	case owner == nil:
		return claim{adopt: marks, from: crd.Owners.String()}
	case release != nil && owner.Name == release.Name && owner.Namespace == release.Namespace:
		return claim{}
	case adoptFrom != "" && (adoptFrom == owner.Name || adoptFrom == owner.Namespace+"/"+owner.Name):
		return claim{adopt: marks, from: "release " + owner.String()}
	case gone(*owner):
		return claim{adopt: marks, from: "release " + owner.String() + ", which is gone", gone: owner}
	}
	return claim{refusal: gate.Refusal{
		Object: object, Reason: fmt.Sprintf("it belongs to the Helm release %s", owner),
		Cure: fmt.Sprintf("upgrade that release instead, or take it over with --adopt-from %s/%s", owner.Namespace, owner.Name),
	}}
}

// releaseGone asks whether no record of a release is stored. Not being allowed
// to look counts as there.
func releaseGone(ctx context.Context, c *cluster.Cluster, release mesh.Ref) bool {
	for _, resource := range []string{"secrets", "configmaps"} {
		list, err := c.Metadata.Resource(corev1.SchemeGroupVersion.WithResource(resource)).Namespace(release.Namespace).
			List(ctx, metav1.ListOptions{LabelSelector: "owner=helm,name=" + release.Name, Limit: 1})
		if err != nil && !apierrors.IsNotFound(err) || err == nil && len(list.Items) > 0 {
			return false
		}
	}
	return true
}

// judgeOwners adds refusals, warnings and adoptions to the plan.
func (p *Plan) judgeOwners(ctx context.Context, c *cluster.Cluster, live []mesh.CRD, adoptFrom string) {
	known := map[mesh.Ref]bool{}
	gone := func(release mesh.Ref) bool {
		if _, ok := known[release]; !ok {
			known[release] = releaseGone(ctx, c, release)
		}
		return known[release]
	}
	byRefusal := map[gate.Refusal][]string{}
	var order []gate.Refusal
	var istioctl []string
	stale := map[mesh.Ref]int{}
	for i := range p.CRDs {
		change := &p.CRDs[i]
		at := slices.IndexFunc(live, func(crd mesh.CRD) bool { return crd.Name == change.Name })
		if at < 0 || change.Action == Orphaned {
			continue
		}
		decided := judgeOwner(live[at], p.work.release, p.work.inTemplates && p.work.release != nil, adoptFrom, gone)
		if decided.adopt {
			change.AdoptedFrom = decided.from
			if change.Action == Unchanged || change.Action == Relabelled {
				change.Action = Adopted
			}
		}
		if decided.gone != nil {
			stale[*decided.gone]++
			p.work.stale = append(p.work.stale, change.Name)
		}
		if refusal := decided.refusal; refusal.Reason != "" {
			refusal.Object = ""
			if _, ok := byRefusal[refusal]; !ok {
				order = append(order, refusal)
			}
			byRefusal[refusal] = append(byRefusal[refusal], change.Name)
		}
		if live[at].Owners.Istioctl {
			istioctl = append(istioctl, change.Name)
		}
	}
	for _, refusal := range order {
		refusal.Object = "customresourcedefinitions " + strings.Join(byRefusal[refusal], ", ")
		p.Refusals = append(p.Refusals, refusal)
	}
	for _, release := range slices.SortedFunc(maps.Keys(stale), func(a, b mesh.Ref) int { return strings.Compare(a.String(), b.String()) }) {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d of the definitions bear the marks of release %s, which is not there any more", stale[release], release))
	}
	if len(istioctl) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("istioctl or Istio's operator wrote %d of the definitions: its next run writes them again: %s",
			len(istioctl), strings.Join(istioctl, ", ")))
	}
}
