package packagetest

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// systems are what krew supports, and how the archives call them.
var systems = map[string]string{
	"linux/386": "linux_386.tar.gz", "linux/amd64": "linux_amd64.tar.gz", "linux/arm": "linux_armv6.tar.gz",
	"linux/arm64": "linux_arm64.tar.gz", "linux/ppc64le": "linux_ppc64le.tar.gz",
	"darwin/amd64": "darwin_amd64.tar.gz", "darwin/arm64": "darwin_arm64.tar.gz",
	"windows/amd64": "windows_amd64.zip", "windows/arm64": "windows_arm64.zip",
}

// pluginManifest is what of krew's manifest is looked at here; krew's validator
// looks at the rest.
type pluginManifest struct {
	APIVersion string                `json:"apiVersion"`
	Metadata   struct{ Name string } `json:"metadata"`
	Spec       struct {
		Version, ShortDescription, Caveats string
		Platforms                          []struct {
			URI, SHA256, Bin string
			Selector         struct{ MatchLabels map[string]string }
		}
	} `json:"spec"`
}

// make snapshot builds a release for all systems, and has this test look at it.
func TestReleaseOfEverySystem(t *testing.T) {
	dist := os.Getenv("DIST")
	if dist == "" {
		t.Skip("make snapshot builds what this looks at: nine platforms")
	}
	var manifest pluginManifest
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(dist, "krew", "istio-upgrade.yaml"))), &manifest); err != nil {
		t.Fatal(err)
	}
	spec := manifest.Spec
	if manifest.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || manifest.Metadata.Name != "istio-upgrade" || !strings.HasPrefix(spec.Version, "v") {
		t.Errorf("%s %s %s", manifest.APIVersion, manifest.Metadata.Name, spec.Version)
	}
	if d := spec.ShortDescription; d == "" || len(d) > 50 || strings.Contains(d, "\n") || strings.HasSuffix(d, ".") {
		t.Errorf("the short description: %q", d)
	}
	if !strings.Contains(spec.Caveats, "completion --help") {
		t.Errorf("caveats are for set-up: %q", spec.Caveats)
	}
	sums := read(t, filepath.Join(dist, "checksums.txt"))
	seen := map[string]bool{}
	for _, p := range spec.Platforms {
		labels := p.Selector.MatchLabels
		system := labels["os"] + "/" + labels["arch"]
		if len(labels) != 2 || seen[system] || systems[system] == "" {
			t.Errorf("a platform that krew has not, or twice: %v", labels)
			continue
		}
		seen[system] = true
		name := filepath.Base(p.URI)
		if want := "kubectl-istio-upgrade_" + spec.Version + "_" + systems[system]; name != want {
			t.Errorf("%s: the archive is %s, not %s", system, name, want)
		}
		file := filepath.Join(dist, name)
		sum := sha256.Sum256([]byte(read(t, file)))
		if digest := hex.EncodeToString(sum[:]); p.SHA256 != digest || !strings.Contains(sums, digest+"  "+name) {
			t.Errorf("%s: %s, the manifest has %s, and checksums.txt:\n%s", name, digest, p.SHA256, sums)
		}
		binary := "kubectl-istio_upgrade"
		if labels["os"] == "windows" {
			binary += ".exe"
		}
		if want, got := []string{"LICENSE", binary, "kubectl_complete-istio_upgrade"}, holds(t, file); p.Bin != binary || !slices.Equal(got, want) {
			t.Errorf("%s holds %v, not %v; the manifest runs %s", name, got, want, p.Bin)
		}
	}
	if len(seen) != len(systems) {
		t.Errorf("%d of %d platforms: %v", len(seen), len(systems), seen)
	}
}

// holds gives the sorted names in an archive of either kind.
func holds(t *testing.T, file string) []string {
	t.Helper()
	if !strings.HasSuffix(file, ".zip") {
		return members(t, file)
	}
	archive, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = archive.Close() }() // only read
	var names []string
	for _, f := range archive.File {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}
