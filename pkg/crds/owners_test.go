package crds

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	chartcommon "helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

func owned(by mesh.Owners) mesh.CRD { return mesh.CRD{Name: "a.networking.istio.io", Owners: by} }

func TestJudgeOwner(t *testing.T) {
	base := &helm.Release{Name: "istio-base", Namespace: "istio-system"}
	ours, other := &mesh.Ref{Namespace: "istio-system", Name: "istio-base"}, &mesh.Ref{Namespace: "infra", Name: "umbrella"}
	for _, c := range []struct {
		name      string
		owners    mesh.Owners
		release   *helm.Release
		marks     bool
		adoptFrom string
		gone      bool
		adopt     bool
		refusal   string
	}{
		{"nobody's, Helm writes", mesh.Owners{}, base, true, "", false, true, ""},
		{"nobody's, a crds folder", mesh.Owners{}, base, false, "", false, false, ""},
		{"nobody's, no release", mesh.Owners{}, nil, false, "", false, false, ""},
		{"ours", mesh.Owners{Helm: ours}, base, true, "", false, false, ""},
		{"same name elsewhere", mesh.Owners{Helm: &mesh.Ref{Namespace: "x", Name: "istio-base"}}, base, true, "", false, false, "istio-base in x"},
		{"another's", mesh.Owners{Helm: other}, base, true, "", false, false, "umbrella in infra"},
		{"another's, no release", mesh.Owners{Helm: other}, nil, false, "", false, false, "umbrella in infra"},
		{"another's by name", mesh.Owners{Helm: other}, base, true, "umbrella", false, true, ""},
		{"another's by namespace and name", mesh.Owners{Helm: other}, base, true, "infra/umbrella", false, true, ""},
		{"not the one named", mesh.Owners{Helm: other}, base, true, "x/umbrella", false, false, "umbrella in infra"},
		{"another's that is gone", mesh.Owners{Helm: other}, base, true, "", true, true, ""},
		{"Argo CD's", mesh.Owners{ArgoCD: "mesh"}, base, true, "umbrella", false, false, "Argo CD Application mesh"},
		{"Flux's through our release", mesh.Owners{Helm: ours, Flux: "HelmRelease base in flux"}, base, true, "", false, false, "Flux HelmRelease base in flux"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := judgeOwner(owned(c.owners), c.release, c.marks, c.adoptFrom, func(mesh.Ref) bool { return c.gone })
			if got.adopt != c.adopt || (got.refusal.Reason != "") != (c.refusal != "") || !strings.Contains(got.refusal.Reason, c.refusal) {
				t.Errorf("got %+v", got)
			}
			if got.refusal.Forceable {
				t.Error("a foreign owner must not be forceable")
			}
		})
	}
}

// TestWithOwners tells whose definitions are that bear no marks.
func TestWithOwners(t *testing.T) {
	text := definition(version("v1", true, hosts))
	live := crd(t, text)
	other := live
	other.Name = "others.networking.istio.io"
	istioctl := live
	istioctl.Owners = mesh.Owners{Istioctl: true}
	folder := helm.Release{
		Name: "istio-base", Namespace: "istio-system", Component: helm.Base,
		Chart: &helm.Chart{Component: helm.Base, Chart: &chart.Chart{Files: []*chartcommon.File{{Name: "crds/crd-all.gen.yaml", Data: []byte(text)}}}},
	}
	jobs := helm.Release{
		Name: "istio-init", Namespace: "istio-system", Component: helm.IstioInit, Chart: &helm.Chart{Component: helm.IstioInit, Chart: &chart.Chart{}},
		Manifest: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-crd-10}\ndata:\n  crd-10.yaml: |\n    " + strings.ReplaceAll(text, "\n", "\n    "),
	}
	for _, c := range []struct {
		name    string
		release []helm.Release
		want    []string
	}{
		{"a crds folder", []helm.Release{folder}, []string{"release istio-base in istio-system", "nobody", "istioctl"}},
		{"Jobs", []helm.Release{jobs}, []string{"release istio-init in istio-system", "nobody", "istioctl"}},
		{"no release", nil, []string{"nobody", "nobody", "istioctl"}},
	} {
		got := WithOwners([]mesh.CRD{live, other, istioctl}, c.release, "istio-system")
		for i, want := range c.want {
			if owner := got[i].Owners.String(); !strings.Contains(owner, strings.TrimPrefix(want, "release ")) {
				t.Errorf("%s: %s is of %q, want %q", c.name, got[i].Name, owner, want)
			}
		}
	}
	if live.Owners.Helm != nil {
		t.Error("what was read is changed")
	}
}

func TestChooseRelease(t *testing.T) {
	base := helm.Release{Name: "istio-base", Namespace: "istio-system", Component: helm.Base}
	other := helm.Release{Name: "base", Namespace: "other", Component: helm.Base}
	vendor := helm.Release{Name: "ack", Namespace: "kube-system", Component: helm.IstioInit, Manifest: "name: istio-init-crd-10"}
	tiller := helm.Release{Name: "istio-init", Namespace: "kube-system", Component: helm.IstioInit, Helm2: true}
	convertedInit := helm.Release{Name: "istio-init", Namespace: "istio-system", Component: helm.IstioInit}
	istiod := helm.Release{Name: "istiod", Namespace: "istio-system", Component: helm.Istiod}
	owns := []mesh.CRD{owned(mesh.Owners{Helm: &mesh.Ref{Namespace: "other", Name: "base"}})}
	for _, c := range []struct {
		name     string
		releases []helm.Release
		live     []mesh.CRD
		want     string
		err      string
	}{
		{"none", []helm.Release{istiod}, nil, "", ""},
		{"the only one", []helm.Release{istiod, base}, nil, "istio-base", ""},
		{"Istio's namespace first", []helm.Release{other, base}, nil, "istio-base", ""},
		{"the owner before that", []helm.Release{other, base}, owns, "base", ""},
		{"what applies definitions", []helm.Release{vendor, base}, nil, "ack", ""},
		{"Helm 2", []helm.Release{tiller}, nil, "", "helm 2to3 convert istio-init"},
		{"Helm 2, converted", []helm.Release{tiller, convertedInit}, nil, "istio-init", ""},
		{"undecided", []helm.Release{other, {Name: "base2", Namespace: "other2", Component: helm.Base}}, nil, "", "may own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := chooseRelease(c.releases, c.live, "istio-system")
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error: %v", err)
			}
			name := ""
			if got != nil {
				name = got.Name
			}
			if name != c.want {
				t.Errorf("got %q", name)
			}
		})
	}
}

func TestReleaseRefusals(t *testing.T) {
	for _, c := range []struct {
		release helm.Release
		want    int
	}{
		{helm.Release{Status: "deployed", StoredBy: "helm"}, 0},
		{helm.Release{Status: "failed"}, 0},
		{helm.Release{Status: "pending-upgrade", StoredBy: "helm"}, 1},
		{helm.Release{Status: "pending-upgrade", StoredBy: "kubectl-istio-upgrade"}, 0},
		{helm.Release{Status: "deployed", StoredBy: "helm-controller"}, 1},
	} {
		if got := releaseRefusals(&c.release); len(got) != c.want {
			t.Errorf("%+v: %+v", c.release, got)
		}
	}
}

func TestInForce(t *testing.T) {
	history := func(component helm.Component, statuses ...string) []helm.Release {
		var all []helm.Release
		for i, status := range statuses {
			all = append(all, helm.Release{Component: component, Revision: len(statuses) - i, Status: status})
		}
		return all
	}
	for _, c := range []struct {
		name    string
		history []helm.Release // the newest first
		want    int
	}{
		{"deployed", history(helm.Base, "deployed", "superseded"), 2},
		{"failed", history(helm.Base, "failed", "failed", "deployed", "superseded"), 2},
		{"never ended", history(helm.Base, "pending-upgrade", "deployed"), 1},
		{"nothing in force", history(helm.Base, "failed", "superseded"), 2},
		{"uninstalled and installed anew", history(helm.IstioInit, "failed", "deployed"), 2},
	} {
		if got := inForce(c.history[0], c.history); got.Revision != c.want {
			t.Errorf("%s: revision %d, want %d", c.name, got.Revision, c.want)
		}
	}
}

// TestRemovalRefusals is what must not be in a legacy release that is deleted.
func TestRemovalRefusals(t *testing.T) {
	text := definition(version("v1", true, hosts))
	owned := crd(t, strings.Replace(text, "metadata:", "metadata:\n  ownerReferences: [{kind: Job, name: init, apiVersion: batch/v1, uid: x}]", 1))
	job := parse(t, "apiVersion: batch/v1\nkind: Job\nmetadata: {name: istio-init-crd-10}")
	for _, c := range []struct {
		name   string
		stored []*unstructured.Unstructured
		hooks  []string
		live   []mesh.CRD
		want   string
	}{
		{"Jobs", []*unstructured.Unstructured{job}, nil, []mesh.CRD{crd(t, text)}, ""},
		{"a kept definition", []*unstructured.Unstructured{job, parse(t, text)}, nil, nil, ""},
		{"a definition", []*unstructured.Unstructured{parse(t, strings.Replace(text, "resource-policy: keep", "resource-policy: none", 1))}, nil, nil, "customresourcedefinition/virtualservices"},
		{"a custom resource", []*unstructured.Unstructured{parse(t, "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}")}, nil, nil, "gateway/g"},
		{"a namespace", []*unstructured.Unstructured{parse(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}")}, nil, nil, "namespace/prod"},
		{"an installation hook", nil, []string{"apiVersion: batch/v1\nkind: Job\nmetadata: {name: h, annotations: {helm.sh/hook: post-install}}"}, nil, ""},
		{"a deletion hook", nil, []string{"apiVersion: batch/v1\nkind: Job\nmetadata: {name: cleanup, annotations: {helm.sh/hook: post-delete}}"}, nil, "cleanup"},
		{"an owner that goes", nil, nil, []mesh.CRD{owned}, "Job init"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := removalRefusals(&helm.Release{Name: "istio-init", Namespace: "istio-system", Hooks: c.hooks}, c.stored, c.live)
			if (len(got) > 0) != (c.want != "") {
				t.Fatalf("got %+v", got)
			}
			if len(got) > 0 && (got[0].Forceable || !strings.Contains(got[0].String(), c.want)) {
				t.Errorf("got %s", got[0])
			}
		})
	}
}

func TestSameObjects(t *testing.T) {
	a, b := parse(t, "kind: A\nmetadata: {name: x}"), parse(t, "kind: B\nmetadata: {name: x}")
	changed := parse(t, "kind: B\nmetadata: {name: x}\ndata: {k: v}")
	for _, c := range []struct {
		name        string
		left, right []*unstructured.Unstructured
		want        bool
	}{
		{"order", []*unstructured.Unstructured{a, b}, []*unstructured.Unstructured{b, a}, true},
		{"one more", []*unstructured.Unstructured{a}, []*unstructured.Unstructured{b, a}, false},
		{"content", []*unstructured.Unstructured{a, b}, []*unstructured.Unstructured{a, changed}, false},
		{"other objects", []*unstructured.Unstructured{a}, []*unstructured.Unstructured{b}, false},
	} {
		if got := sameObjects(c.left, c.right); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
