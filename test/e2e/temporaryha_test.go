package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

const replicasBefore = "istio-upgrade/replicas-before"

// minimum gives the autoscaler's minimum and the record of what it was.
func (w *world) minimum() string {
	w.T.Helper()
	return w.RunKubectl("get", "hpa", "istiod", "-n", lab.IstioNamespace, "-o", `jsonpath={.spec.minReplicas} {.metadata.annotations.istio-upgrade/replicas-before}`)
}

// nothingRaised looks whether no trace is left.
func (w *world) nothingRaised() {
	w.T.Helper()
	hpa, err := w.Client().AutoscalingV2().HorizontalPodAutoscalers(lab.IstioNamespace).Get(w.T.Context(), "istiod", metav1.GetOptions{})
	w.Check(err)
	if *hpa.Spec.MinReplicas != 1 || hpa.Annotations[replicasBefore] != "" {
		w.T.Errorf("the autoscaler's minimum is %d, its annotations are %v", *hpa.Spec.MinReplicas, hpa.Annotations)
	}
	if slices.ContainsFunc(hpa.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return strings.HasPrefix(e.Manager, "istio-upgrade") }) {
		w.T.Errorf("fields are still ours: %v", hpa.ManagedFields)
	}
}

// oneReplica brings istiod back to a single replica under its autoscaler.
func (w *world) oneReplica() {
	w.T.Helper()
	w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=true,autoscaleMin=1,pilot.autoscaleMin=1")...)
	w.RunKubectl("scale", "deployment", "istiod", "-n", lab.IstioNamespace, "--replicas=1")
	w.Eventually("one istiod", func() string {
		if got := w.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.status.replicas}"); got != "1" {
			return "there are " + got
		}
		return ""
	})
}

// serverSide has the release written by server-side apply from here on, where
// managers may conflict.
func (w *world) serverSide() {
	w.T.Helper()
	w.Check(w.Helm(w.T.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", newer), "-n", lab.IstioNamespace,
		"--reuse-values", "--server-side=true", "--force-conflicts"))
}

// temporaryHA raises the autoscaler's minimum for the length of the upgrade.
func temporaryHA(w *world) {
	w.serverSide()
	w.oneReplica()
	watch := w.WatchEndpoints(lab.IstioNamespace, "istiod")
	o := w.Must(0, upgrade(newer, "--temporary-ha", "--set", "pilot.env.T=1")...)
	w.Want(o, "minimum of the autoscaler istiod in istio-system", "1 → 2 for the length of the upgrade", "back to 1")
	watch.Never(w.World, 1)
	if got := w.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.status.readyReplicas}"); got != "2" {
		w.T.Errorf("istiod had %s ready replicas at the end", got)
	}
	w.nothingRaised()
	w.Want(w.Must(2, upgrade(newer, "--temporary-ha", "--ensure-ha")...), "exclude each other")
}

// temporaryHAInterrupted: the run that was interrupted puts the minimum back itself.
func temporaryHAInterrupted(w *world) {
	w.oneReplica()
	args := upgrade(newer, "--temporary-ha", "--set", "pilot.env.T=interrupted")
	if code := w.signalledWhen(os.Interrupt, func() bool { return w.minimum() == "2 1" }, args...); code != 130 {
		w.T.Errorf("exit code %d", code)
	}
	w.nothingRaised()
	w.Must(0, args...)
	w.nothingRaised()
}

// temporaryHAKilled kills the run with the minimum raised; the next one puts it
// back, and the user's own upgrade has no conflict.
func temporaryHAKilled(w *world) {
	w.oneReplica()
	args := upgrade(newer, "--set", "pilot.env.T=2")
	w.killedWhen(func() bool { return w.minimum() == "2 1" }, append(args, "--temporary-ha")...)
	if got := w.minimum(); got != "2 1" {
		w.T.Fatalf("after the kill: %q", got)
	}
	o := w.Must(0, append(args, "--dry-run")...)
	w.Want(o, "An earlier run has raised the minimum of the autoscaler istiod in istio-system; it goes back to 1")
	w.Must(0, args...)
	w.nothingRaised()
	if err := w.Helm(w.T.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", newer), "-n", lab.IstioNamespace, "--reuse-values", "--set", "autoscaleMax=7,pilot.autoscaleMax=7"); err != nil {
		w.T.Errorf("the user's own upgrade: %v", err)
	}
}

// temporaryHAReplicas raises the replicas themselves where nothing scales them.
func temporaryHAReplicas(w *world) {
	w.oneReplica()
	w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=false,replicaCount=1,pilot.replicaCount=1")...)
	seen := w.replicasSeen(func() {
		w.Want(w.Must(0, upgrade(newer, "--temporary-ha", "--set", "pilot.env.T=3")...), "replicas of deployment/istiod in istio-system", "1 → 2")
	})
	if !slices.Contains(seen, 2) {
		w.T.Errorf("replicas were %v", seen)
	}
	d, err := w.Client().AppsV1().Deployments(lab.IstioNamespace).Get(w.T.Context(), "istiod", metav1.GetOptions{})
	w.Check(err)
	if *d.Spec.Replicas != 1 || d.Annotations[replicasBefore] != "" {
		w.T.Errorf("%d replicas, annotations %v", *d.Spec.Replicas, d.Annotations)
	}
	if fmt.Sprint(d.ManagedFields) == "" || slices.ContainsFunc(d.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return strings.HasPrefix(e.Manager, "istio-upgrade-temporary") }) {
		w.T.Errorf("fields are still ours: %v", d.ManagedFields)
	}
	w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=true")...)
}
