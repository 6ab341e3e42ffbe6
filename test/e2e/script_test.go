package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// What a script relies on: results alone on stdout, names alone with -o name, in
// a stable order, one document with -o json, no colour, warnings once.
func TestCommandsSuitScripts(t *testing.T) {
	w := sharedCluster(t)
	// Every dry-run create of a pod in it is answered with a warning.
	w.MakeNamespace("scripts", map[string]string{"istio-injection": "enabled", "pod-security.kubernetes.io/warn": "restricted"})
	for i := range 4 {
		w.Apply(manifest{Kind: "Deployment", Name: fmt.Sprintf("web-%d", i), Namespace: "scripts", Replicas: 1}.String())
	}
	w.AwaitReady("scripts", 4)
	w.Inject(newer)
	target := []string{"--tag", newer, "--charts", clustertest.Parts.PackagedCharts()}
	commands := [][]string{
		{"status", "-n", "scripts"},
		append([]string{"check", "-n", "scripts"}, target...),
		append([]string{"crds", "--dry-run", "--no-backup"}, target...),
		{"sidecars", "-n", "scripts", "--dry-run"},
		append([]string{"all", "-n", "scripts", "--dry-run", "--no-backup"}, target...),
		append([]string{"version"}, target...),
	}
	name := regexp.MustCompile(`^([a-z]+/[a-z0-9.-]+|v?[0-9a-z][0-9A-Za-z.+-]*)$`)
	for _, command := range commands {
		t.Run(command[0], func(t *testing.T) {
			o := w.Run(append(command, "-o", "name")...)
			for line := range strings.Lines(o.Stdout) {
				if !name.MatchString(strings.TrimSuffix(line, "\n")) {
					t.Errorf("-o name prints %q", line)
				}
			}
			if o.Code == 0 && o.Stderr != "" {
				t.Errorf("-o name is not silent: %s", o)
			}
			if again := w.Run(append(command, "-o", "name")...); again.Stdout != o.Stdout {
				t.Errorf("-o name is not stable:\n%s\n%s", o.Stdout, again.Stdout)
			}
			o = w.Run(append(command, "-o", "json")...)
			var document struct{ APIVersion, Kind string }
			if err := json.Unmarshal([]byte(o.Stdout), &document); err != nil || document.APIVersion == "" || document.Kind == "" {
				t.Errorf("-o json: %v, %+v: %s", err, document, o)
			}
			o = w.Run(command...)
			if strings.Contains(o.Stdout+o.Stderr, "\x1b") {
				t.Errorf("colour without a terminal: %q", o)
			}
		})
	}

	t.Run("names alone, nothing on stderr", func(t *testing.T) {
		o := w.Must(0, "sidecars", "-n", "scripts", "--dry-run", "-o", "name")
		want := "deployment/web-0\ndeployment/web-1\ndeployment/web-2\ndeployment/web-3\n"
		if o.Stdout != want || o.Stderr != "" {
			t.Errorf("want %q: %s", want, o)
		}
	})
	t.Run("a server's warning once", func(t *testing.T) {
		o := w.Must(0, "sidecars", "-n", "scripts", "--dry-run")
		if strings.Contains(o.Stdout, "Warning:") {
			t.Errorf("a warning on stdout: %s", o)
		}
		seen := map[string]int{}
		for line := range strings.Lines(o.Stderr) {
			if strings.HasPrefix(line, "Warning:") {
				seen[line]++
			}
		}
		if len(seen) == 0 {
			t.Errorf("no warning, though the namespace warns of every pod: %s", o)
		}
		for line, n := range seen {
			if n != 1 {
				t.Errorf("%d times %q", n, line)
			}
		}
	})
	t.Run("exit codes", func(t *testing.T) {
		w.Must(2, "sidecars", "-n", "scripts") // nobody to ask
		w.Must(2, "sidecars", "-n", "scripts", "--on-failure", "shrug")
		w.Must(1, "crds", "--tag", "1.99.0", "--charts", clustertest.Parts.PackagedCharts(), "--dry-run")
		w.Must(0, "sidecars", "-n", "scripts", "--yes", "-o", "name")
		o := w.Must(0, "sidecars", "-n", "scripts", "--yes", "-o", "name") // nothing to do
		if o.Stdout != "" {
			t.Errorf("nothing was to do: %s", o)
		}
	})
}
