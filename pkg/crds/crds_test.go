package crds

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	chartcommon "helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// virtualServices is a small definition; %VERSIONS% are its versions.
const virtualServices = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: virtualservices.networking.istio.io
  labels: {app: istio-pilot}
  annotations: {helm.sh/resource-policy: keep}
spec:
  group: networking.istio.io
  names: {kind: VirtualService, plural: virtualservices}
  scope: Namespaced
  versions:
%VERSIONS%`

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func version(name string, storage bool, spec string) string {
	return "  - {name: " + name + ", served: true, storage: " + map[bool]string{true: "true", false: "false"}[storage] +
		", schema: {openAPIV3Schema: {type: object, properties: {spec: " + spec + "}}}}\n"
}

const hosts = "{type: object, properties: {hosts: {type: array, items: {type: string}}}}"

func definition(versions ...string) string {
	return strings.Replace(virtualServices, "%VERSIONS%", strings.Join(versions, ""), 1)
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := helm.ParseManifest(text)
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects[0]
}

func crd(t *testing.T, text string) mesh.CRD {
	t.Helper()
	made, err := mesh.NewCRD(parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return *made
}

func targetOf(t *testing.T, text string) target {
	t.Helper()
	made := crd(t, text)
	return target{&made}
}

func TestCompare(t *testing.T) {
	old, both := definition(version("v1beta1", true, hosts)), definition(version("v1beta1", false, hosts), version("v1", true, hosts))
	relabelled := strings.Replace(old, "app: istio-pilot", "app: istio-pilot, app.kubernetes.io/version: 1.31.0", 1)
	none := []string{}
	for _, c := range []struct {
		name         string
		target, live string
		marks        bool
		want         Change
	}{
		{"created", old, "", true, Change{Action: Created, VersionsAdded: []string{"v1beta1"}, VersionsRemoved: none}},
		{"unchanged", old, old, true, Change{Action: Unchanged, VersionsAdded: none, VersionsRemoved: none}},
		{"orphaned", "", old, true, Change{Action: Orphaned, VersionsAdded: none, VersionsRemoved: none}},
		{"version added and storage moved", both, old, true, Change{
			Action: Changed, VersionsAdded: []string{"v1"}, VersionsRemoved: none, StorageFrom: "v1beta1", StorageTo: "v1",
		}},
		{"version removed", old, both, true, Change{
			Action: Changed, VersionsAdded: none, VersionsRemoved: []string{"v1"}, StorageFrom: "v1", StorageTo: "v1beta1",
		}},
		{"a field more", definition(version("v1beta1", true, "{type: object}")), old, true, Change{Action: Changed, VersionsAdded: none, VersionsRemoved: none}},
		{"labels only", relabelled, old, true, Change{Action: Relabelled, VersionsAdded: none, VersionsRemoved: none}},
		{"labels of others", relabelled, old, false, Change{Action: Unchanged, VersionsAdded: none, VersionsRemoved: none}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var targets []target
			var live []mesh.CRD
			if c.target != "" {
				targets = append(targets, targetOf(t, c.target))
			}
			if c.live != "" {
				live = append(live, crd(t, c.live))
			}
			c.want.Name, c.want.Owner = "virtualservices.networking.istio.io", "nobody"
			if diff := cmp.Diff([]Change{c.want}, compare(targets, live, c.marks)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDefaultsAreNoChange compares with what the API server makes of the
// definition: names and conversion filled in.
func TestDefaultsAreNoChange(t *testing.T) {
	text := definition(version("v1", true, hosts))
	stored := strings.Replace(text, "plural: virtualservices}", "plural: virtualservices, singular: virtualservice, listKind: VirtualServiceList}\n  conversion: {strategy: None}", 1)
	if got := compare([]target{targetOf(t, text)}, []mesh.CRD{crd(t, stored)}, true)[0].Action; got != Unchanged {
		t.Error(got)
	}
}

func TestOlderThan(t *testing.T) {
	full := definition(version("v1", true, hosts))
	more := definition(version("v1", true, "{type: object, properties: {hosts: {type: array, items: {type: object, properties: {port: {type: integer}}}}}}"))
	open := definition(version("v1", true, "{type: object, x-kubernetes-preserve-unknown-fields: true}"))
	for _, c := range []struct{ name, live, target, want string }{
		{"same", full, full, ""},
		{"missing", "", full, "virtualservices.networking.istio.io is missing"},
		{"version missing", definition(version("v1beta1", true, hosts)), full, "virtualservices.networking.istio.io lacks version v1"},
		{"not served", strings.Replace(full, "served: true", "served: false", 1), full, "virtualservices.networking.istio.io does not serve version v1"},
		{"field missing", definition(version("v1", true, "{type: object}")), full, "virtualservices.networking.istio.io lacks the field spec.hosts of version v1"},
		{"field of a list missing", full, more, "virtualservices.networking.istio.io lacks the field spec.hosts[].port of version v1"},
		{"newer than the target", more, full, ""},
		{"keeps unknown fields", open, more, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var live []mesh.CRD
			if c.live != "" {
				live = append(live, crd(t, c.live))
			}
			if got := strings.Join(olderThan(live, []target{targetOf(t, c.target)}), "; "); got != c.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestReleasesGrow checks on Istio's own definitions that a later release is
// never older than an earlier one, and that the earlier one is.
func TestReleasesGrow(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "shared", "corpus", "crds")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("the corpus of Istio's published definitions is not here: %v", err)
	}
	read := func(tag string) ([]mesh.CRD, []target) {
		text, err := os.ReadFile(filepath.Join(folder, tag+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		ch := &helm.Chart{Component: helm.Base, Chart: &chart.Chart{Files: []*chartcommon.File{{Name: "crds/crd-all.gen.yaml", Data: text}}}}
		targets, inTemplates, err := chartCRDs(ch, &helm.Rendered{}, false)
		if err != nil || inTemplates {
			t.Fatal(inTemplates, err)
		}
		var crds []mesh.CRD
		for _, one := range targets {
			crds = append(crds, *one.CRD)
		}
		return crds, targets
	}
	for _, pair := range [][2]string{{"1.20.8", "1.23.6"}, {"1.23.6", "1.29.6"}} {
		oldLive, oldTargets := read(pair[0])
		newLive, newTargets := read(pair[1])
		if older := olderThan(newLive, oldTargets); len(older) > 0 {
			t.Errorf("%s is older than %s: %q", pair[1], pair[0], older)
		}
		if older := olderThan(oldLive, newTargets); len(older) == 0 {
			t.Errorf("%s is not older than %s", pair[0], pair[1])
		}
		for _, change := range compare(newTargets, newLive, true) {
			if change.Action != Unchanged {
				t.Errorf("%s against itself: %+v", pair[1], change)
			}
		}
	}
}

func TestChartCRDs(t *testing.T) {
	text := definition(version("v1", true, hosts))
	labelled := strings.Replace(text, "app: istio-pilot", "app.kubernetes.io/managed-by: Helm", 1)
	configMap := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "istio-crd-10"},
		"data": map[string]any{"crd-10.yaml": text + "---\n" + strings.ReplaceAll(strings.ReplaceAll(text, "networking.istio.io", "example.com"), "virtualservices", "others")},
	}}
	files := func(name string) *chart.Chart {
		return &chart.Chart{Files: []*chartcommon.File{{Name: name, Data: []byte(text)}}}
	}
	for _, c := range []struct {
		name        string
		chart       *helm.Chart
		rendered    []*unstructured.Unstructured
		whole       bool
		inTemplates bool
		label       string
	}{
		{"templates", &helm.Chart{Component: helm.Base, Chart: files(rawFile)}, []*unstructured.Unstructured{parse(t, labelled)}, false, true, "app.kubernetes.io/managed-by"},
		{"templates, the whole set", &helm.Chart{Component: helm.Base, Chart: files(rawFile)}, []*unstructured.Unstructured{parse(t, labelled)}, true, false, "app"},
		{"values that switch all off, the whole set", &helm.Chart{Component: helm.Base, Chart: files(rawFile)}, nil, true, false, "app"},
		{"folder", &helm.Chart{Component: helm.Base, Chart: files("crds/all.yaml")}, nil, false, false, "app"},
		{"folder, the whole set", &helm.Chart{Component: helm.Base, Chart: files("crds/all.yaml")}, nil, true, false, "app"},
		{"jobs", &helm.Chart{Component: helm.IstioInit, Chart: &chart.Chart{}}, []*unstructured.Unstructured{configMap}, false, false, "app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			targets, inTemplates, err := chartCRDs(c.chart, &helm.Rendered{Objects: c.rendered}, c.whole)
			if err != nil {
				t.Fatal(err)
			}
			if len(targets) != 1 || inTemplates != c.inTemplates || targets[0].Object.Labels[c.label] == "" {
				t.Errorf("%d targets, in templates: %v, %+v", len(targets), inTemplates, targets[0].Object.Labels)
			}
		})
	}
	for want, ch := range map[string]*helm.Chart{
		"brings no CustomResourceDefinition": {Component: helm.Base, Chart: &chart.Chart{}},
		"give --external":                    {Component: helm.Base, Chart: files(rawFile)},
	} {
		if _, _, err := chartCRDs(ch, &helm.Rendered{}, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// The definitions are those of the chart, whatever the tag says.
func TestBrings(t *testing.T) {
	for _, c := range []struct {
		tag           string
		chart         helm.Chart
		brings, label string
	}{
		{"1.31.0", helm.Chart{Version: "1.31.0"}, "1.31.0", "1.31.0"},
		{"1.31.0-distroless", helm.Chart{Version: "1.31.0"}, "1.31.0-distroless", "1.31.0"},
		{"1.31.0", helm.Chart{Version: "1.31.4+corp.1"}, "1.31.0", "1.31.4"},
		{"1.31.0", helm.Chart{Version: "1.30.2"}, "1.30.2", "1.30.2"},
		{"1.4.9", helm.Chart{Component: helm.IstioInit, Version: "0.1.0"}, "1.4.9", "0.1.0"},
		{"1.31.0-debug", helm.Chart{Version: "1.0.0", Placeholder: true}, "1.31.0-debug", "1.31.0"},
	} {
		if c.chart.Component == "" {
			c.chart.Component = helm.Base
		}
		p := &Plan{Tag: c.tag, work: work{chart: &c.chart}}
		tag, _ := mesh.TagVersion(c.tag)
		if got, label := p.Brings(), labelVersion(&c.chart, tag); got != c.brings || label != c.label {
			t.Errorf("%s, chart %s: %q and label %q, want %q and %q", c.tag, c.chart.Version, got, label, c.brings, c.label)
		}
	}
}

// Definitions do not go back without --force.
func TestJudgeDirection(t *testing.T) {
	text := definition(version("v1", true, hosts))
	for _, c := range []struct{ name, tag, release, live, want string }{
		{"forwards", "1.31.0", "1.30.2", "1.30.2", ""},
		{"the same", "1.31.0", "1.31.0", "1.31.0", ""},
		{"a vendor's build of it", "1.31.0-fips", "1.31.0", "1.31.0", ""},
		{"behind the release", "1.30.2", "1.31.0", "", "they are of Istio 1.31.0, so that 1.30.2 is a downgrade"},
		{"behind what is live", "1.30.2", "", "1.31.0", "they are of Istio 1.31.0, so that 1.30.2 is a downgrade"},
		{"a chart without a version of its own", "1.4.10", "1.1.0", "1.1.0", ""},
		{"nothing tells", "1.30.2", "", "", ""},
	} {
		live := crd(t, text)
		live.ChartVersion = c.live
		p := &Plan{Tag: c.tag, work: work{chart: &helm.Chart{}, targets: []target{targetOf(t, text)}}}
		if c.release != "" {
			p.work.release = &helm.Release{ChartVersion: c.release}
		}
		p.judgeDirection([]mesh.CRD{live})
		got := ""
		for _, r := range p.Refusals {
			got += r.Reason
			if !r.Forceable {
				t.Errorf("%s: it cannot be overridden", c.name)
			}
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStoredVersions(t *testing.T) {
	live := crd(t, definition(version("v1alpha3", false, hosts), version("v1", true, hosts)))
	live.StoredVersions = []string{"v1alpha3", "v1"}
	p := &Plan{Tag: "1.31.0", work: work{chart: &helm.Chart{Version: "1.31.0"}, targets: []target{targetOf(t, definition(version("v1", true, hosts)))}}}
	p.judgeStored([]mesh.CRD{live})
	if len(p.Refusals) != 1 || p.Refusals[0].Forceable || !strings.Contains(p.Refusals[0].Reason, "v1alpha3") {
		t.Errorf("refusals: %+v", p.Refusals)
	}
	p.Refusals, live.StoredVersions = nil, []string{"v1"}
	p.judgeStored([]mesh.CRD{live})
	if len(p.Refusals) != 0 {
		t.Errorf("refusals: %+v", p.Refusals)
	}
}
