package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// uninjectScript is the post-renderer and the kustomize step of
// docs/manual-injection.md.
const uninjectScript = "#!/bin/sh\nexec kubectl istio-upgrade uninject -f -\n"

// shell runs a line with kubectl, the plugin, istioctl and helm on PATH.
func (w *world) shell(dir, line string, env ...string) string {
	w.T.Helper()
	bin := w.T.TempDir()
	w.Check(os.Symlink(clustertest.Binary, filepath.Join(bin, "kubectl-istio_upgrade")))
	cmd := exec.CommandContext(w.T.Context(), "sh", "-ec", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig(), "HOME="+w.T.TempDir(),
		"PATH="+strings.Join([]string{bin, filepath.Dir(clustertest.Parts.Bin("kubectl")), os.Getenv("PATH")}, string(os.PathListSeparator)))
	cmd.Env = append(cmd.Env, env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		w.T.Fatalf("%s: %v\n%s", line, err, errOut.String())
	}
	return out.String()
}

func (w *world) write(path, text string, mode os.FileMode) {
	w.T.Helper()
	w.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	w.Check(os.WriteFile(path, []byte(text), mode))
}

// The ways to use uninject that docs/manual-injection.md shows: in a pipeline,
// as a Helm post-renderer, as a kustomize step.
func TestManualUninjectInPipelines(t *testing.T) {
	w := sharedCluster(t)
	ns := "manual-pipes"
	w.MakeNamespace(ns, nil)
	original := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}
	deployment, _, _ := strings.Cut(original.String(), "\n---\n")
	dir := t.TempDir()
	injected := w.kubeInject(deployment)
	w.write(filepath.Join(dir, "web.yaml"), injected, 0o600)
	w.Inject(newer)

	uninjected := func(how, text string) {
		t.Helper()
		if !strings.Contains(text, "image: example.com/app:1") || strings.Contains(text, "istio") || strings.Contains(text, "15020") {
			t.Errorf("%s: not the original:\n%s", how, text)
		}
	}
	uninjected("a file", w.shell(dir, "kubectl istio-upgrade uninject -f web.yaml"))

	w.shell(dir, "kubectl istio-upgrade uninject -f web.yaml | istioctl kube-inject --revision default -f - | kubectl apply -f -")
	w.WantProxies(ns, "web", map[string]int{newer: 1})
	uninjected("the live object", w.shell(dir, "kubectl -n "+ns+" get deployment web -o yaml | kubectl istio-upgrade uninject -f - | sed '/last-applied/,+1d;/managedFields/,/spec:/d'"))

	chart, plugin := filepath.Join(dir, "chart"), filepath.Join(dir, "plugins", "uninject")
	w.write(filepath.Join(chart, "Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n", 0o600)
	w.write(filepath.Join(chart, "templates", "web.yaml"), injected, 0o600)
	w.write(filepath.Join(chart, "templates", "settings.yaml"), "# settings\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n", 0o600)
	w.write(filepath.Join(plugin, "uninject.sh"), uninjectScript, 0o755)
	w.write(filepath.Join(plugin, "plugin.yaml"), `apiVersion: v1
type: postrenderer/v1
name: uninject
version: 1.0.0
runtime: subprocess
runtimeConfig:
  platformCommand:
  - command: ${HELM_PLUGIN_DIR}/uninject.sh
`, 0o600)
	out := w.shell(dir, "helm template shop chart --post-renderer uninject", "HELM_PLUGINS="+filepath.Dir(plugin))
	uninjected("a Helm post-renderer", out)
	if !strings.Contains(out, "# settings\n") {
		t.Errorf("the comment of a document without a sidecar is gone:\n%s", out)
	}

	home := filepath.Join(dir, "home")
	w.write(filepath.Join(home, "example.com", "v1", "uninject", "Uninject"), uninjectScript, 0o755)
	w.write(filepath.Join(dir, "kustomization.yaml"), "resources: [web.yaml]\nnamePrefix: prod-\ntransformers: [uninject.yaml]\n", 0o600)
	w.write(filepath.Join(dir, "uninject.yaml"), "apiVersion: example.com/v1\nkind: Uninject\nmetadata: {name: uninject}\n", 0o600)
	out = w.shell(dir, "kubectl kustomize --enable-alpha-plugins .", "KUSTOMIZE_PLUGIN_HOME="+home)
	uninjected("a kustomize step", out)
	if !strings.Contains(out, "name: prod-web") {
		t.Errorf("kustomize's own change is gone:\n%s", out)
	}
}
