package faults

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// chartFaults are what can be wrong with a source of charts. Each happens to
// the step crds, and then to the same command at the same address without it.
var chartFaults = []struct {
	name  string
	words []string
	how   func(w http.ResponseWriter, r *http.Request) bool
}{
	{"source not found", []string{"does not exist", "404"}, func(w http.ResponseWriter, r *http.Request) bool {
		http.NotFound(w, r)
		return true
	}},
	{"source has no such version", []string{"has no version " + newer, "nearest: " + older}, index(func(text string) string {
		return strings.ReplaceAll(text, "version: "+newer, "version: "+older)
	})},
	{"source wants a login", []string{"wants a login", "helm repo add"}, func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return true
	}},
	{"source fails", []string{"cannot be reached", "500"}, func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "out of order", http.StatusInternalServerError)
		return true
	}},
	{"chart is half a file", []string{"unexpected EOF"}, archive(func(data []byte) []byte { return data[:len(data)/2] })},
	{"download breaks off", []string{"cannot be reached", "EOF"}, func(w http.ResponseWriter, r *http.Request) bool {
		if path.Ext(r.URL.Path) != ".tgz" {
			return false
		}
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 1000))
		panic(http.ErrAbortHandler)
	}},
	{"archive is no chart", []string{"load a chart from"}, archive(func([]byte) []byte { return tgz(map[string]string{"readme.txt": "hello"}) })},
	{"archive is not Istio's", []string{"is not one of Istio's"}, archive(func([]byte) []byte {
		return tgz(map[string]string{"base/Chart.yaml": "apiVersion: v2\nname: base\nversion: " + newer + "\ndescription: of another project\n"})
	})},
	{"archive wants to write outside", []string{"load a chart from"}, archive(func([]byte) []byte {
		return tgz(map[string]string{
			"base/Chart.yaml":       "apiVersion: v2\nname: base\nversion: " + newer + "\nsources: [https://github.com/istio/istio]\n",
			"base/../../../evil":    "x",
			"base/templates/a.yaml": "",
		})
	})},
	{"archive is a page", []string{"load a chart from"}, archive(func([]byte) []byte { return []byte("<html>Please log in to the proxy</html>") })},
}

// chartServer is a Helm repository with both versions, where things go wrong.
type chartServer struct {
	url  string
	how  atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	seen chan string
}

func serveCharts(w *clustertest.World) *chartServer {
	w.T.Helper()
	dir := w.T.TempDir()
	w.Check(os.CopyFS(dir, os.DirFS(clustertest.Parts.PackagedCharts())))
	c := &chartServer{seen: make(chan string, 100)}
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case c.seen <- r.URL.Path:
		default:
		}
		r.Header.Set("X-Folder", dir)
		if how := c.how.Load(); how != nil && (*how)(w, r) {
			return
		}
		files.ServeHTTP(w, r)
	}))
	w.T.Cleanup(server.Close)
	c.url = server.URL
	w.Check(w.Helm(w.T.Context(), "repo", "index", dir, "--url", c.url))
	return c
}

func (c *chartServer) goesWrong(how func(http.ResponseWriter, *http.Request) bool) {
	if how == nil {
		c.how.Store(nil)
		return
	}
	c.how.Store(&how)
}

// index spoils the repository's index.
func index(edit func(string) string) func(http.ResponseWriter, *http.Request) bool {
	return spoiled(".yaml", func(data []byte) []byte { return []byte(edit(string(data))) })
}

// archive spoils the charts.
func archive(edit func([]byte) []byte) func(http.ResponseWriter, *http.Request) bool {
	return spoiled(".tgz", edit)
}

func spoiled(ext string, edit func([]byte) []byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if path.Ext(r.URL.Path) != ext {
			return false
		}
		data, err := os.ReadFile(filepath.Join(r.Header.Get("X-Folder"), path.Base(r.URL.Path)))
		if err != nil {
			http.NotFound(w, r)
			return true
		}
		_, _ = w.Write(edit(data))
		return true
	}
}

// tgz packs files.
func tgz(files map[string]string) []byte {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	t := tar.NewWriter(zip)
	for name, text := range files {
		_ = t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		_, _ = io.WriteString(t, text)
	}
	_ = t.Close()
	_ = zip.Close()
	return out.Bytes()
}

// sourceFaults runs each on the mesh: exit code 1, one line, nothing written.
func sourceFaults(m *mesh) {
	charts := serveCharts(m.World)
	run := []string{"crds", "--tag", newer, "--charts", charts.url, "--yes", "--no-backup"}
	for _, f := range chartFaults {
		m.sub(f.name, func(m *mesh) {
			before := len(m.Writes())
			charts.goesWrong(f.how)
			o := m.Must(1, run...)
			charts.goesWrong(nil)
			m.Want(o, f.words...)
			if lines := strings.Count(o.Stderr, "\n"); lines != 1 {
				m.T.Errorf("%d lines instead of one:\n%s", lines, o)
			}
			if after := m.Writes(); len(after) != before {
				m.T.Errorf("it wrote %v", after[before:])
			}
			m.Must(0, run...)
		})
	}
	m.sub("source is slow", func(m *mesh) {
		charts.goesWrong(func(http.ResponseWriter, *http.Request) bool { time.Sleep(2 * time.Second); return false })
		m.Must(0, run...)
		charts.goesWrong(nil)
	})
	m.sub("source does not end", func(m *mesh) {
		charts.goesWrong(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = fmt.Fprintln(w, "apiVersion: v1")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		})
		for len(charts.seen) > 0 {
			<-charts.seen
		}
		p := start(m.World, run...)
		<-charts.seen
		p.signal(syscall.SIGINT)
		if o := p.must(130, "interrupted"); o.Took > 30*time.Second {
			m.T.Errorf("it took %s", o.Took)
		}
		charts.goesWrong(nil)
		m.Must(0, run...)
	})
}
