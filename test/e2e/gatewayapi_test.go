package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const gatewayOfIstiod = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]`

// A mesh on nodes that have come to a version with native sidecars, with a
// Gateway of the Kubernetes Gateway API: the workloads change their form with
// their version, and the Gateway's Deployment is left to istiod, which moves it.
func TestAllWithNativeSidecarsAndTheGatewayAPI(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	ctx := t.Context()
	w.InjectedNamespace("shop")
	w.Apply(
		manifest{Kind: "Deployment", Name: "web", Namespace: "shop", Replicas: 2}.String(),
		manifest{Kind: "StatefulSet", Name: "db", Namespace: "shop", Replicas: 2, Spec: "serviceName: db"}.String(),
	)
	w.AwaitReady("shop", 4)
	w.Check(w.InstallGatewayAPI(ctx))
	w.MakeNamespace("edge", nil)
	w.Eventually("the Gateway", func() string {
		if _, err := w.Kubectl(ctx, []byte(gatewayOfIstiod), "apply", "-f", "-"); err != nil {
			return err.Error()
		}
		return ""
	})
	w.WantProxies("edge", "", map[string]int{older: 1})
	w.AwaitReady("edge", 1)
	w.Check(w.RaiseKubelets(ctx))
	w.Eventually("the native form", func() string {
		o := w.Must(0, "sidecars", "-n", "shop", "--dry-run")
		if want := "Moves, " + older + " classic → " + older + " native"; !strings.Contains(o.Stdout, want) || !strings.Contains(o.Stdout, "2 stale; 2 move") {
			return fmt.Sprintf("no %q of two in %s", want, o)
		}
		return ""
	})
	endpoints := w.WatchEndpoints("shop", "web", "db")
	all := []string{"all", "--tag", newer, "-A", "--charts", clustertest.Parts.PackagedCharts(), "--yes"}

	o := w.Must(0, append(all, "-o", "json")...)

	endpoints.Never(w.World, 1)
	w.WantProxies("shop", "", map[string]int{newer: 4})
	w.WantProxies("edge", "", map[string]int{newer: 1})
	w.wantForm("shop", 4, 0)
	for _, write := range w.Writes() {
		if strings.Contains(write, "/edge/deployments") || strings.Contains(write, "/edge/pods/") {
			t.Errorf("the Gateway is istiod's, and the plugin wrote: %s\n%s", write, o)
		}
	}

	before := w.Writes()
	o = w.Must(0, all...)
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
	if o := w.Must(0, "status"); strings.Contains(o.Stdout, "stale") || !strings.Contains(o.Stdout, newer) {
		t.Errorf("status: %s", o)
	}

	w.Must(0, "rollback", "--yes", "--proxies-first")
	w.WantProxies("shop", "", map[string]int{older: 4})
	w.WantProxies("edge", "", map[string]int{older: 1})
	w.wantForm("shop", 4, 0)
}

// wantForm ends the test where the namespace's proxies are not so many native
// sidecars and so many of the classic form.
func (w *world) wantForm(namespace string, native, classic int) {
	w.T.Helper()
	w.Eventually("the form of the sidecars in "+namespace, func() string {
		list, err := w.Client().CoreV1().Pods(namespace).List(w.T.Context(), metav1.ListOptions{})
		w.Check(err)
		proxy := func(c corev1.Container) bool { return c.Name == "istio-proxy" }
		n, c := 0, 0
		for i := range list.Items {
			switch pod := &list.Items[i]; {
			case pod.DeletionTimestamp != nil:
			case slices.ContainsFunc(pod.Spec.InitContainers, proxy):
				n++
			case slices.ContainsFunc(pod.Spec.Containers, proxy):
				c++
			}
		}
		if n != native || c != classic {
			return fmt.Sprintf("have %d native and %d classic, want %d and %d", n, c, native, classic)
		}
		return ""
	})
}
