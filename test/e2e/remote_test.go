package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// A remote cluster has an injector and nothing else of Istio's: its webhook
// points by URL to the istiod of another cluster, here that of the shared one.
// What is stale is asked of it, and the workloads move.
func TestRemoteCluster(t *testing.T) {
	primary := sharedCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{AuditLog: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &world{&clustertest.World{Cluster: c, T: t}}
	hooks, err := primary.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
	w.Check(err)
	hooks.ObjectMeta = metav1.ObjectMeta{Name: hooks.Name, Labels: hooks.Labels}
	_, err = w.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, hooks, metav1.CreateOptions{})
	w.Check(err)
	ns := "remote"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 2, Spec: "serviceName: db"}.String())
	w.AwaitReady(ns, 4)
	w.WantProxies(ns, "", map[string]int{older: 4})
	primary.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web", "db")

	o := w.Must(0, "sidecars", "-n", ns, "--yes")

	if strings.Contains(o.Stderr, "warning") || strings.Contains(o.Stderr, "not permitted") {
		t.Errorf("nothing is to be warned of: %s", o)
	}
	w.WantProxies(ns, "", map[string]int{newer: 4})
	endpoints.Never(w.World, 1)
	before := w.Writes()
	w.Must(0, "sidecars", "-A", "--yes")
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("a run with nothing to do wrote: %v", after[len(before):])
	}
	if o := w.Must(0, "status"); !strings.Contains(o.Stdout, newer) {
		t.Errorf("status does not show the proxies: %s", o)
	}
}

// A user with rights in one namespace alone can move what is there; what could
// not be read is said once.
func TestRightsInOneNamespace(t *testing.T) {
	w := sharedCluster(t)
	ns, other := "rights-mine", "rights-others"
	w.InjectedNamespace(ns)
	w.InjectedNamespace(other)
	for _, in := range []string{ns, other} {
		w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: in, Replicas: 2}.String())
		w.AwaitReady(in, 2)
	}
	w.Apply(fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: upgrader, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [pods], verbs: [list, watch, create]}
- {apiGroups: [apps], resources: [deployments], verbs: [list, watch, patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: upgrader, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: upgrader}
subjects: [{kind: User, name: ada, apiGroup: rbac.authorization.k8s.io}]`, ns))
	w.Inject(newer)
	var err error
	w.OtherKubeconfig, err = w.KubeconfigAs("ada")
	w.Check(err)
	endpoints := w.WatchEndpoints(ns, "web")

	o := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json")

	var doc struct {
		Plan struct {
			Warnings []string `json:"warnings"`
		} `json:"plan"`
	}
	w.Check(json.Unmarshal([]byte(o.Stdout), &doc))
	seen := map[string]int{}
	for _, text := range doc.Plan.Warnings {
		seen[text]++
	}
	unread := 0
	for text, n := range seen {
		if n > 1 {
			t.Errorf("said %d times: %s", n, text)
		}
		if strings.Contains(text, "not permitted to read") {
			unread++
		}
	}
	if unread == 0 {
		t.Errorf("what could not be read is not said: %v", doc.Plan.Warnings)
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	endpoints.Never(w.World, 2)
	if o := w.Run("sidecars", "-n", other, "--yes"); o.Code != 1 || !strings.Contains(o.Stderr, "pods") || strings.Contains(o.Stderr, "goroutine") {
		t.Errorf("another's namespace: want exit code 1 and pods named\n%s", o)
	}
	w.WantProxies(other, "web", map[string]int{older: 2})
}

// A run over many namespaces shares its watches: their number does not grow
// with that of the namespaces.
func TestManyNamespacesShareWatches(t *testing.T) {
	w := sharedCluster(t)
	const namespaces = 12
	for i := range namespaces {
		ns := fmt.Sprintf("many-%02d", i)
		w.InjectedNamespace(ns)
		w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1, Labels: "many: 'yes'"}.String())
	}
	for i := range namespaces {
		w.AwaitReady(fmt.Sprintf("many-%02d", i), 1)
	}
	w.Inject(newer)
	w.Must(0, "sidecars", "-A", "-l", "many=yes", "--yes", "--max-parallel", "12")
	for i := range namespaces {
		w.WantProxies(fmt.Sprintf("many-%02d", i), "web", map[string]int{newer: 1})
	}
	events, err := w.AuditEvents(t.Context(), "kubectl-istio-upgrade/")
	w.Check(err)
	watched := map[string]bool{}
	for _, e := range events {
		if e.Verb == "watch" && strings.HasPrefix(e.Object.Namespace, "many-") {
			watched[e.Object.Resource+" of "+e.Object.Namespace] = true
		}
	}
	if len(watched) > 0 {
		t.Errorf("%d watches of single namespaces, such as %v", len(watched), watched)
	}
}
