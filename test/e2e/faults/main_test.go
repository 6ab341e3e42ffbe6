// Package faults makes things go wrong on a real cluster while the built plugin
// works on it. Each case shows that the cause is named, that the mesh works on,
// that nothing is lost, and that the same command goes on from there.
// docs/reliability.md lists the cases.
package faults

import (
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

const (
	older = clustertest.Older
	newer = clustertest.Newer
)

func TestMain(m *testing.M) { clustertest.Main(m) }

type (
	outcome  = clustertest.Outcome
	manifest = clustertest.Manifest
)
