// Package e2e runs the built plugin against a real API server with a real
// Istio: see test/lab.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const (
	older = lab.OlderIstio
	newer = lab.NewerIstio
)

// binary is the plugin under test: $ISTIO_UPGRADE, or one built for the run.
var binary string

// parts are the programs and charts of the lab.
var parts lab.Parts

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if parts, err = lab.Build(ctx, os.Stderr); err != nil {
		return 1, err
	}
	if binary = os.Getenv("ISTIO_UPGRADE"); binary == "" {
		dir, err := os.MkdirTemp("", "istio-upgrade-")
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		binary = filepath.Join(dir, "kubectl-istio_upgrade")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/kubectl-istio_upgrade")
		build.Dir = filepath.Join("..", "..")
		if text, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build the plugin: %w\n%s", err, text)
		}
	}
	defer func() {
		if shared.cluster != nil {
			err = errors.Join(err, shared.cluster.Stop())
		}
		if err != nil {
			code = 1
		}
	}()
	return m.Run(), nil
}

// shared is the cluster that tests use which change no control plane: each in
// namespaces of its own, one after the other.
var shared struct {
	sync.Mutex
	cluster *lab.Cluster
}

// sharedCluster gives the shared cluster with the older Istio, started by the
// first test that wants it.
func sharedCluster(t *testing.T) *world {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		shared.cluster = start(t, lab.Options{})
	}
	w := &world{Cluster: shared.cluster, t: t}
	w.inject(older)
	return w
}

// ownCluster gives the test a cluster of its own with the older Istio.
func ownCluster(t *testing.T, options lab.Options) *world {
	t.Helper()
	c := start(t, options)
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &world{Cluster: c, t: t}
}

func start(t *testing.T, options lab.Options) *lab.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	options.AuditLog = true
	c, err := lab.Start(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.InstallIstio(ctx, older, lab.IstioOptions{}); err != nil {
		t.Fatal(errors.Join(err, c.Stop()))
	}
	return c
}
