package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// testedBlock is a block of shell in docs/ that says that a test runs it.
var testedBlock = regexp.MustCompile("<!-- tested -->\n```sh\n((?:[^`].*\n|\n)*)```\n")

// proxyImage is a container of the proxy in YAML; what kubectl applied last is JSON.
var proxyImage = regexp.MustCompile(`image: \S*/proxyv2:`)

// testedBlocks gives the blocks of a page that are run here.
func testedBlocks(t *testing.T, page string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range testedBlock.FindAllStringSubmatch(string(raw), -1) {
		blocks = append(blocks, found[1])
	}
	if marks := strings.Count(string(raw), "<!-- tested -->"); marks == 0 || marks != len(blocks) {
		t.Fatalf("%s: %d marks, %d blocks of shell", page, marks, len(blocks))
	}
	return blocks
}

// guide is a folder for the PATH in which the plugin lies as kubectl finds it.
// The pages assume Istio's own registry and a person at the prompt; here the
// charts come from a folder, and the answer is yes.
func (w *world) guide() []string {
	w.T.Helper()
	dir := w.T.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
case " $* " in *" --tag "*) set -- "$@" --charts %q ;; esac
case $1 in all|crds|control-plane|sidecars|rollback) set -- "$@" --yes ;; esac
exec %q "$@"
`, clustertest.Parts.PackagedCharts(), clustertest.Binary)
	w.Check(os.WriteFile(filepath.Join(dir, "kubectl-istio_upgrade"), []byte(script), 0o755))
	return append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(), "HOME="+dir, "XDG_STATE_HOME="+dir, "TMPDIR="+dir,
		"PATH="+dir+":"+filepath.Dir(clustertest.Parts.Bin("kubectl"))+":"+os.Getenv("PATH"))
}

// The examples of the guides run, in their order, as they stand there.
func TestGuidesRunAsWritten(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	w.InjectedNamespace("shop")
	for _, app := range []string{"web", "api", "cart"} {
		w.Apply(manifest{Kind: "Deployment", Name: app, Namespace: "shop", Replicas: 2}.String())
	}
	w.RunKubectl("label", "deployment", "web", "-n", "shop", "app=web") // of the workload, by which -l goes
	w.AwaitReady("shop", 6)
	env, dir := w.guide(), t.TempDir()
	run := func(page string) string {
		var all strings.Builder
		for i, block := range testedBlocks(t, page) {
			cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\n"+block)
			cmd.Env, cmd.Dir = env, dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s, block %d: %v\n%s\n%s", page, i+1, err, block, out)
			}
			fmt.Fprintf(&all, "# %s, block %d\n%s", page, i+1, out)
		}
		return all.String()
	}

	text := run("upgrade.md")

	// The guide upgrades, finds nothing left to do, and goes back.
	for _, want := range []string{"1.30.2 → 1.31.0", "Nothing to change", "Nothing to upgrade", "Nothing to move", "deployment/web"} {
		if !strings.Contains(text, want) {
			t.Errorf("upgrade.md: want %q in\n%s", want, text)
		}
	}
	w.WantProxies("shop", "", map[string]int{older: 6})

	text = run("ci.md")

	if !strings.Contains(text, "upgraded to 1.31.0") || !strings.Contains(text, "objects would change") {
		t.Errorf("ci.md: %s", text)
	}
	w.WantProxies("shop", "", map[string]int{newer: 6})

	w.bank(dir)
	text = run("manual-injection.md")
	for _, want := range []string{"✓ deployment/ledger in bank", "reinject"} {
		if !strings.Contains(text, want) {
			t.Errorf("manual-injection.md: want %q in\n%s", want, text)
		}
	}
	run("gitops.md")
	w.WantProxies("bank", "", map[string]int{newer: 2})
	for file, injected := range map[string]bool{"original.yaml": false, "originals.yaml": false, "live.yaml": false, "injected.yaml": true, "prod.yaml": true} {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		w.Check(err)
		if !strings.Contains(string(raw), "name: ledger") || proxyImage.Match(raw) != injected {
			t.Errorf("%s: want a sidecar in it: %t\n%s", file, injected, raw)
		}
	}
}

// bank is a namespace with a workload that was injected by hand for the older
// version, and the folder with its manifests of which the pages speak.
func (w *world) bank(dir string) {
	w.T.Helper()
	w.MakeNamespace("bank", nil)
	original := manifest{Kind: "Deployment", Name: "ledger", Namespace: "bank", Replicas: 2}.String()
	injected := strings.ReplaceAll(w.kubeInject(original), "proxyv2:"+newer, "proxyv2:"+older)
	w.Apply(injected)
	w.AwaitReady("bank", 2)
	for file, text := range map[string]string{
		"injected.yaml": injected, "manifests/apps/ledger.yaml": injected, "overlays/prod/ledger.yaml": injected,
		"overlays/prod/kustomization.yaml": "resources: [ledger.yaml]\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(file))
		w.Check(os.MkdirAll(filepath.Dir(path), 0o755))
		w.Check(os.WriteFile(path, []byte(text), 0o600))
	}
	config, err := os.ReadFile(w.settingsFiles()["injectConfigFile"])
	w.Check(err)
	w.Check(os.WriteFile(filepath.Join(dir, "inject-config.yaml"), config, 0o600))
}
