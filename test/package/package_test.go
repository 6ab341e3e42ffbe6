// Package packagetest makes a release for this machine as the release workflow does,
// and installs it as a user does. make package-test builds the tools that it runs.
package packagetest

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// root is the repository's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// tool gives a program that make package-tools has built.
func tool(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(root(), "bin", name)
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%v: make package-test builds it", err)
	}
	return file
}

// run runs a program and gives what it printed, with stderr apart.
func run(t *testing.T, dir string, env []string, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, &out, &errOut)
	}
	return out.String(), errOut.String()
}

func TestReleaseConfigurationIsValid(t *testing.T) {
	run(t, root(), nil, tool(t, "goreleaser"), "check")
}

// release makes a snapshot of what is committed in a repository for this machine
// alone, in a copy at this folder, and gives its dist folder.
func release(t *testing.T, repository, dir string, env ...string) string {
	t.Helper()
	run(t, "", nil, "git", "clone", "--quiet", "--no-hardlinks", repository, dir)
	config := filepath.Join(dir, ".goreleaser.yaml")
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	targets := regexp.MustCompile(`(?m)^    targets:\n(      - .*\n)+`)
	if !targets.Match(raw) {
		t.Fatal("no list of targets in .goreleaser.yaml")
	}
	host := targets.ReplaceAllString(string(raw), "    targets: ["+runtime.GOOS+"_"+runtime.GOARCH+"]\n")
	file := filepath.Join(t.TempDir(), "goreleaser.yaml")
	if err := os.WriteFile(file, []byte(host), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, env, tool(t, "goreleaser"), "release", "--snapshot", "--clean", "--skip=publish,sign,sbom", "--config", file)
	run(t, dir, env, tool(t, "krew-manifest"))
	return filepath.Join(dir, "dist")
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestReleaseInstallsAndRuns(t *testing.T) {
	here := filepath.Join(t.TempDir(), "here")
	dist := release(t, root(), here, "TZ=UTC")
	manifest := filepath.Join(dist, "krew", "istio-upgrade.yaml")
	archives, err := filepath.Glob(filepath.Join(dist, "*.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("archives: %v, %v", archives, err)
	}

	t.Run("built elsewhere it is the same", func(t *testing.T) {
		again := release(t, here, filepath.Join(t.TempDir(), "quite", "another", "place"), "TZ=Asia/Tokyo")
		for _, name := range []string{"checksums.txt", filepath.Join("krew", "istio-upgrade.yaml")} {
			if a, b := read(t, filepath.Join(dist, name)), read(t, filepath.Join(again, name)); a != b {
				t.Errorf("%s differs:\n%s\n%s", name, a, b)
			}
		}
	})

	t.Run("the archive holds what it should", func(t *testing.T) {
		want := []string{"LICENSE", "kubectl-istio_upgrade", "kubectl_complete-istio_upgrade"}
		if got := members(t, archives[0]); !slices.Equal(got, want) {
			t.Errorf("it holds %v, not %v", got, want)
		}
		if sums := read(t, filepath.Join(dist, "checksums.txt")); !strings.Contains(sums, filepath.Base(archives[0])) {
			t.Errorf("checksums.txt lacks it:\n%s", sums)
		}
	})

	t.Run("krew accepts the manifest", func(t *testing.T) {
		run(t, "", nil, tool(t, "validate-krew-manifest"), "-skip-install", "-manifest", manifest)
	})

	t.Run("krew installs it, kubectl runs it", func(t *testing.T) {
		parts, err := lab.Build(t.Context(), os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		krewRoot := t.TempDir()
		path := filepath.Join(krewRoot, "bin") + ":" + filepath.Dir(parts.Bin("kubectl")) + ":" + os.Getenv("PATH")
		env := []string{"KREW_ROOT=" + krewRoot, "PATH=" + path, "HOME=" + t.TempDir(), "KUBECONFIG=/nowhere"}
		run(t, "", env, tool(t, "krew"), "install", "--manifest", manifest, "--archive", archives[0])

		out, errOut := run(t, "", env, parts.Bin("kubectl"), "istio-upgrade", "version", "-o", "name")
		if !strings.HasPrefix(out, "v") || !strings.Contains(archives[0], strings.TrimSpace(out)) || errOut != "" {
			t.Errorf("version: %q, %q, from %s", out, errOut, archives[0])
		}
		out, errOut = run(t, "", env, parts.Bin("kubectl"), "plugin", "list")
		if !strings.Contains(out, "kubectl-istio_upgrade") || strings.Contains(out+errOut, "warning") {
			t.Errorf("kubectl plugin list:\n%s%s", out, errOut)
		}
		// As completion --help says: the script, executable, on the PATH.
		script := filepath.Join(krewRoot, "bin", "kubectl_complete-istio_upgrade")
		text, _ := run(t, "", env, parts.Bin("kubectl"), "istio-upgrade", "completion", "kubectl")
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		if out, _ := run(t, "", env, parts.Bin("kubectl"), "__complete", "istio-upgrade", "side"); !strings.HasPrefix(out, "sidecars") {
			t.Errorf("kubectl completes %q", out)
		}
		if out, _ := run(t, "", env, parts.Bin("kubectl"), "__complete", "istio-upgrade", "sidecars", "--on-failure", ""); !strings.Contains(out, "undo") {
			t.Errorf("kubectl completes %q", out)
		}
		if out, errOut := run(t, "", env, parts.Bin("kubectl"), "plugin", "list"); strings.Contains(out+errOut, "warning") {
			t.Errorf("kubectl plugin list, with the completion:\n%s%s", out, errOut)
		}
	})
}

// members gives the sorted names in an archive.
func members(t *testing.T, file string) []string {
	t.Helper()
	raw, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }() // only read
	unzipped, err := gzip.NewReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}
