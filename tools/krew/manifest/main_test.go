package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every archive becomes a platform, in a stable order, and nothing else does.
func TestEveryArchiveIsAPlatform(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "..", "krew", "istio-upgrade.yaml.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(kind, system, arch, sum string) string {
		return `{"type":"` + kind + `","name":"` + system + "_" + arch + `.tgz","goos":"` + system + `","goarch":"` + arch + `","extra":{"Checksum":"` + sum + `","Binaries":["b-` + system + `"]}}`
	}
	for _, c := range []struct{ name, artifacts, platforms, fails string }{
		{
			"archives", entry("Archive", "windows", "arm64", "sha256:aa") + "," + entry("Archive", "linux", "ppc64le", "sha256:bb") + "," + entry("Binary", "linux", "ppc64le", "") + "," + entry("Archive", "linux", "386", "sha256:cc"),
			"linux 386 cc b-linux, linux ppc64le bb b-linux, windows arm64 aa b-windows", "",
		},
		{"one without a checksum", entry("Archive", "linux", "386", ""), "", "linux_386.tgz: checksum"},
		{"none", entry("Binary", "linux", "386", ""), "", "holds no archive"},
	} {
		dist := t.TempDir()
		for file, text := range map[string]string{"artifacts.json": "[" + c.artifacts + "]", "metadata.json": `{"version":"1.2.3"}`} {
			if err := os.WriteFile(filepath.Join(dist, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := render(string(source), dist)
		if err != nil || c.fails != "" {
			if err == nil || c.fails == "" || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var platforms []string
		_, list, _ := strings.Cut(string(got), "platforms:\n")
		for one := range strings.SplitSeq(list, "- selector:") {
			var os, arch, sum, bin string
			for line := range strings.Lines(one) {
				for key, value := range map[string]*string{"os: ": &os, "arch: ": &arch, "sha256: ": &sum, "bin: ": &bin} {
					if v, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
						*value = v
					}
				}
			}
			if os != "" {
				platforms = append(platforms, os+" "+arch+" "+sum+" "+bin)
			}
		}
		if have := strings.Join(platforms, ", "); have != c.platforms || !strings.Contains(string(got), "version: v1.2.3\n") || !strings.Contains(list, "/releases/download/v1.2.3/linux_386.tgz\n") {
			t.Errorf("%s: %s in\n%s", c.name, have, got)
		}
	}
}
