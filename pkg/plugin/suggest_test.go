package plugin

import (
	"strings"
	"testing"
)

func TestNearestIsSuggested(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"sidecars --dry-rum", "did you mean --dry-run?"},
		{"sidecars --dryrun", "did you mean --dry-run?"},
		{"sidecars --max-parallels 3", "did you mean --max-parallel?"},
		{"sidecars --allow-downtimes", "did you mean --allow-downtime?"},
		{"sidecars --namespaces x", "did you mean --namespace?"},
		{"all --tags 1.31.0", "did you mean --tag?"},
		{"all --evitc", "did you mean --evict?"},
		{"control-plane --roll", "did you mean --rollback-on-failure?"},
		{"chek", "did you mean check?"},
		{"crd", "did you mean crds?"},
		{"controlplane", "did you mean control-plane?"},
		{"sidecar -n shop", "did you mean sidecars?"},
		{"upgrade --tag 1.31.0", "did you mean all?"},
		{"restart", "did you mean sidecars?"},
		{"undo", "did you mean rollback?"},
		{"all 1.31.0", "did you mean --tag 1.31.0?"},
		{"crds 1.31.0", "did you mean --tag 1.31.0?"},
		{"rollback 3", "did you mean --to 3?"},
		{"uninject dep.yaml", "did you mean -f dep.yaml?"},
		{"control-plane values.yaml --tag 1.31.0", "did you mean --values values.yaml?"},
		{"status shop", "did you mean -n shop?"},
		{"check shop", "did you mean -n shop?"},
		{"--version", "did you mean kubectl istio-upgrade version?"},
		{"-V", "did you mean kubectl istio-upgrade version?"},
		{"help sidecar", "did you mean sidecars?"},
		{"help mountain", `"mountain" is no command`},
		{"all -f values.yaml", "Helm values are given by --values, manifests by -f to kubectl istio-upgrade sidecars"},
		{"completion", "needs one of kubectl, bash, zsh, fish, powershell"},
		{"completion tcsh", "needs one of kubectl, bash, zsh, fish, powershell"},
		{"sidecars deployment/web/x", "TYPE/NAME"},
		{"rollback --to 0", "--to must be a revision"},
		{"rollback --to 0", "See 'kubectl istio-upgrade rollback --help'"},
		{"sidecars --nope", "See 'kubectl istio-upgrade sidecars --help'"},
		{"status shop", "See 'kubectl istio-upgrade status --help'"},
		{"mountain", "See 'kubectl istio-upgrade --help'"},
		{"sidecars --zzzzzz", ""},
		{"sidecars -Z", ""},
		{"mountain", ""},
	} {
		code, out, errOut := runMain(t, strings.Fields(tc.line)...)
		if code != exitUsage || out != "" {
			t.Errorf("%s: exit code %d, stdout %q", tc.line, code, out)
		}
		if tc.want == "" && strings.Contains(errOut, "did you mean") || !strings.Contains(errOut, tc.want) {
			t.Errorf("%s: want %q in %s", tc.line, tc.want, errOut)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"tag", "tag", 0},
		{"tga", "tag", 1}, // neighbours swapped
		{"evitc", "evict", 1},
		{"dryrun", "dry-run", 1},
		{"kitten", "sitting", 3},
	} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q and %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if back := distance(tc.b, tc.a); back != tc.want {
			t.Errorf("%q and %q: %d, want %d", tc.b, tc.a, back, tc.want)
		}
	}
}
