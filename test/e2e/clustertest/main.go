// Package clustertest is what the tests on a real cluster share: the built
// plugin, a cluster with an older Istio, and what tests ask of both. It is
// imported by tests alone.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const (
	// Older and Newer are the versions between which tests upgrade.
	Older = lab.OlderIstio
	Newer = lab.NewerIstio
)

// Binary is the plugin under test: $ISTIO_UPGRADE, or one built for the run.
var Binary string

// Parts are the programs and charts of the lab.
var Parts lab.Parts

// Main is a package's TestMain: it builds what is missing, runs the tests, stops
// the shared cluster and exits.
func Main(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if Parts, err = lab.Build(ctx, os.Stderr); err != nil {
		return 1, err
	}
	if Binary = os.Getenv("ISTIO_UPGRADE"); Binary == "" {
		dir, err := os.MkdirTemp("", "istio-upgrade-")
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		Binary = filepath.Join(dir, "kubectl-istio_upgrade")
		build := exec.CommandContext(ctx, "go", "build", "-o", Binary, "./cmd/kubectl-istio_upgrade")
		build.Dir = root()
		if text, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build the plugin: %w\n%s", err, text)
		}
	}
	for range sharedClusters {
		shared.free <- nil
	}
	defer func() {
		for _, c := range shared.clusters {
			err = errors.Join(err, c.Stop())
		}
		if err != nil {
			code = 1
		}
	}()
	return m.Run(), nil
}

// shared are the clusters that tests use which change no control plane: a test
// has one to itself, and namespaces of its own there.
var shared = struct {
	sync.Mutex
	clusters []*lab.Cluster
	free     chan *lab.Cluster // nil for one that is still to be started
}{free: make(chan *lab.Cluster, sharedClusters)}

const sharedClusters = 2

// Shared gives the test a shared cluster with the older Istio, started by the
// first that wants it; such tests run beside each other.
func Shared(t *testing.T) *World {
	t.Helper()
	t.Parallel()
	c := <-shared.free
	t.Cleanup(func() { shared.free <- c })
	if c == nil {
		c = Start(t, lab.Options{})
		shared.Lock()
		shared.clusters = append(shared.clusters, c)
		shared.Unlock()
	}
	w := &World{Cluster: c, T: t}
	w.Inject(Older)
	return w
}

// Own gives the test a cluster of its own with the older Istio.
func Own(t *testing.T, options lab.Options) *World {
	t.Helper()
	c := Start(t, options)
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &World{Cluster: c, T: t}
}

// Start starts a cluster with the older Istio; its caller stops it.
func Start(t *testing.T, options lab.Options) *lab.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	options.AuditLog = true
	c, err := lab.Start(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.InstallIstio(ctx, Older, lab.IstioOptions{}); err != nil {
		t.Fatal(errors.Join(err, c.Stop()))
	}
	return c
}

// root is the repository's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}
