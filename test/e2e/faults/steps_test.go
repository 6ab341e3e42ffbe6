package faults

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// stepFaults are about the folder of the backup, and about --timeout.
func stepFaults(m *mesh) {
	crds := func(more ...string) []string {
		return append([]string{"crds", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--yes"}, more...)
	}
	m.sub("disk full in the backup", func(m *mesh) {
		m.stale()
		o := m.onMount("size=4k", func(dir string) []string { return crds("--backup-dir", filepath.Join(dir, "backup")) }, nil)
		m.wants(o, 1, "nothing was changed", "no space left on device")
		dir := m.T.TempDir() // as after a run that was killed there
		m.Check(os.WriteFile(filepath.Join(dir, "virtualservices.networking.istio.io.yaml.partial"), nil, 0o600))
		for range 2 {
			m.stale()
			m.Must(0, crds("--backup-dir", dir)...)
		}
	})
	m.sub("state folder read-only", func(m *mesh) {
		m.stale()
		o := m.onMount("ro", func(string) []string { return crds() }, func(dir string) []string {
			return []string{"XDG_STATE_HOME=" + dir}
		})
		m.wants(o, 1, "nothing was changed", "read-only file system")
		m.Must(0, crds()...)
	})
	m.sub("timeout of the CRDs", func(m *mesh) {
		m.stale()
		g := newGateway(m.World)
		m.OtherKubeconfig = g.kubeconfig(nil)
		unestablished(g)
		m.wants(m.Run(crds("--no-backup", "--timeout", "5s")...), 124, "is not established after 5s")
		g.proxy.ModifyResponse = nil
		m.OtherKubeconfig = ""
		m.Must(0, crds("--no-backup")...)
	})
	m.sub("server lost in the middle of the CRDs", lostInCRDs)
	m.sub("timeout of the control plane", func(m *mesh) {
		release := m.heldIstiod()
		run := controlPlane("--timeout", "15s", "--set", "pilot.env.TIMED=1")
		m.wants(m.Run(run...), 124, "made no progress for 15s")
		release()
		m.Must(0, run...)
		m.healthy()
	})
}

// lostInCRDs: the API server is gone when some of the definitions are written.
func lostInCRDs(m *mesh) {
	m.stale()
	run := []string{"crds", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--yes", "--timeout", "20s"}
	g := newGateway(m.World)
	m.OtherKubeconfig = g.kubeconfig(nil)
	var written atomic.Int32
	g.spoils(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || !strings.Contains(r.URL.Path, "/customresourcedefinitions/") || strings.Contains(r.URL.RawQuery, "dryRun") {
			return false
		}
		if written.Add(1) == 4 {
			g.goesDown()
			panic(http.ErrAbortHandler)
		}
		return false
	})
	m.wants(m.Run(run...), 1, "does not answer")
	g.comesBack()
	m.Must(0, run...)
	m.Want(m.Must(0, run...), "Nothing to change")
}

// stale has the definitions say that they are of the older version, so that
// the step has something to do.
func (m *mesh) stale() {
	m.T.Helper()
	m.Check(m.Helm(m.T.Context(), "upgrade", "istio-base", clustertest.Parts.Chart("base", older), "-n", lab.IstioNamespace, "--reuse-values", "--force-conflicts"))
}

func (m *mesh) wants(o outcome, code int, words ...string) {
	m.T.Helper()
	if o.Code != code {
		m.T.Errorf("want exit code %d\n%s", code, o)
	}
	m.Want(o, words...)
}

// onMount runs the plugin where a file system of its own is mounted, without
// the rights that would need outside.
func (m *mesh) onMount(options string, args, env func(dir string) []string) outcome {
	m.T.Helper()
	if _, err := exec.LookPath("unshare"); err != nil {
		m.T.Skip("no unshare on this machine")
	}
	dir := m.T.TempDir()
	cmd := m.Command(m.T.Context(), args(dir)...)
	script := `mount -t tmpfs -o "$1" tmpfs "$2" || exit 77; shift 2; exec "$@"`
	wrapped := exec.CommandContext(m.T.Context(), "unshare", append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", options, dir}, cmd.Args...)...)
	wrapped.Env = cmd.Env
	if env != nil {
		wrapped.Env = append(wrapped.Env, env(dir)...)
	}
	var out, errOut bytes.Buffer
	wrapped.Stdout, wrapped.Stderr = &out, &errOut
	began := time.Now()
	err := wrapped.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.T.Fatal(err)
	}
	if code := wrapped.ProcessState.ExitCode(); code == 77 || strings.Contains(errOut.String(), "unshare:") {
		m.T.Skipf("no file system may be mounted here: %s", errOut.String())
	}
	return outcome{Stdout: out.String(), Stderr: errOut.String(), Code: wrapped.ProcessState.ExitCode(), Took: time.Since(began)}
}

// unestablished has the API server say of every definition that it is not
// served yet, once one of them was written.
func unestablished(g *gateway) {
	written := false
	accept := func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/customresourcedefinitions") {
			written = written || r.Method == http.MethodPatch && !strings.Contains(r.URL.RawQuery, "dryRun")
			r.Header.Set("Accept", "application/json")
			r.Header.Del("Accept-Encoding")
		}
	}
	g.edit.Store(&accept)
	g.proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method != http.MethodGet || !written || !strings.Contains(r.Request.URL.Path, "/customresourcedefinitions") {
			return nil
		}
		r.Body = replacing(r.Body, `"type":"Established","status":"True"`, `"type":"Established","status":"False"`)
		r.ContentLength = -1
		r.Header.Del("Content-Length")
		return nil
	}
}

// replacing replaces in a stream of JSON, line by line.
func replacing(body io.ReadCloser, from, to string) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		var rest []byte
		buffer := make([]byte, 1<<16)
		for {
			n, err := body.Read(buffer)
			rest = append(rest, buffer[:n]...)
			if end := bytes.LastIndexByte(rest, '\n') + 1; end > 0 || err != nil {
				if err != nil {
					end = len(rest)
				}
				if _, failed := writer.Write(bytes.ReplaceAll(rest[:end], []byte(from), []byte(to))); failed != nil {
					_ = body.Close()
					return
				}
				rest = rest[end:]
			}
			if err != nil {
				_ = body.Close()
				_ = writer.CloseWithError(err)
				return
			}
		}
	}()
	return reader
}
