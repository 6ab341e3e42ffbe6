package e2e

import (
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// A workload injected by hand that keeps the webhook away belongs to the control
// plane that its namespace's tag, or its own label, names: that one's settings are
// taken, and a second run finds nothing to do.
func TestManualBelongsToItsRevision(t *testing.T) {
	w := sharedCluster(t)
	w.Check(w.InstallIstio(t.Context(), newer, lab.IstioOptions{Revision: "byhand", Values: []string{"revisionTags={prod}"}}))
	for ns, label := range map[string]string{"manual-tag": "", "manual-rev": "\n        istio.io/rev: byhand"} {
		namespace := map[string]string(nil)
		if label == "" {
			namespace = map[string]string{"istio.io/rev": "prod"}
		}
		w.MakeNamespace(ns, namespace)
		injected := w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String())
		optedOut := strings.Replace(injected, "\n        app: web\n", "\n        app: web\n        sidecar.istio.io/inject: \"false\""+label+"\n", 1)
		if optedOut == injected {
			t.Fatalf("no pod label app: web in\n%s", injected)
		}
		w.Apply(optedOut)
	}
	for _, ns := range []string{"manual-tag", "manual-rev"} {
		w.AwaitReady(ns, 1)
		w.WantProxies(ns, "web", map[string]int{older: 1})
		item := w.Must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json", istioctl()).JSON(t).Find(t, "Deployment", "web")
		if item.Revision != "byhand" || item.How != "reinject" {
			t.Errorf("%s: %+v", ns, item)
		}
		w.Must(0, "sidecars", "-n", ns, "--yes", istioctl())
		w.WantProxies(ns, "web", map[string]int{newer: 1})
		if got := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.spec.template.metadata.annotations.sidecar\\.istio\\.io/status}"); !strings.Contains(got, `"revision":"byhand"`) {
			t.Errorf("%s: its status is %s", ns, got)
		}
		before := w.Writes()
		w.Must(0, "sidecars", "-n", ns, "--yes", istioctl())
		if after := w.Writes(); len(after) != len(before) {
			t.Errorf("%s: the second run wrote: %v", ns, after[len(before):])
		}
	}
}
