package sidecars

import "testing"

// Only the injector of the control plane that is upgraded gives another tag after.
func TestPreviewIsOfOneRevision(t *testing.T) {
	for _, c := range []struct{ revision, of, want string }{
		{"", "default", "1.31.0"},
		{"default", "default", "1.31.0"},
		{"default", "canary", ""},
	} {
		o := Options{PreviewTag: "1.31.0", PreviewRevision: c.revision}
		if got := o.preview(c.of); got != c.want {
			t.Errorf("of %q, asked for %s: %q, want %q", c.revision, c.of, got, c.want)
		}
	}
}

func TestScope(t *testing.T) {
	for want, o := range map[string]Options{
		"all namespaces":                  {},
		"namespace shop":                  {Namespace: "shop"},
		"all namespaces, revision canary": {Revision: "canary"},
	} {
		if got := scope(&o); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
