// Package e2e runs the built plugin against a real API server with a real
// Istio: see test/lab.
package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const (
	older = clustertest.Older
	newer = clustertest.Newer
)

func TestMain(m *testing.M) { clustertest.Main(m) }

// world is a cluster as one test sees it, with what the tests of this package
// ask besides.
type world struct{ *clustertest.World }

type (
	outcome  = clustertest.Outcome
	manifest = clustertest.Manifest
)

func newWorld(c *lab.Cluster, t *testing.T) *world {
	return &world{&clustertest.World{Cluster: c, T: t}}
}

func sharedCluster(t *testing.T) *world {
	t.Helper()
	return &world{clustertest.Shared(t)}
}

// ownCluster gives the test a cluster of its own; such tests run beside each
// other.
func ownCluster(t *testing.T, options lab.Options) *world {
	t.Helper()
	t.Parallel()
	return &world{clustertest.Own(t, options)}
}

// noticed is how long an outage has to last to be seen in the endpoints: longer than
// their controller takes to try again (kubernetes pkg/controller/endpointslice).
const noticed = 2 * time.Second

// podsTake has pods take so long to become ready for the rest of the test, so that
// what is looked for is there to be seen on any machine.
func (w *world) podsTake(start time.Duration) {
	w.T.Helper()
	w.Check(w.SetPodStart(w.T.Context(), start))
	w.T.Cleanup(func() { w.Check(w.SetPodStart(context.WithoutCancel(w.T.Context()), 0)) })
}
