package crds

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// legacyRelease is the name under which the chart istio-init is installed.
const legacyRelease = "istio-init"

// chooseRelease gives the release that brings the definitions, nil where there
// is none: among those of the charts base and istio-init the one that owns the
// most definitions, then the one that holds any, then the one in Istio's
// namespace. A tie, and a release that only Helm 2 can touch, are
// *gate.BadInput.
func chooseRelease(releases []helm.Release, live []mesh.CRD, istioNamespace string) (*helm.Release, error) {
	type candidate struct {
		release *helm.Release
		score   int
	}
	var candidates []candidate
	for i := range releases {
		r := &releases[i]
		if r.Component != helm.Base && r.Component != helm.IstioInit {
			continue
		}
		if r.Helm2 {
			if converted(releases, r) {
				continue
			}
			return nil, gate.BadInputf("%s was stored by Helm 2, which only Helm 2 can change: convert it with the plugin helm-2to3 (helm 2to3 convert %s), then run this again", r, r.Name)
		}
		score := 0
		for _, crd := range live {
			if o := crd.Owners.Helm; o != nil && o.Name == r.Name && o.Namespace == r.Namespace {
				score += 100
			}
		}
		if holdsCRDs(r) {
			score += 10
		}
		if r.Namespace == istioNamespace {
			score++
		}
		candidates = append(candidates, candidate{r, score})
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	if len(candidates) > 1 && candidates[0].score == candidates[1].score {
		return nil, gate.BadInputf("both %s and %s may own the CustomResourceDefinitions: see by helm get manifest which of them has them; before you uninstall the other, make sure that every definition has the annotation helm.sh/resource-policy: keep, or its objects are deleted with it", candidates[0].release, candidates[1].release)
	}
	return candidates[0].release, nil
}

// WithOwners gives the definitions with the release that brings them as their
// owner, where nobody has left a mark: from the chart's crds folder (base up to
// 1.23) and by the Jobs of istio-init Helm marks nothing. The release is the one
// that the step would upgrade; where that cannot be told, they stay as they are.
func WithOwners(live []mesh.CRD, releases []helm.Release, istioNamespace string) []mesh.CRD {
	release, err := chooseRelease(releases, live, istioNamespace)
	if err != nil || release == nil {
		return live
	}
	objects, err := helm.ParseManifest(release.Manifest)
	if err != nil {
		return live
	}
	brings, _, err := chartCRDs(release.Chart, &helm.Rendered{Objects: objects}, false)
	if err != nil {
		return live
	}
	owned := slices.Clone(live)
	for i := range owned {
		crd := &owned[i]
		if crd.Owners == (mesh.Owners{}) && slices.ContainsFunc(brings, func(t target) bool { return t.Name == crd.Name }) {
			crd.Owners.Helm = &mesh.Ref{Namespace: release.Namespace, Name: release.Name}
		}
	}
	return owned
}

// converted says whether a Helm 2 release is also there in Helm 3's form.
func converted(releases []helm.Release, tiller *helm.Release) bool {
	return slices.ContainsFunc(releases, func(r helm.Release) bool { return !r.Helm2 && r.Name == tiller.Name })
}

func holdsCRDs(r *helm.Release) bool {
	return strings.Contains(r.Manifest, "kind: CustomResourceDefinition") || strings.Contains(r.Manifest, "istio-init-crd")
}

// ownManager begins the name of the field manager under which our runs store
// Helm's records: the API server takes it from the user agent.
const ownManager = "kubectl-istio-upgrade"

// stopped says whether a release is pending because a run of ours was killed.
func stopped(r *helm.Release) bool { return r.Pending() && strings.HasPrefix(r.StoredBy, ownManager) }

// releaseRefusals says why a release must not be touched as it stands. One that
// a killed run of ours left pending is taken up where it stopped; whether
// anybody else's is still at work cannot be told.
func releaseRefusals(r *helm.Release) []gate.Refusal {
	var refusals []gate.Refusal
	if r.Pending() && !stopped(r) {
		refusals = append(refusals, gate.Refusal{
			Object: r.String(), Forceable: true,
			Reason: fmt.Sprintf("it is in the state %s since %s: somebody is at work on it, or was stopped", r.Status, r.Updated.Local().Format("2006-01-02 15:04 MST")),
			Cure:   fmt.Sprintf("wait for it, or go back with: helm rollback %s --namespace %s", r.Name, r.Namespace),
		})
	}
	if strings.Contains(r.StoredBy, "helm-controller") {
		refusals = append(refusals, gate.Refusal{
			Object: r.String(), Reason: "Flux writes it",
			Cure: "change the version in its HelmRelease, and check the outcome with --external",
		})
	}
	return refusals
}

// goesFrom gives the revision of a release whose values are kept and whose objects
// the new ones are compared with.
func goesFrom(ctx context.Context, c *cluster.Cluster, newest helm.Release) (helm.Release, error) {
	if newest.Deployed() {
		return newest, nil
	}
	history, err := helm.History(ctx, c, newest.Namespace, newest.Name)
	if err != nil {
		return helm.Release{}, err
	}
	return inForce(newest, history), nil
}

// inForce gives the revision that Helm takes for the one before: of the history,
// newest first, the one that is deployed, also where a newer one failed or never
// ended; the newest where none is, and of istio-init, whose uninstallation takes
// that (helm/helm:pkg/action/upgrade.go, uninstall.go).
func inForce(newest helm.Release, history []helm.Release) helm.Release {
	if at := slices.IndexFunc(history, helm.Release.Deployed); at >= 0 && newest.Component != helm.IstioInit {
		return history[at]
	}
	return newest
}

// removalRefusals says why deleting the legacy release would take more away
// than its Jobs: definitions without a keep policy in the stored manifest
// (Helm reads it from there when it uninstalls), custom resources, namespaces,
// and hooks that run upon deletion.
func removalRefusals(r *helm.Release, stored []*unstructured.Unstructured, live []mesh.CRD) []gate.Refusal {
	var refusals []gate.Refusal
	refuse := func(object, reason, cure string) {
		refusals = append(refusals, gate.Refusal{Object: object, Reason: reason, Cure: cure})
	}
	for _, object := range stored {
		kind, group := object.GetKind(), object.GroupVersionKind().Group
		holdsData := kind == "CustomResourceDefinition" || kind == "Namespace" || mesh.IsIstioGroup(group)
		if !holdsData || mesh.Kept(object.GetAnnotations()) {
			continue
		}
		refuse(strings.ToLower(kind)+"/"+object.GetName(),
			fmt.Sprintf("it is part of %s, and deleting that would delete it", r),
			fmt.Sprintf("remove it from the release first, or give it the annotation %s: %s there", mesh.KeepAnnotation, mesh.KeepValue))
	}
	for _, hook := range r.Hooks {
		objects, err := helm.ParseManifest(hook)
		if err != nil {
			refuse(r.String(), "one of its hooks cannot be read: "+err.Error(), "look at it with helm get hooks")
			continue
		}
		for _, object := range objects {
			if events := object.GetAnnotations()["helm.sh/hook"]; strings.Contains(events, "delete") {
				refuse(r.String(), fmt.Sprintf("its hook %s %s runs when it is deleted (%s)", object.GetKind(), object.GetName(), events),
					"make sure that the hook deletes no definition, and remove it from the release")
			}
		}
	}
	for _, crd := range live {
		if owners := crd.Object.OwnerReferences; len(owners) > 0 {
			refuse("customresourcedefinition/"+crd.Name, fmt.Sprintf("it is deleted together with its owner %s %s", owners[0].Kind, owners[0].Name),
				"remove its ownerReferences")
		}
	}
	return refusals
}

func objectKey(o *unstructured.Unstructured) string {
	return o.GetAPIVersion() + "/" + o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

// sameObjects says whether two manifests hold the same objects, whatever their
// order.
func sameObjects(a, b []*unstructured.Unstructured) bool {
	if len(a) != len(b) {
		return false
	}
	byKey := map[string]*unstructured.Unstructured{}
	for _, object := range a {
		byKey[objectKey(object)] = object
	}
	for _, object := range b {
		other, ok := byKey[objectKey(object)]
		if !ok || !equality.Semantic.DeepEqual(other.Object, object.Object) {
			return false
		}
	}
	return true
}
