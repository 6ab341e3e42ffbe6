package crds

import (
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// compare gives what happens to each definition of the target and of the
// cluster, by name. marks says whether labels and annotations count: Jobs and
// other pipelines leave their own.
func compare(targets []target, live []mesh.CRD, marks bool) []Change {
	changes := []Change{}
	for _, t := range targets {
		change := Change{Name: t.Name, VersionsAdded: []string{}, VersionsRemoved: []string{}}
		at := slices.IndexFunc(live, func(c mesh.CRD) bool { return c.Name == t.Name })
		if at < 0 {
			change.Action, change.VersionsAdded = Created, versionNames(t.Versions)
			change.Owner = mesh.Owners{}.String()
			changes = append(changes, change)
			continue
		}
		have := live[at]
		change.Owner = have.Owners.String()
		change.VersionsAdded = without(versionNames(t.Versions), versionNames(have.Versions))
		change.VersionsRemoved = without(versionNames(have.Versions), versionNames(t.Versions))
		if from, to := have.Storage(), t.Storage(); from != to {
			change.StorageFrom, change.StorageTo = from, to
		}
		switch {
		case !equality.Semantic.DeepEqual(defaulted(have.Object), defaulted(t.Object)):
			change.Action = Changed
		case marks && !marksHold(t.Object, have.Object):
			change.Action = Relabelled
		default:
			change.Action = Unchanged
		}
		changes = append(changes, change)
	}
	for _, have := range live {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.Name == have.Name }) {
			changes = append(changes, Change{
				Name: have.Name, Action: Orphaned, Owner: have.Owners.String(),
				VersionsAdded: []string{}, VersionsRemoved: []string{},
			})
		}
	}
	return changes
}

// defaulted gives the spec with the defaults that the API server fills in.
func defaulted(crd *apiextensionsv1.CustomResourceDefinition) apiextensionsv1.CustomResourceDefinitionSpec {
	spec := *crd.Spec.DeepCopy()
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&spec)
	return spec
}

// marksHold says whether all labels and annotations of the target are there.
func marksHold(want, have *apiextensionsv1.CustomResourceDefinition) bool {
	return subset(want.Labels, have.Labels) && subset(want.Annotations, have.Annotations)
}

func subset(want, have map[string]string) bool {
	for key, value := range want {
		if have[key] != value {
			return false
		}
	}
	return true
}

func versionNames(versions []mesh.VersionInfo) []string {
	names := []string{}
	for _, v := range versions {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	return names
}

// without gives what of a is not in b; never nil.
func without(a, b []string) []string {
	rest := []string{}
	for _, s := range a {
		if !slices.Contains(b, s) {
			rest = append(rest, s)
		}
	}
	return rest
}
