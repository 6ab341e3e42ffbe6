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
// the user may not list them everywhere.
func readReleases(ctx context.Context, c *cluster.Cluster, o Options) ([]helm.Release, []string, error) {
	found, err := helm.Releases(ctx, c, "")
	if !apierrors.IsForbidden(err) {
		return found, nil, err
	}
	found, err = helm.Releases(ctx, c, o.istioNamespace())
	note := fmt.Sprintf("no right to list Helm releases in all namespaces: only those in %s were looked for", o.istioNamespace())
	return found, []string{note}, err
}

// selection is the releases of one control plane, in the order of the upgrade.
type selection struct {
	revision string
	releases []helm.Release
}

// selectReleases chooses the releases of the wanted control plane. It is a pure
// function. Its error is a *gate.BadInput that says what there is to choose
// from.
func selectReleases(all []helm.Release, m *mesh.Mesh, o Options) (selection, error) {
	var planes []helm.Release
	for _, r := range all {
		if (r.Component == helm.Istiod || r.Component == helm.Istio) && (r.Namespace == o.istioNamespace()) {
			planes = append(planes, r)
		}
	}
	revision, err := wantedRevision(planes, m, o)
	if err != nil {
		return selection{}, err
	}
	s := selection{revision: revision}
	for _, r := range all {
		if !slices.Contains(order, r.Component) || len(o.Components) > 0 && !slices.Contains(o.Components, asComponent(r.Component)) {
			continue
		}
		switch r.Component {
		case helm.Istiod, helm.Istio:
			if r.Namespace != o.istioNamespace() || r.IstioRevision != revision {
				continue
			}
		case helm.Gateway:
			if real, _ := m.Resolve(r.IstioRevision); real != revision {
				continue
			}
		default: // one for the whole cluster: goes with the default control plane, or the only one
			if len(planes) > 1 && revision != mesh.DefaultRevision {
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

// asComponent lets --component istiod mean the release istio too.
func asComponent(c helm.Component) helm.Component {
	if c == helm.Istio {
		return helm.Istiod
	}
	return c
}

func wantedRevision(planes []helm.Release, m *mesh.Mesh, o Options) (string, error) {
	var have []string
	for _, r := range planes {
		have = append(have, r.IstioRevision)
	}
	for _, p := range m.ControlPlanes {
		if p.Namespace == o.istioNamespace() && !slices.Contains(have, p.Revision) {
			have = append(have, p.Revision)
		}
	}
	slices.Sort(have)
	switch {
	case o.Revision != "":
		revision, ok := m.Resolve(o.Revision)
		if !ok && !slices.Contains(have, revision) {
			return "", gate.BadInputf("there is no control plane with the revision or tag %q in %s; there is: %s",
				o.Revision, o.istioNamespace(), cmp.Or(strings.Join(have, ", "), "none"))
		}
		return revision, nil
	case len(have) == 0:
		return "", absent(m, o)
	case len(have) == 1:
		return have[0], nil
	case slices.Contains(have, mesh.DefaultRevision):
		return mesh.DefaultRevision, nil
	}
	return "", gate.BadInputf("there are several control planes in %s; choose one with --revision: %s", o.istioNamespace(), strings.Join(have, ", "))
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
	return gate.BadInputf("no Istio control plane in this cluster")
}
