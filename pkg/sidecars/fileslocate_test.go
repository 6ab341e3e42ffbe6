package sidecars

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func manifests(t *testing.T, texts ...string) []Manifest {
	t.Helper()
	var out []Manifest
	for _, text := range texts {
		o := object(t, text)
		out = append(out, Manifest{Where: "file", Given: o, Object: o})
	}
	return out
}

func TestMadeBy(t *testing.T) {
	m := madeBy(manifests(t,
		"{apiVersion: v1, kind: Namespace, metadata: {name: shop}}",
		"{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}",
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: widgets.example.com}, "+
			"spec: {group: example.com, scope: Namespaced, names: {kind: Widget, plural: widgets}, versions: [{name: v1}, {name: v2}]}}",
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: planets.example.com}, "+
			"spec: {group: example.com, scope: Cluster, names: {kind: Planet, plural: planets}, versions: [{name: v1}]}}",
		"{apiVersion: example.com/v1, kind: Namespace, metadata: {name: other}}",
	))
	if len(m.namespaces) != 1 || m.namespaces["shop"] != 0 {
		t.Errorf("namespaces: %v", m.namespaces)
	}
	if place, ok := m.accounts["shop/web"]; !ok || place != 1 {
		t.Errorf("accounts: %v", m.accounts)
	}
	for version, want := range map[string]string{"v1": "widgets.example.com", "v2": "widgets.example.com", "v3": ""} {
		kind := schema.GroupVersionKind{Group: "example.com", Version: version, Kind: "Widget"}
		if got := m.kinds[kind]; got.definition != want || want != "" && (!got.namespaced || got.resource.Resource != "widgets" || got.place != 2) {
			t.Errorf("%s: %+v", version, got)
		}
	}
	if m.kinds[schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Planet"}].namespaced {
		t.Error("a Planet is in no namespace")
	}
}

func TestIsEstablished(t *testing.T) {
	for text, want := range map[string]bool{
		"{}": false,
		"{status: {conditions: [{type: NamesAccepted, status: 'True'}]}}":                                      false,
		"{status: {conditions: [{type: Established, status: 'False'}]}}":                                       false,
		"{status: {conditions: [{type: NamesAccepted, status: 'True'}, {type: Established, status: 'True'}]}}": true,
	} {
		if isEstablished(object(t, text)) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
}
