package faults

import (
	"slices"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

var sidecarsFaults = [][]fault{podFaults, peopleFaults, admissionFaults, webhookFaults, apiFaults, toolFaults}

// What goes wrong while workloads get their new proxies. The cases share one
// cluster, each in a namespace of its own.
func TestSidecarsFaults(t *testing.T) {
	t.Parallel()
	w := clustertest.Own(t, lab.Options{})
	faults := slices.Concat(sidecarsFaults...)
	makeNode(w, "small-1", "small-1", 10)
	makeNode(w, "small-2", "small-2", 3)
	for _, only := range []string{"drained", "lost"} {
		makeNode(w, only+"-1", only, 10)
		makeNode(w, only+"-2", only, 10)
	}
	prepare(w, faults)
	play(t, w, faults)
}
