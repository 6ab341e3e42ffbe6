package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// charts are the folders of Istio's manifests/charts that the lab takes, and the charts' names.
var charts = []struct{ folder, name string }{
	{"base", "base"},
	{"istio-control/istio-discovery", "istiod"},
	{"istio-cni", "cni"},
	{"ztunnel", "ztunnel"},
	{"gateway", "gateway"},
}

func chartsComplete(p Parts, s istioSource) bool {
	for _, c := range charts {
		if !exists(p.Chart(c.name, s.version)) {
			return false
		}
	}
	return exists(p.ChartFolder(s.version))
}

// buildCharts makes the charts of one Istio release out of its source: the version and the default registry and
// tag are put where the release puts them (istio/release-builder, pkg/build/helm.go), then each chart is packaged.
func buildCharts(ctx context.Context, log io.Writer, source string, parts Parts, s istioSource, label string) error {
	if chartsComplete(parts, s) {
		return nil
	}
	fmt.Fprintf(log, "lab: %s: charts of Istio %s\n", label, s.version)
	module, err := downloadModule(ctx, filepath.Join(source, "parts"), "istio.io/istio@"+s.module)
	if err != nil {
		return err
	}

	folder := parts.ChartFolder(s.version)
	if !exists(folder) {
		unfinished := folder + ".unfinished"
		if err := os.RemoveAll(unfinished); err != nil {
			return fmt.Errorf("clearing an interrupted build: %w", err)
		}
		for _, c := range charts {
			from := filepath.Join(module, "manifests", "charts", filepath.FromSlash(c.folder))
			if err := copyChart(from, filepath.Join(unfinished, filepath.FromSlash(c.folder)), s); err != nil {
				return fmt.Errorf("copying the chart %s of Istio %s: %w", c.name, s.version, err)
			}
		}
		if err := os.Rename(unfinished, folder); err != nil {
			return fmt.Errorf("placing the charts of Istio %s: %w", s.version, err)
		}
	}
	return packageCharts(ctx, parts, s)
}

// copyChart copies a chart and puts the release's version, registry and tag in for the source tree's.
func copyChart(from, to string, s istioSource) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	if err := replaceIn(filepath.Join(to, "Chart.yaml"),
		"version: 1.0.0", "version: "+s.version,
		"appVersion: 1.0.0", "appVersion: "+s.version); err != nil {
		return err
	}
	values := filepath.Join(to, "values.yaml")
	b, err := os.ReadFile(values)
	if err != nil {
		return err
	}
	if !bytes.Contains(b, []byte("tag: latest")) {
		return nil // base and gateway name no image of their own
	}
	return replaceIn(values, "hub: registry.istio.io/testing", "hub: "+s.hub, "tag: latest", "tag: "+s.version)
}

// replaceIn replaces whole values of a YAML file in place; one that is not there is an error, because the
// chart would then be of no version.
func replaceIn(file string, pairs ...string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for i := 0; i < len(pairs); i += 2 {
		if !bytes.Contains(b, []byte(pairs[i])) {
			return fmt.Errorf("%s has no %q: its layout changed", file, pairs[i])
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		b = bytes.ReplaceAll(b, []byte("\n"+pairs[i]+"\n"), []byte("\n"+pairs[i+1]+"\n"))
		for _, indent := range []string{"  ", "    "} {
			b = bytes.ReplaceAll(b, []byte("\n"+indent+pairs[i]+"\n"), []byte("\n"+indent+pairs[i+1]+"\n"))
		}
	}
	// Files from the module cache are read-only.
	if err := os.Chmod(file, 0o644); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

func packageCharts(ctx context.Context, parts Parts, s istioSource) error {
	unfinished, err := os.MkdirTemp(parts.Dir, ".packaged-")
	if err != nil {
		return fmt.Errorf("packaging charts: %w", err)
	}
	defer func() { _ = os.RemoveAll(unfinished) }()
	if err := os.MkdirAll(parts.PackagedCharts(), 0o755); err != nil {
		return fmt.Errorf("packaging charts: %w", err)
	}
	for _, c := range charts {
		from := filepath.Join(parts.ChartFolder(s.version), filepath.FromSlash(c.folder))
		cmd := exec.CommandContext(ctx, parts.Bin("helm"), "package", from, "--destination", unfinished)
		cmd.Env = helmEnv(unfinished)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("packaging the chart %s of Istio %s: %w\n%s", c.name, s.version, err, out)
		}
		tgz := c.name + "-" + s.version + ".tgz"
		if err := os.Rename(filepath.Join(unfinished, tgz), parts.Chart(c.name, s.version)); err != nil {
			return fmt.Errorf("packaging the chart %s of Istio %s: %w", c.name, s.version, err)
		}
	}
	return nil
}

// helmEnv is the environment of a Helm that knows nothing of its user's own repositories and logins.
func helmEnv(dir string) []string {
	return append(os.Environ(),
		"HELM_CONFIG_HOME="+filepath.Join(dir, "helm", "config"),
		"HELM_CACHE_HOME="+filepath.Join(dir, "helm", "cache"),
		"HELM_DATA_HOME="+filepath.Join(dir, "helm", "data"))
}

// downloadModule has Go put a module into its cache and returns the folder there.
func downloadModule(ctx context.Context, dir, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &answer); jsonErr == nil && answer.Error != "" {
		return "", fmt.Errorf("downloading the module %s: %s", module, answer.Error)
	}
	if err != nil {
		return "", fmt.Errorf("downloading the module %s: %w\n%s", module, err, stderr.String())
	}
	if answer.Dir == "" {
		return "", fmt.Errorf("downloading the module %s: Go named no folder for it", module)
	}
	return answer.Dir, nil
}

// copyFolder copies a folder to a place where it may be missing or from before.
func copyFolder(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return nil
}
