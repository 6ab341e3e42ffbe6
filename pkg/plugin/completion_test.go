package plugin

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// runMain runs the whole command line without a terminal.
func runMain(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut strings.Builder
	code = Main(t.Context(), args, strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

// useKubeconfig points the command line to a kubeconfig with two contexts, whose
// server is at this address.
func useKubeconfig(t *testing.T, server string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	content := `apiVersion: v1
kind: Config
current-context: prod
clusters:
- {name: here, cluster: {server: "` + server + `"}}
contexts:
- {name: staging, context: {cluster: here, user: jane}}
- {name: prod, context: {cluster: here, user: jane}}
users:
- {name: jane, user: {token: x}}
`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	t.Setenv("HOME", t.TempDir()) // no discovery cache of others
}

// silentServer accepts connections and never answers.
func silentServer(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

func TestCompletionOfWords(t *testing.T) {
	useKubeconfig(t, "http://127.0.0.1:1")
	charts := t.TempDir()
	for _, name := range []string{"istiod-1.30.2.tgz", "istiod-1.31.0.tgz", "istiod-1.9.0.tgz", "base-1.31.0.tgz", "istiod-latest.tgz"} {
		if err := os.WriteFile(filepath.Join(charts, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		line string // what stands before the word, then the word
		want string
	}{
		{"sidecars --on-failure|", "halt continue undo"},
		{"sidecars --restart-with|", "annotation grace-period"},
		{"sidecars|--dry-run=", "none client server"},
		{"all -o|", "table wide json yaml name jsonpath="},
		{"uninject -o|", "yaml json"},
		{"control-plane --component|", "istiod cni ztunnel gateway"},
		{"sidecars --context|", "prod staging"},
		{"sidecars --context|p", "prod"},
		{"status --cluster|", "here"},
		{"status --user|", "jane"},
		{"all --charts " + charts + " --tag|", "1.31.0 1.30.2 1.9.0"},
		{"all --charts " + charts + " --tag|1.3", "1.31.0 1.30.2"},
		{"all --charts /nowhere --tag|", ""},
		{"crds --charts|oci", "oci://ghcr.io/istio/release/charts"},
		{"sidecars --max-parallel|", ""},
		{"completion|", "kubectl bash zsh fish powershell"},
		{"|cont", "control-plane"},
		{"|side", "sidecars"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			before, word, _ := strings.Cut(tc.line, "|")
			code, out, errOut := runMain(t, append(append([]string{"__complete"}, strings.Fields(before)...), word)...)
			if code != 0 {
				t.Errorf("exit code %d: %s", code, errOut)
			}
			var words []string
			for line := range strings.Lines(out) {
				if !strings.HasPrefix(line, ":") {
					word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
					words = append(words, word)
				}
			}
			if d := cmp.Diff(tc.want, strings.Join(words, " ")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if strings.Contains(strings.ToLower(errOut), "error") {
				t.Errorf("stderr: %s", errOut)
			}
		})
	}
}

// A person waits with a finger on a key: whatever the cluster does, an answer
// comes within seconds, and no word of an error.
func TestCompletionNeverHangs(t *testing.T) {
	for name, server := range map[string]string{"closed": "http://127.0.0.1:1", "silent": silentServer(t)} {
		for _, args := range [][]string{
			{"sidecars", "-n", ""},
			{"sidecars", ""},
			{"all", "--revision", ""},
			{"rollback", "--to", ""},
			{"crds", "--adopt-from", ""},
		} {
			t.Run(name+" "+strings.Join(args, " "), func(t *testing.T) {
				useKubeconfig(t, server)
				began := time.Now()
				code, out, errOut := runMain(t, append([]string{"__complete"}, args...)...)
				if took := time.Since(began); took > completionPatience+5*time.Second {
					t.Errorf("took %s", took)
				}
				if code != 0 || !strings.HasPrefix(out, ":") {
					t.Errorf("exit code %d, stdout %q", code, out)
				}
				if lines := strings.Count(errOut, "\n"); lines > 1 || !strings.HasPrefix(errOut, "Completion ended") {
					t.Errorf("stderr: %s", errOut) // cobra's own line, which the shells' scripts drop
				}
			})
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		code, out, errOut := runMain(t, "completion", shell)
		if code != 0 || errOut != "" || !strings.Contains(out, binaryName) || strings.Contains(out, "istio-upgrade ") {
			t.Errorf("%s: exit code %d, %s\n%.300s", shell, code, errOut, out)
		}
	}
	shipped, err := os.ReadFile("../../krew/kubectl_complete-istio_upgrade")
	if err != nil {
		t.Fatal(err)
	}
	if _, out, _ := runMain(t, "completion", "kubectl"); out != string(shipped) {
		t.Errorf("the archive ships another script:\n%s", cmp.Diff(string(shipped), out))
	}
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}} {
		if code, _, _ := runMain(t, args...); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}
