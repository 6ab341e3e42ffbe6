package diff

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func secret(data map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "data": data,
		"metadata": map[string]any{"name": "s", "annotations": map[string]any{lastApplied: `{"data":{"a":"cGxhbnRlZA=="}}`}},
	}}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	before := &unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "data": map[string]any{"a": "1", "b": "2"}}}
	after := &unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "data": map[string]any{"a": "1", "b": "3"}, "status": map[string]any{"x": "y"}}}
	for _, c := range []struct {
		name          string
		before, after *unstructured.Unstructured
		want          string
	}{
		{"changed", before, after, "--- from/x\n+++ to/x\n@@ -1,4 +1,4 @@\n data:\n   a: \"1\"\n-  b: \"2\"\n+  b: \"3\"\n kind: ConfigMap\n"},
		{"the same", before, before, ""},
		{"added", nil, before, "--- from/x\n+++ to/x\n@@ -0,0 +1,4 @@\n+data:\n+  a: \"1\"\n+  b: \"2\"\n+kind: ConfigMap\n"},
		{"removed", before, nil, "--- from/x\n+++ to/x\n@@ -1,4 +0,0 @@\n-data:\n-  a: \"1\"\n-  b: \"2\"\n-kind: ConfigMap\n"},
	} {
		got, err := Objects("x", c.before, c.after)
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, got, c.want)
		}
	}
}

// What a Secret holds is never shown, only that it changes.
func TestSecrets(t *testing.T) {
	t.Parallel()
	before := secret(map[string]any{"same": "cGxhbnRlZA==", "changed": "cGxhbnRlZA==", "gone": "cGxhbnRlZA=="})
	after := secret(map[string]any{"same": "cGxhbnRlZA==", "changed": "cGxhbnRlZDI=", "new": "cGxhbnRlZA=="})
	for _, pair := range [][2]*unstructured.Unstructured{{before, after}, {nil, after}, {before, nil}} {
		text, err := Objects("secret/s", pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "cGxhbnRlZ") {
			t.Errorf("planted data is shown:\n%s", text)
		}
	}
	text, err := Objects("secret/s", before, after)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-  changed: (hidden, before)\n", "+  changed: (hidden, after)\n", "-  gone: (hidden)\n", "+  new: (hidden)\n", "   same: (hidden)\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if before.Object["data"].(map[string]any)["same"] != "cGxhbnRlZA==" {
		t.Error("its argument was changed")
	}
}
