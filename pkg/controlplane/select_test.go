package controlplane

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

func rel(namespace, name string, component helm.Component, revision string) helm.Release {
	return helm.Release{Namespace: namespace, Name: name, Component: component, IstioRevision: revision}
}

func TestSelectReleases(t *testing.T) {
	t.Parallel()
	single := []helm.Release{
		rel("gw", "web", helm.Gateway, "default"),
		rel("istio-system", "base", helm.Base, "default"),
		rel("istio-system", "cni", helm.CNI, "default"),
		rel("istio-system", "istiod", helm.Istiod, "default"),
		rel("istio-system", "ztunnel", helm.Ztunnel, "default"),
		rel("other-mesh", "istiod", helm.Istiod, "default"),
	}
	two := []helm.Release{
		rel("gw", "new", helm.Gateway, "prod"),
		rel("gw", "old", helm.Gateway, "default"),
		rel("istio-system", "cni", helm.CNI, "default"),
		rel("istio-system", "istiod", helm.Istiod, "default"),
		rel("istio-system", "istiod-canary", helm.Istiod, "canary"),
	}
	tagged := &mesh.Mesh{Webhooks: mesh.Webhooks{Injectors: []mesh.Injector{{Revision: "canary", Tag: "prod"}}}}
	named := []helm.Release{
		rel("istio-system", "cni", helm.CNI, "default"),
		rel("istio-system", "istiod-a", helm.Istiod, "a"),
		rel("istio-system", "istiod-b", helm.Istiod, "b"),
	}
	leads := &mesh.Mesh{Webhooks: mesh.Webhooks{Injectors: []mesh.Injector{{Revision: "b", Tag: "default"}}}}
	tiller := rel("kube-system", "istio", helm.Istio, "default")
	tiller.Helm2 = true
	for name, c := range map[string]struct {
		all     []helm.Release
		mesh    *mesh.Mesh
		options Options
		want    string // names in order, or the error
	}{
		"all of the only one": {single, &mesh.Mesh{}, Options{}, "istiod cni ztunnel web"},
		"one component":       {single, &mesh.Mesh{}, Options{Components: []helm.Component{helm.CNI}}, "cni"},
		"default among two":   {two, tagged, Options{}, "istiod cni old"},
		"by revision":         {two, tagged, Options{Revision: "canary"}, "istiod-canary new"},
		"by tag":              {two, tagged, Options{Revision: "prod"}, "istiod-canary new"},
		"unknown revision":    {two, tagged, Options{Revision: "x"}, "error: there is: canary, default"},
		"other namespace":     {single, &mesh.Mesh{}, Options{IstioNamespace: "other-mesh"}, "istiod cni ztunnel web"},
		"two, none default": {
			[]helm.Release{rel("istio-system", "a", helm.Istiod, "a"), rel("istio-system", "b", helm.Istiod, "b")},
			&mesh.Mesh{},
			Options{},
			"error: choose one with --revision: a, b",
		},
		"two, and the tag default leads to one": {named, leads, Options{}, "istiod-b cni"},
		"… by its revision":                     {named, leads, Options{Revision: "b"}, "istiod-b cni"},
		"… the other one":                       {named, leads, Options{Revision: "a"}, "istiod-a"},
		"… the other one, by component":         {named, leads, Options{Revision: "a", Components: []helm.Component{helm.CNI}}, "cni"},
		"two, and no tag leads to any":          {named, &mesh.Mesh{}, Options{Revision: "a"}, "istiod-a cni"},
		"Tiller's":                              {[]helm.Release{tiller}, &mesh.Mesh{}, Options{}, "istio"},
		"converted":                             {[]helm.Release{tiller, rel("istio-system", "istio", helm.Istio, "default"), single[0]}, &mesh.Mesh{}, Options{}, "istio web"},
		"Tiller's, forgotten":                   {[]helm.Release{tiller, single[3]}, &mesh.Mesh{}, Options{}, "istiod"},
		"revision of another namespace": {
			single[:4], &mesh.Mesh{ControlPlanes: []mesh.ControlPlane{{Namespace: "mesh", Revision: "canary"}}},
			Options{Revision: "canary"},
			`error: "canary" is in namespace mesh, not in istio-system: give -i mesh`,
		},
		"nothing":       {nil, &mesh.Mesh{}, Options{}, "error: no Istio control plane in this cluster"},
		"elsewhere":     {nil, &mesh.Mesh{ControlPlanes: []mesh.ControlPlane{{Namespace: "mesh"}}}, Options{}, "error: there is one in mesh: give -i"},
		"injector only": {nil, &mesh.Mesh{Webhooks: mesh.Webhooks{Injectors: []mesh.Injector{{Revision: "default"}}}}, Options{}, "error: upgrade the primary cluster"},
		"legacy": {
			[]helm.Release{rel("istio-system", "istio", helm.Istio, "default"), rel("istio-system", "istio-init", helm.IstioInit, "default")},
			&mesh.Mesh{},
			Options{Components: []helm.Component{helm.Istiod}},
			"istio",
		},
	} {
		got, err := selectReleases(c.all, c.mesh, c.options)
		if text, isErr := strings.CutPrefix(c.want, "error: "); isErr {
			var bad *gate.BadInput
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, text) {
				t.Errorf("%s: want a BadInput with %q, got %v", name, text, err)
			}
			continue
		}
		var names []string
		for _, r := range got.releases {
			names = append(names, r.Name)
		}
		if diff := cmp.Diff(c.want, strings.Join(names, " ")); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}
