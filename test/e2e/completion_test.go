package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// offered gives what __complete offers, without descriptions.
func offered(o outcome) []string {
	words := []string{}
	for line := range strings.Lines(o.Stdout) {
		if !strings.HasPrefix(line, ":") {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			words = append(words, word)
		}
	}
	return words
}

// A shell is offered what is in the cluster.
func TestCompletionAsksTheCluster(t *testing.T) {
	w := sharedCluster(t)
	w.InjectedNamespace("tabs")
	for _, app := range []string{"web", "api"} {
		w.Apply(manifest{Kind: "Deployment", Name: app, Namespace: "tabs", Replicas: 1}.String())
	}
	w.AwaitReady("tabs", 2)
	w.Inject(newer)
	for _, c := range []struct {
		args []string
		want []string // all of them are offered
		only bool     // and nothing else
	}{
		{[]string{"sidecars", "-n", "tabs", ""}, []string{"deployment/api", "deployment/web"}, true},
		{[]string{"sidecars", "-n", "tabs", "deployment/api", ""}, []string{"deployment/web"}, true},
		{[]string{"sidecars", "-n", "tabs", "deployment/w"}, []string{"deployment/web"}, true},
		{[]string{"sidecars", "-n", "ta"}, []string{"tabs"}, true},
		{[]string{"status", "-i", "istio-s"}, []string{"istio-system"}, true},
		{[]string{"control-plane", "--revision", ""}, []string{"default"}, false},
		{[]string{"rollback", "--to", ""}, []string{"1"}, false},
		{[]string{"crds", "--adopt-from", "istio-system/istio-b"}, []string{"istio-system/istio-base"}, false},
		{[]string{"all", "--charts", clustertest.Parts.PackagedCharts(), "--tag", ""}, []string{newer, older}, true},
	} {
		// A completion offers nothing after three seconds, which is right on a machine
		// that is busy.
		w.Eventually(fmt.Sprintf("the completion of %q", c.args), func() string {
			o := w.Must(0, append([]string{"__complete"}, c.args...)...)
			got := offered(o)
			for _, want := range c.want {
				if !slices.Contains(got, want) {
					return fmt.Sprintf("want %s\n%s", want, o)
				}
			}
			if c.only && len(got) != len(c.want) {
				return fmt.Sprintf("want %v alone\n%s", c.want, o)
			}
			return ""
		})
	}

	// A real bash, with the script as it is printed. The one function that it takes
	// from bash-completion is stood in for where that is not installed.
	t.Run("in bash", func(t *testing.T) {
		script := w.Must(0, "completion", "bash").Stdout
		line := []string{"kubectl-istio_upgrade", "sidecars", "-n", "tabs", "deployment/w"}
		link := filepath.Join(t.TempDir(), "kubectl-istio_upgrade")
		w.Check(exec.CommandContext(t.Context(), "ln", "-s", clustertest.Binary, link).Run())
		w.Eventually("the completion in bash", func() string {
			cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-c", `
_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
compopt() { :; } # it is for a shell that is being typed into
`+script+`
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
__start_kubectl-istio_upgrade
printf '%s\n' "${COMPREPLY[@]}"`, "bash")
			cmd.Args = append(cmd.Args, line...)
			cmd.Env = append(w.Command(t.Context()).Env, "PATH="+filepath.Dir(link)+":/usr/bin:/bin")
			out, err := cmd.Output()
			if words := strings.Fields(string(out)); err != nil || len(words) == 0 || words[0] != "deployment/web" {
				return fmt.Sprintf("bash completes %q, %v", out, err)
			}
			return ""
		})
	})
}

// version tells of the plugin, of what runs, and of the target.
func TestVersionOfTheCluster(t *testing.T) {
	w := sharedCluster(t)
	w.InjectedNamespace("versions")
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: "versions", Replicas: 1}.String())
	w.AwaitReady("versions", 1)
	o := w.Must(0, "version", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts())
	w.Want(o, "Helm SDK", "istiod", older, newer, "CRDs", "proxies", "revision default in istio-system")
	if o.Stderr != "" {
		t.Errorf("stderr: %s", o)
	}
	got := w.Must(0, "version", "-o", "jsonpath={.cluster.controlPlanes[?(@.revision==\"default\")].tag} {.cluster.proxies[0].version} {.target}").Stdout
	if got != older+" "+older+" \n" {
		t.Errorf("as JSON: %q", got)
	}
	if o := w.Run("version", "--tag", "1.99.0", "--charts", clustertest.Parts.PackagedCharts()); o.Code != 1 || !strings.Contains(o.Stderr, newer) {
		t.Errorf("a tag that is not there: want exit code 1 and the nearest: %s", o)
	}
}
