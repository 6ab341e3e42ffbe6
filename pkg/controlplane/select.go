package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// order is that of the upgrade: what the others need goes first.
var order = []helm.Component{helm.Istio, helm.Istiod, helm.CNI, helm.Ztunnel, helm.Gateway}

// readReleases gives the releases of all namespaces, or of Istio's own where
// the user may not list them everywhere, and those whose records are broken.
func readReleases(ctx context.Context, c *cluster.Cluster, o Options) (found []helm.Release, broken []helm.Undecodable, warnings []string, err error) {
	found, broken, err = helm.ReadReleases(ctx, c, "")
	if apierrors.IsForbidden(err) {
		found, broken, err = helm.ReadReleases(ctx, c, o.istioNamespace())
		warnings = append(warnings, fmt.Sprintf("no right to list Helm releases in all namespaces: only those in %s were looked for", o.istioNamespace()))
	}
	for _, b := range broken {
		warnings = append(warnings, b.String())
	}
	return found, broken, warnings, err
}

// selection is the releases of one control plane, in the order of the upgrade.
type selection struct {
	revision string
	releases []helm.Release
	// left are those of the whole cluster that go with another control plane.
	left []helm.Release
}

// selectReleases chooses the releases of the wanted control plane. It is a pure
// function. Its error is a *gate.BadInput that says what there is to choose
// from.
func selectReleases(all []helm.Release, m *mesh.Mesh, o Options) (selection, error) {
	all = withoutConverted(all, o.istioNamespace())
	var planes []helm.Release
	for _, r := range all {
		if isPlane(r) && inNamespace(r, o) {
			planes = append(planes, r)
		}
	}
	revision, err := wantedRevision(planes, m, o)
	if err != nil {
		return selection{}, err
	}
	s := selection{revision: revision}
	standard := defaultPlane(revisionsOf(planes, m, o), m)
	for _, r := range all {
		if !slices.Contains(order, r.Component) || len(o.Components) > 0 && !slices.Contains(o.Components, asComponent(r.Component)) {
			continue
		}
		switch r.Component {
		case helm.Istiod, helm.Istio:
			if !inNamespace(r, o) || r.IstioRevision != revision {
				continue
			}
		case helm.Gateway:
			if real, _ := m.Resolve(r.IstioRevision); real != revision {
				continue
			}
		default: // one for the whole cluster: goes with the default control plane, where there is one
			if standard != "" && revision != standard && len(o.Components) == 0 {
				s.left = append(s.left, r)
				continue
			}
		}
		s.releases = append(s.releases, r)
	}
	slices.SortStableFunc(s.releases, func(a, b helm.Release) int {
		return cmp.Or(slices.Index(order, a.Component)-slices.Index(order, b.Component),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return s, nil
}

func isPlane(r helm.Release) bool { return r.Component == helm.Istiod || r.Component == helm.Istio }

// inNamespace tells whether a release is of the control plane's namespace. Tiller
// stored its records in its own.
func inNamespace(r helm.Release, o Options) bool { return r.Helm2 || r.Namespace == o.istioNamespace() }

// withoutConverted leaves out what Tiller's records still say of releases that
// Helm of today has: helm 2to3 convert keeps them.
func withoutConverted(all []helm.Release, istioNamespace string) []helm.Release {
	return slices.DeleteFunc(slices.Clone(all), func(old helm.Release) bool {
		return old.Helm2 && slices.ContainsFunc(all, func(r helm.Release) bool {
			return !r.Helm2 && (r.Name == old.Name || isPlane(r) && r.Namespace == istioNamespace)
		})
	})
}

// asComponent lets --component istiod mean the release istio too.
func asComponent(c helm.Component) helm.Component {
	if c == helm.Istio {
		return helm.Istiod
	}
	return c
}

// revisionsOf gives the revisions of the namespace's control planes, sorted: those
// of Helm's releases, and those that something else has installed.
func revisionsOf(planes []helm.Release, m *mesh.Mesh, o Options) []string {
	var have []string
	for _, r := range planes {
		have = append(have, r.IstioRevision)
	}
	for _, p := range m.ControlPlanes {
		if p.Namespace == o.istioNamespace() {
			have = append(have, p.Revision)
		}
	}
	slices.Sort(have)
	return slices.Compact(have)
}

// defaultPlane gives the revision that is the default one: that without a name, or
// the one to which the tag default leads; "" where there is none.
func defaultPlane(have []string, m *mesh.Mesh) string {
	if slices.Contains(have, mesh.DefaultRevision) {
		return mesh.DefaultRevision
	}
	if real, ok := m.Resolve(mesh.DefaultRevision); ok && slices.Contains(have, real) {
		return real
	}
	return ""
}

func wantedRevision(planes []helm.Release, m *mesh.Mesh, o Options) (string, error) {
	have := revisionsOf(planes, m, o)
	switch {
	case o.Revision != "":
		revision, ok := m.Resolve(o.Revision)
		if !ok && !slices.Contains(have, revision) {
			return "", gate.BadInputf("there is no control plane with the revision or tag %q in %s; there is: %s",
				o.Revision, o.istioNamespace(), cmp.Or(strings.Join(have, ", "), "none"))
		}
		return revision, inOther(m, revision, have, o)
	case len(have) == 0:
		return "", absent(m, o)
	case len(have) == 1:
		return have[0], nil
	case defaultPlane(have, m) != "":
		return defaultPlane(have, m), nil
	}
	return "", gate.BadInputf("there are several control planes in %s; choose one with --revision: %s", o.istioNamespace(), strings.Join(have, ", "))
}

// inOther refuses a revision whose control plane is in another namespace.
func inOther(m *mesh.Mesh, revision string, have []string, o Options) error {
	if slices.Contains(have, revision) {
		return nil
	}
	for _, p := range m.ControlPlanes {
		if p.Revision == revision {
			return gate.BadInputf("the control plane of revision %q is in namespace %s, not in %s: give -i %s", revision, p.Namespace, o.istioNamespace(), p.Namespace)
		}
	}
	return nil
}

// absent words that the namespace has no control plane.
func absent(m *mesh.Mesh, o Options) error {
	if len(m.Unreadable) > 0 {
		return fmt.Errorf("no control plane was found, and you may not read: %s", strings.Join(m.Unreadable, ", "))
	}
	var elsewhere []string
	for _, p := range m.ControlPlanes {
		elsewhere = append(elsewhere, p.Namespace)
	}
	if len(elsewhere) > 0 {
		return gate.BadInputf("no control plane in namespace %s; there is one in %s: give -i", o.istioNamespace(), strings.Join(slices.Compact(elsewhere), ", "))
	}
	if len(m.Injectors) > 0 {
		return gate.BadInputf("no control plane runs in this cluster, only an injector: upgrade the primary cluster")
	}
	return gate.BadInputf("no Istio control plane in this cluster; look at --context, or install Istio first")
}
