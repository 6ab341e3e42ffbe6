package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/release/common"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// entries packs headers and their data into a .tgz.
func entries(t *testing.T, all ...tar.Header) string {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, header := range all {
		header.Mode = 0o644
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, header.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Archives that want out of their folder, or more room than a chart needs, are
// refused in one line, and nothing is written.
func TestHostileArchives(t *testing.T) {
	noHelm(t)
	limit := archive.MaxDecompressedChartSize
	archive.MaxDecompressedChartSize = 1 << 20
	t.Cleanup(func() { archive.MaxDecompressedChartSize = limit })
	dir := t.TempDir()
	for name, c := range map[string]struct{ archive, want string }{
		"parent":   {entries(t, tar.Header{Name: "istiod/../../evil", Size: 1}), "chart illegally references parent directory"},
		"absolute": {entries(t, tar.Header{Name: "istiod//etc/passwd", Size: 1}), "chart illegally contains absolute paths"},
		"windows":  {entries(t, tar.Header{Name: `istiod\c:\evil`, Size: 1}), "chart contains illegally named files"},
		"bomb":     {entries(t, tar.Header{Name: "istiod/Chart.yaml", Size: 2 << 20}), "decompressed chart is larger than the maximum size 1048576"},
		"empty":    {entries(t), "no files in chart archive"},
		"nothing":  {"", "file '" + filepath.Join(dir, "nothing.tgz") + "' does not appear to be a gzipped archive; got 'application/octet-stream'"},
	} {
		file := filepath.Join(write(t, dir, map[string]string{name + ".tgz": c.archive}), name+".tgz")
		source, err := ParseSource(file)
		if err != nil {
			t.Fatal(err)
		}
		err = loadErr(t, source, Istiod, "1.31.4")
		if want := "the charts source " + file + " is no chart archive: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s:\n%v\nwant\n%s", name, err, want)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "evil*")); len(files) > 0 {
		t.Errorf("it wrote outside its folder: %v", files)
	}
}

// A symbolic link in an archive is a file without content, never followed.
func TestLinkInArchive(t *testing.T) {
	noHelm(t)
	link := entries(t,
		tar.Header{Name: "istiod/Chart.yaml", Typeflag: tar.TypeSymlink, Linkname: "/etc/hostname"},
	)
	source, err := ParseSource(filepath.Join(write(t, t.TempDir(), map[string]string{"istiod.tgz": link}), "istiod.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	wantBadInput(t, "load a chart from", loadErr(t, source, Istiod, "1.31.4"))
}

// What a server does to a download, in one line each.
func TestHostileRepositories(t *testing.T) {
	noHelm(t)
	const index = "apiVersion: v1\nentries:\n  istiod:\n  - {apiVersion: v2, name: istiod, version: 1.31.4, urls: [istiod.tgz]}\n"
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		archive http.HandlerFunc
		want    string // URL stands for the server's address
	}{
		"cut off":   {cut, "the charts source URL cannot be reached: unexpected EOF"},
		"401":       {status(http.StatusUnauthorized), "the charts source URL wants a login: use helm registry login, or helm repo add with --username (URL/istiod.tgz answers 401 Unauthorized)"},
		"404":       {status(http.StatusNotFound), "the charts source URL does not exist (URL/istiod.tgz answers 404 Not Found)"},
		"500":       {status(http.StatusInternalServerError), "the charts source URL cannot be reached: URL/istiod.tgz answers 500 Internal Server Error"},
		"too large": {tooLarge, "the charts source URL cannot be reached: Get \"URL/istiod.tgz\": HOST sends 104857601 bytes, more than any chart has"},
	} {
		mux := http.NewServeMux()
		mux.HandleFunc("/index.yaml", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(index)) })
		mux.HandleFunc("/istiod.tgz", c.archive)
		server := httptest.NewServer(mux)
		source, err := ParseSource(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		err = loadErr(t, source, Istiod, "1.31.4")
		want := strings.ReplaceAll(strings.ReplaceAll(c.want, "URL", server.URL), "HOST", strings.TrimPrefix(server.URL, "http://"))
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n%v\nwant\n%s", name, err, want)
		}
		server.Close()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func tooLarge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(maxDownload+1))
	w.WriteHeader(http.StatusOK)
}

// A run plans more than once, and downloads once.
func TestDownloadedOnce(t *testing.T) {
	noHelm(t)
	asked := 0
	data := istiodArchive(t, "1.31.4")
	mux := http.NewServeMux()
	mux.HandleFunc("/index.yaml", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("apiVersion: v1\nentries:\n  istiod:\n  - {apiVersion: v2, name: istiod, version: 1.31.4, urls: [istiod.tgz]}\n"))
	})
	mux.HandleFunc("/istiod.tgz", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = w.Write(data)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	source, err := ParseSource(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := source.Load(t.Context(), Istiod, "1.31.4"); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("it was downloaded %d times", asked)
	}
}

// Values files that are huge, or that explode, get a bounded answer.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	dir := write(t, t.TempDir(), map[string]string{
		"bomb.yaml": bomb, "huge.yaml": strings.Repeat("# nothing\n", maxValues/10+1),
		"deep.yaml": "a: " + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	})
	for name, want := range map[string]string{
		"bomb.yaml": "excessive aliasing", "huge.yaml": "is larger than 4 MiB", "deep.yaml": "exceeded max depth",
	} {
		_, err := UserValues([]string{filepath.Join(dir, name)}, nil)
		wantBadInput(t, want, err)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", name, err)
		}
	}
	_, err := UserValues(nil, []string{"a[100000]=x"})
	wantBadInput(t, "--set a[100000]=x", err)
}

// One record that cannot be decoded does not hide the other releases.
func TestUndecodableRecord(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, []stored{
		{"istio-system", "istiod", "istiod", istioHome, 1, common.StatusDeployed, nil},
		{"istio-system", "cni", "cni", istioHome, 1, common.StatusSuperseded, nil},
		{"istio-system", "cni", "cni", istioHome, 2, common.StatusDeployed, nil},
		{"shop", "web", "nginx", "", 3, common.StatusDeployed, nil},
	})
	for namespace, name := range map[string]string{"istio-system": "sh.helm.release.v1.cni.v2", "shop": "sh.helm.release.v1.web.v3"} {
		secrets := c.Kube.CoreV1().Secrets(namespace)
		record, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		record.Data["release"] = []byte("garbage")
		if _, err := secrets.Update(t.Context(), record, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	found, broken, err := ReadReleases(t.Context(), c, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Name != "istiod" {
		t.Errorf("found %v", found)
	}
	if len(broken) != 2 || broken[0].Release != "cni" || broken[1].Record != "sh.helm.release.v1.web.v3" || broken[0].Reason == "" {
		t.Errorf("broken: %+v", broken)
	}
	if _, err := Last(t.Context(), c, "istio-system", "cni"); err == nil || !strings.Contains(err.Error(), "sh.helm.release.v1.cni.v2 cannot be decoded") {
		t.Errorf("Last of a broken record: %v", err)
	}
	if history, err := History(t.Context(), c, "istio-system", "cni"); err != nil || len(history) != 1 {
		t.Errorf("History leaves %d, %v", len(history), err)
	}
}
