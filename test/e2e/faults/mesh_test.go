package faults

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// mesh is a cluster with a mesh in use, as one case sees it.
type mesh struct {
	*clustertest.World
	watch   *clustertest.EndpointWatch
	objects string // custom resources and definitions with their uids
}

const customResources = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: PERMISSIVE}}`

// newMesh starts a cluster with workloads and custom resources.
func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{World: clustertest.Own(t, lab.Options{})}
	m.Check(m.CreateNamespace(t.Context(), "shop", map[string]string{"istio-injection": "enabled"}))
	var all []string
	for _, name := range []string{"web", "cart", "mail"} {
		all = append(all, manifest{Kind: "Deployment", Name: name, Namespace: "shop", Replicas: 2}.String())
	}
	m.Apply(append(all, customResources)...)
	m.AwaitReady("shop", 6)
	m.watch = m.WatchEndpoints("shop", "web", "cart", "mail")
	m.objects = m.uids()
	return m
}

// uids gives what must outlive everything.
func (m *mesh) uids() string {
	m.T.Helper()
	return m.RunKubectl("get", "virtualservices,destinationrules,peerauthentications,deployments,services", "-n", "shop", "-o",
		`jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{"\n"}{end}`) +
		m.RunKubectl("get", "namespaces,crd", "-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{"\n"}{end}`)
}

// sub runs a case on the mesh, and then looks whether that works on.
func (m *mesh) sub(name string, test func(*mesh)) {
	m.T.Helper()
	m.T.Run(name, func(t *testing.T) {
		sub := &mesh{World: &clustertest.World{Cluster: m.Cluster, T: t}, watch: m.watch, objects: m.objects}
		test(sub)
		sub.works()
	})
}

// works says whether the mesh works: nothing is lost, no Service was without a
// ready endpoint, the injector gives proxies, and the webhooks are guarded.
func (m *mesh) works() {
	m.T.Helper()
	now := m.uids()
	for line := range strings.Lines(m.objects) {
		if !strings.Contains(now, line) {
			m.T.Errorf("lost, or made anew: %s", line)
		}
	}
	m.watch.Never(m.World, 1)
	m.Check(m.AwaitInjection(m.T.Context(), "", ""))
	m.Eventually("the webhooks", func() string {
		for _, kind := range []string{"mutating", "validating"} {
			out := m.RunKubectl("get", kind+"webhookconfigurations", "-o",
				`jsonpath={range .items[*]}{.metadata.name}{range .webhooks[*]} {.failurePolicy}/{.clientConfig.caBundle}{end}{"\n"}{end}`)
			for line := range strings.Lines(out) {
				for _, hook := range strings.Fields(line)[1:] {
					if policy, bundle, _ := strings.Cut(hook, "/"); policy != "Fail" || bundle == "" {
						return fmt.Sprintf("%s has the policy %s and a caBundle of %d bytes", strings.Fields(line)[0], policy, len(bundle))
					}
				}
			}
		}
		return ""
	})
}

// history gives the revisions of istiod's release as "3=deployed".
func (m *mesh) history() []string {
	m.T.Helper()
	out := m.RunKubectl("get", "secrets", "-n", lab.IstioNamespace, "-l", "owner=helm,name=istiod", "--sort-by=.metadata.creationTimestamp",
		"-o", `jsonpath={range .items[*]}{.metadata.labels.version}={.metadata.labels.status}{"\n"}{end}`)
	return strings.Fields(out)
}

// healthy says that istiod's newest revision is deployed.
func (m *mesh) healthy() {
	m.T.Helper()
	all := m.history()
	if len(all) == 0 || !strings.HasSuffix(all[len(all)-1], "=deployed") {
		m.T.Errorf("the revisions of istiod are %v", all)
	}
}

func controlPlane(more ...string) []string {
	return append([]string{"control-plane", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--yes"}, more...)
}

// What goes wrong with the sources of charts, the CRDs and the releases. The
// cases share one mesh and come one after the other.
func TestMeshFaults(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	sourceFaults(m)
	stepFaults(m)
	releaseFaults(m)
}
