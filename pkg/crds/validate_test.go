package crds

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const strict = `{type: object, required: [hosts], properties: {
  hosts: {type: array, minItems: 1, items: {type: string}, x-kubernetes-list-type: set},
  weight: {type: integer, maximum: 100, default: 1},
  mode: {type: string, enum: [A, B]}},
  x-kubernetes-validations: [{rule: "self.hosts.all(h, h != 'bad')", message: "bad is no host"}]}`

func TestValidator(t *testing.T) {
	v, err := newValidator(crd(t, definition(version("v1", true, strict))).Object, "v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, spec, want string }{
		{"good", "{hosts: [a], weight: 3}", ""},
		{"default is filled in", "{hosts: [a]}", ""},
		{"required", "{weight: 3}", "spec.hosts: Required value"},
		{"type", "{hosts: [a], weight: heavy}", "spec.weight: Invalid value"},
		{"maximum", "{hosts: [a], weight: 101}", "spec.weight: Invalid value"},
		{"enum", "{hosts: [a], mode: C}", "spec.mode: Unsupported value"},
		{"set", "{hosts: [a, a]}", "spec.hosts[1]: Duplicate value"},
		{"rule", "{hosts: [bad]}", "bad is no host"},
		{"unknown field", "{hosts: [a], gone: 1}", "spec.gone: unknown to the schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := parse(t, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec: "+c.spec)
			before := object.DeepCopy()
			got := v.errors(t.Context(), object)
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if diff := cmp.Diff(before, object); diff != "" {
				t.Errorf("the object was changed: %s", diff)
			}
		})
	}
}

func TestNoSchemaTakesEverything(t *testing.T) {
	v, err := newValidator(crd(t, definition(version("v1", true, strict))).Object, "v2")
	if err != nil {
		t.Fatal(err)
	}
	if got := v.errors(t.Context(), parse(t, "kind: X\nspec: {a: 1}")); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
