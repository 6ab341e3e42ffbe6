// Command manifest writes the plugin's krew manifest, from its template and what
// GoReleaser has left in its dist folder: every archive is a platform. GoReleaser's
// own section for krew knows neither linux/386 nor linux/ppc64le.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

func main() {
	dist := flag.String("dist", "dist", "GoReleaser's folder")
	source := flag.String("template", "krew/istio-upgrade.yaml.tmpl", "The manifest's template")
	flag.Parse()
	if err := run(*dist, *source); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run writes DIST/krew/istio-upgrade.yaml.
func run(dist, source string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	manifest, err := render(string(text), dist)
	if err != nil {
		return err
	}
	folder := filepath.Join(dist, "krew")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "istio-upgrade.yaml"), manifest, 0o644)
}

// archive is one of the release: the plugin for one platform.
type archive struct{ OS, Arch, Name, SHA256, Binary string }

func render(text, dist string) ([]byte, error) {
	var metadata struct{ Version string }
	if err := decode(filepath.Join(dist, "metadata.json"), &metadata); err != nil {
		return nil, err
	}
	archives, err := archivesIn(dist)
	if err != nil {
		return nil, err
	}
	t, err := template.New("manifest").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Version": metadata.Version, "Archives": archives})
	return out.Bytes(), err
}

// archivesIn gives the archives that GoReleaser lists, by system and architecture.
// An archive without one binary or a checksum is an error.
func archivesIn(dist string) ([]archive, error) {
	var artifacts []struct {
		Name, Goos, Goarch, Type string
		Extra                    struct {
			Checksum string
			Binaries []string
		}
	}
	if err := decode(filepath.Join(dist, "artifacts.json"), &artifacts); err != nil {
		return nil, err
	}
	var out []archive
	for _, a := range artifacts {
		if a.Type != "Archive" {
			continue
		}
		sum, ok := strings.CutPrefix(a.Extra.Checksum, "sha256:")
		if !ok || len(a.Extra.Binaries) != 1 {
			return nil, fmt.Errorf("%s: checksum %q and binaries %q, not a sha256 and one binary", a.Name, a.Extra.Checksum, a.Extra.Binaries)
		}
		out = append(out, archive{a.Goos, a.Goarch, a.Name, sum, a.Extra.Binaries[0]})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no archive", dist)
	}
	slices.SortFunc(out, func(a, b archive) int { return cmp.Or(cmp.Compare(a.OS, b.OS), cmp.Compare(a.Arch, b.Arch)) })
	return out, nil
}

func decode(file string, into any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}
