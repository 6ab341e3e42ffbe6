package faults

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// releaseFaults are about istiod's release. Others stand in
// TestControlPlaneFaults of the package above.
func releaseFaults(m *mesh) {
	m.sub("validation down while custom resources are applied", validationDown)
	m.sub("release changed while it comes up", changedWhileComingUp)
	m.sub("server lost in the middle of a release", lostInRelease)
	m.sub("interrupted in the middle of a release", interruptedInRelease)
	m.sub("control plane changed while sidecars move", changedWhileSidecarsMove)
}

// chartsWith gives a folder of charts whose istiod has one more template.
func (m *mesh) chartsWith(template string) string {
	m.T.Helper()
	dir := filepath.Join(m.T.TempDir(), "charts")
	m.Check(os.CopyFS(dir, os.DirFS(clustertest.Parts.ChartFolder(newer))))
	m.Check(os.WriteFile(filepath.Join(dir, "istio-control", "istio-discovery", "templates", "zz-more.yaml"), []byte(template), 0o600))
	return dir
}

func controlPlaneOf(charts string, more ...string) []string {
	return append([]string{"control-plane", "--tag", newer, "--charts", charts, "--yes"}, more...)
}

// validationDown: the chart holds a custom resource, and nobody validates it.
func validationDown(m *mesh) {
	charts := m.chartsWith(`apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: from-the-chart, namespace: istio-system}
spec: {egress: [{hosts: ["./*"]}]}
`)
	m.Check(m.StopIstiod(""))
	o := m.Run(controlPlaneOf(charts)...)
	m.Check(m.StartIstiod(m.T.Context(), ""))
	m.wants(o, 1, "failed calling webhook", "validation")
	m.Must(0, controlPlaneOf(charts)...)
	m.healthy()
	m.RunKubectl("get", "sidecars.networking.istio.io", "from-the-chart", "-n", lab.IstioNamespace)
}

// colleague upgrades the release with Helm's own command line.
func (m *mesh) colleague(set string) {
	m.Check(m.Helm(m.T.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", newer), "-n", lab.IstioNamespace, "--reuse-values", "--set", set))
}

func (m *mesh) hasEnv(names ...string) {
	m.T.Helper()
	have := m.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", `jsonpath={.spec.template.spec.containers[0].env[*].name}`)
	for _, name := range names {
		if !strings.Contains(have, name) {
			m.T.Errorf("%s was lost: %s", name, have)
		}
	}
}

// held has istiod's new pods not become ready until release.
func (m *mesh) heldIstiod() (release func()) {
	m.T.Helper()
	restore, err := m.FailPods(m.T.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: lab.IstioNamespace, Labels: map[string]string{"app": "istiod"}})
	m.Check(err)
	over := false
	m.T.Cleanup(func() {
		if !over {
			ctx, cancel := cleanupContext()
			defer cancel()
			_ = restore(ctx)
		}
	})
	return func() { m.T.Helper(); over = true; m.Check(restore(m.T.Context())) }
}

// changedWhileComingUp: a colleague upgrades the release while ours comes up.
func changedWhileComingUp(m *mesh) {
	release := m.heldIstiod()
	run := controlPlane("--set", "pilot.env.MINE=2")
	p := start(m.World, run...)
	p.until("deployment/istiod in istio-system")
	m.colleague("pilot.env.COLLEAGUE=2")
	release()
	if o := p.wait(); o.Code != 0 && o.Code != 3 {
		m.T.Errorf("want exit code 0 or 3\n%s", o)
	}
	m.Must(0, run...)
	m.healthy()
	m.hasEnv("COLLEAGUE", "MINE")
}

// lostInRelease: the API server is gone when the new revision is half written.
func lostInRelease(m *mesh) {
	g := newGateway(m.World)
	m.OtherKubeconfig = g.kubeconfig(nil)
	var once sync.Once
	g.spoils(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/deployments/istiod") && !strings.Contains(r.URL.RawQuery, "dryRun") {
			lost := false
			once.Do(func() { g.goesDown(); lost = true })
			if lost {
				panic(http.ErrAbortHandler)
			}
		}
		return false
	})
	run := controlPlane("--set", "pilot.env.LOST=1", "--timeout", "20s")
	o := m.Run(run...)
	m.wants(o, 1, "does not answer")
	g.comesBack()
	m.Must(0, run...)
	m.healthy()
}

// interruptedInRelease: istiod's new pods are coming up.
func interruptedInRelease(m *mesh) {
	release := m.heldIstiod()
	run := controlPlane("--set", "pilot.env.INTERRUPTED=1")
	p := start(m.World, run...)
	p.until("deployment/istiod in istio-system")
	p.signal(os.Interrupt)
	p.must(130, "the same command watches it to its end")
	release()
	m.Must(0, run...)
	m.healthy()
}

// changedWhileSidecarsMove: somebody puts the tag back while workloads move.
// Their pods are not as promised, and nothing else is touched.
func changedWhileSidecarsMove(m *mesh) {
	restore, err := m.FailPods(m.T.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: "shop", ProxyTag: newer})
	m.Check(err)
	run := []string{"sidecars", "-n", "shop", "--yes", "--max-parallel", "1"}
	p := start(m.World, run...)
	p.until(": 1 of 2 new")
	m.colleague("global.tag=" + older)
	m.Check(restore(m.T.Context()))
	p.must(3, "though", "was promised", "2 not started")
	m.colleague("global.tag=" + newer)
	m.Must(0, append(run, "--force")...)
	m.WantProxies("shop", "", map[string]int{newer: 6})
}
