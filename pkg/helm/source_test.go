package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// chartYAML is the Chart.yaml of one of Istio's charts.
func chartYAML(name, version string) string {
	return fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %s\nsources: [https://github.com/istio/istio]\n", name, version)
}

// archiveOf packs files into a .tgz; names are taken as they are.
func archiveOf(tb testing.TB, files map[string]string) []byte {
	tb.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// istiodArchive is a packaged chart of istiod.
func istiodArchive(tb testing.TB, version string) []byte {
	tb.Helper()
	return archiveOf(tb, map[string]string{"istiod/Chart.yaml": chartYAML("istiod", version), "istiod/values.yaml": "a: 1\n"})
}

func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// noHelm hides the user's own Helm configuration.
func noHelm(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HELM_REPOSITORY_CONFIG", filepath.Join(dir, "repositories.yaml"))
	t.Setenv("HELM_REGISTRY_CONFIG", filepath.Join(dir, "registry.json"))
}

func TestParseSource(t *testing.T) {
	noHelm(t)
	dir := t.TempDir()
	file := filepath.Join(write(t, dir, map[string]string{"x.tgz": "x"}), "x.tgz")
	write(t, filepath.Dir(os.Getenv("HELM_REPOSITORY_CONFIG")), map[string]string{"repositories.yaml": `
apiVersion: ""
repositories:
- {name: istio, url: "https://charts.example.com/istio"}
- {name: own, url: "oci://registry.example.com/charts"}
`})
	for value, want := range map[string]struct {
		kind sourceKind
		text string
	}{
		"":                                 {sourceOCI, DefaultSource},
		"oci://ghcr.io/x/charts/":          {sourceOCI, "oci://ghcr.io/x/charts"},
		"https://user:secret@example.com/": {sourceRepo, "https://example.com/"},
		"istio":                            {sourceRepo, "https://charts.example.com/istio"},
		"own":                              {sourceOCI, "oci://registry.example.com/charts"},
		dir:                                {sourceFolder, dir},
		file:                               {sourceArchive, file},
	} {
		got, err := ParseSource(value)
		if err != nil || got.kind != want.kind || got.String() != want.text {
			t.Errorf("ParseSource(%q) = %v %q, %v; want %v %q", value, got.kind, got, err, want.kind, want.text)
		}
	}
	for _, value := range []string{"./absent", "absent", "ftp://example.com", "oci://", "https://"} {
		_, err := ParseSource(value)
		if _, ok := errors.AsType[*gate.BadInput](err); !ok {
			t.Errorf("ParseSource(%q): want a BadInput, got %v", value, err)
		}
	}
}

func TestLoadFolder(t *testing.T) {
	noHelm(t)
	layouts := map[string]map[string]string{
		"release archive, its root":   {"manifests/charts/istio-control/istio-discovery/Chart.yaml": chartYAML("istiod", "1.31.4")},
		"release archive, its charts": {"istio-control/istio-discovery/Chart.yaml": chartYAML("istio-discovery", "1.0.0")},
		"one chart a folder":          {"anything/Chart.yaml": chartYAML("istiod", "1.31.4"), "base/Chart.yaml": chartYAML("base", "1.31.4")},
		"the chart itself":            {"Chart.yaml": chartYAML("istiod", "1.31.4")},
		"archives": {
			"istiod-1.30.2.tgz": string(istiodArchive(t, "1.30.2")),
			"istiod-1.31.4.tgz": string(istiodArchive(t, "1.31.4")),
		},
		"the only archive, whatever its version": {"istiod-1.29.0.tgz": string(istiodArchive(t, "1.29.0"))},
	}
	for name, files := range layouts {
		source, err := ParseSource(write(t, t.TempDir(), files))
		if err != nil {
			t.Fatal(err)
		}
		chart, err := source.Load(t.Context(), Istiod, "1.31.4-distroless")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if chart.Component != Istiod || chart.Placeholder != (chart.Version == "1.0.0") {
			t.Errorf("%s: got %+v", name, chart)
		}
		if name == "archives" && chart.Version != "1.31.4" {
			t.Errorf("%s: got version %s", name, chart.Version)
		}
	}
}

func TestLoadFolderRefuses(t *testing.T) {
	noHelm(t)
	for want, files := range map[string]map[string]string{
		"nearest: 1.30.2, 1.29.0": {
			"istiod-1.30.2.tgz": string(istiodArchive(t, "1.30.2")),
			"istiod-1.29.0.tgz": string(istiodArchive(t, "1.29.0")),
		},
		"has no chart istiod": {"other/Chart.yaml": "apiVersion: v2\nname: istiod\nversion: 1.0.0\ndescription: not the one\n"},
	} {
		source, err := ParseSource(write(t, t.TempDir(), files))
		if err != nil {
			t.Fatal(err)
		}
		wantBadInput(t, want, loadErr(t, source, Istiod, "1.31.4"))
	}
}

func TestLoadArchive(t *testing.T) {
	noHelm(t)
	dir := write(t, t.TempDir(), map[string]string{
		"istiod.tgz": string(istiodArchive(t, "1.31.4")),
		"all.tgz": string(archiveOf(t, map[string]string{
			"charts/base/Chart.yaml":                                   chartYAML("base", "1.31.4"),
			"charts/istio-control/istio-discovery/Chart.yaml":          chartYAML("istiod", "1.31.4"),
			"charts/istio-control/istio-discovery/charts/x/Chart.yaml": chartYAML("x", "1.0.0"),
		})),
		"out.tgz":   string(archiveOf(t, map[string]string{"istiod/Chart.yaml": chartYAML("istiod", "1.31.4"), "istiod/../../../evil": "x"})),
		"half.tgz":  string(istiodArchive(t, "1.31.4")[:80]),
		"plain.tgz": "apiVersion: v2",
	})
	for name, want := range map[string]string{
		"istiod.tgz": "", "all.tgz": "",
		"out.tgz": "is no chart archive", "half.tgz": "is no chart archive", "plain.tgz": "is no chart archive",
	} {
		source, err := ParseSource(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		chart, err := source.Load(t.Context(), Istiod, "1.31.4")
		if want != "" {
			wantBadInput(t, want, err)
		} else if err != nil || chart.Name != "istiod" {
			t.Errorf("%s: got %v, %v", name, chart, err)
		}
	}
	source, err := ParseSource(filepath.Join(dir, "istiod.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	wantBadInput(t, "holds the chart istiod, not base", loadErr(t, source, Base, "1.31.4"))
}

func TestLoadRepository(t *testing.T) {
	noHelm(t)
	archive := istiodArchive(t, "1.31.4")
	index := `
apiVersion: v1
entries:
  istiod:
  - {apiVersion: v2, name: istiod, version: 1.31.4, urls: [istiod-1.31.4.tgz]}
  - {apiVersion: v2, name: istiod, version: 1.30.2, urls: [half.tgz]}
  - {apiVersion: v2, name: istiod, version: 1.29.0, urls: [missing.tgz]}
`
	mux := http.NewServeMux()
	serve := func(path string, status int, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	serve("/good/index.yaml", 200, index)
	serve("/good/istiod-1.31.4.tgz", 200, string(archive))
	serve("/good/half.tgz", 200, string(archive[:50]))
	serve("/login/index.yaml", 401, "")
	serve("/broken/index.yaml", 500, "")
	serve("/html/index.yaml", 200, "<html>")
	mux.HandleFunc("/slow/index.yaml", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	load := func(path, tag string) error {
		source, err := ParseSource(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return loadErr(t, source, Istiod, tag)
	}
	if err := load("/good", "1.31.4-distroless"); err != nil {
		t.Errorf("the good repository: %v", err)
	}
	wantBadInput(t, "no version 1.31.9 of the chart istiod; nearest: 1.31.4, 1.30.2", load("/good", "1.31.9"))
	wantBadInput(t, "load a chart", load("/good", "1.30.2"))
	wantBadInput(t, "404", load("/good", "1.29.0"))
	wantBadInput(t, "wants a login", load("/login", "1.31.4"))
	wantBadInput(t, "cannot be reached", load("/broken", "1.31.4"))
	wantBadInput(t, "is no Helm repository", load("/html", "1.31.4"))
	wantBadInput(t, "does not exist", load("/nowhere", "1.31.4"))

	source, err := ParseSource(server.URL + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextFor(t, 100*time.Millisecond)
	defer cancel()
	if _, err := source.Load(ctx, Istiod, "1.31.4"); !errors.Is(err, ctx.Err()) || err == nil {
		t.Errorf("a slow source: want the context's end, got %v", err)
	}
}

// Digits of a port, a version or an address are no status.
func TestStatusOf(t *testing.T) {
	const oras = `GET "http://127.0.0.1:4010/v2/charts/istiod/manifests/1.31.404": response status code `
	for text, want := range map[string]int{
		oras + "404: not found": 404, oras + "401: Unauthorized": 401, oras + "500: Internal Server Error": 500,
		"http://127.0.0.1:40401/index.yaml answers 503 Service Unavailable": 503, "http://127.0.0.1:8403/index.yaml answers 401 Unauthorized": 401,
		"dial tcp 127.0.0.1:40400: connect: connection refused": 0, `Get "http://10.4.0.3:403/v2/": EOF`: 0,
	} {
		if got := statusOf(text); got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
	for text, want := range map[string]bool{
		oras + "404: manifest unknown": true, "ghcr.io/x/istiod:1.31.9: not found": true,
		oras + "500: Internal Server Error": false, "dial tcp 127.0.0.1:40400: connect: connection refused": false, "basic credential not found": false,
	} {
		if got := notFound(errors.New(text)); got != want {
			t.Errorf("%s: not found: %v", text, got)
		}
	}
	s := Source{location: "oci://127.0.0.1:4010"}
	err := s.unreachable(t.Context(), errors.New("dial tcp 127.0.0.1:4010: connect: connection refused"))
	wantBadInput(t, "cannot be reached", err)
}

func TestLoadOCIRefuses(t *testing.T) {
	noHelm(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v2/charts/istiod/manifests/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	mux.HandleFunc("/v2/charts/istiod/tags/list", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"name":"charts/istiod","tags":["1.31.4","1.30.2","latest"]}`))
	})
	mux.HandleFunc("/v2/private/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	for path, want := range map[string]string{
		"/charts":  "nearest: 1.31.4, 1.30.2",
		"/private": "wants a login",
	} {
		source, err := ParseSource("oci://" + host + path)
		if err != nil {
			t.Fatal(err)
		}
		wantBadInput(t, want, loadErr(t, source, Istiod, "1.31.9"))
	}
}
