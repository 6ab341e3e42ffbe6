package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// After a version whose proxy does not come up, the next one is not kept waiting
// for a rollout that has no end: forwards or back, it is begun anew.
func TestSidecarsBeginsABrokenRolloutAnew(t *testing.T) {
	w := sharedCluster(t)
	const ns = "anew"
	w.InjectedNamespace(ns)
	const broken = `lab/fail: image-pull, lab/fail-tag: "` + newer + `"`
	w.Apply(
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2, PodNotes: broken}.String(),
		manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 3, Spec: "serviceName: db", PodNotes: broken}.String(),
	)
	w.AwaitReady(ns, 5)
	w.Inject(newer)
	args := []string{"sidecars", "-n", ns, "--yes", "--max-parallel", "2"}
	o := w.Must(1, args...)
	w.Want(o, "ImagePullBackOff")
	w.WantProxies(ns, "web", map[string]int{older: 2, newer: 1})
	w.WantProxies(ns, "db", map[string]int{older: 2, newer: 1})
	w.Inject(older)
	endpoints := w.WatchEndpoints(ns, "web", "db")

	o = w.Must(0, args...)

	endpoints.Never(w.World, 1)
	w.Want(o, "hangs on the sidecar that it brings, and is begun anew", "✓ deployment/web", "✓ statefulset/db")
	w.WantProxies(ns, "web", map[string]int{older: 2})
	w.WantProxies(ns, "db", map[string]int{older: 3})
	w.AwaitReady(ns, 5)
	before := w.Writes()
	w.Must(0, args...)
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v", after[len(before):])
	}
}

// A StatefulSet does not replace a pod that is not ready when its template is put
// back: undoing has to.
func TestUndoReplacesThePodThatNeverGotReady(t *testing.T) {
	w := sharedCluster(t)
	const ns = "undoset"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 3, Spec: "serviceName: db"}.String())
	w.AwaitReady(ns, 3)
	w.Inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: ns})
	w.Check(err)

	o := w.Must(124, "sidecars", "-n", ns, "--yes", "--on-failure", "undo", "--timeout", "5s")

	w.Want(o, "its template was put back: 2 pods still run as before and stay")
	w.Eventually("the pod of the former template", func() string {
		pod, err := w.Client().CoreV1().Pods(ns).Get(t.Context(), "db-2", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if stamp := pod.Annotations["istio-upgrade/restarted"]; stamp != "" {
			return "it is still that of the restart: " + stamp
		}
		return ""
	})
	w.Check(restore(t.Context()))
	w.AwaitReady(ns, 3)
	w.RunKubectl("-n", ns, "rollout", "status", "statefulset/db", "--timeout=30s")
}
