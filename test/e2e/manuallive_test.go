package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// original is a workload as its author wrote it, with what the container has
// besides its image.
type original struct {
	manifest
	container string
}

func (o original) String() string {
	text := o.manifest.String()
	if o.container == "" {
		return text
	}
	text = strings.Replace(text, ", readinessProbe: {httpGet: {port: 8080, path: /}}", "", 1)
	return strings.Replace(text, "image: example.com/app:1", "image: example.com/app:1, "+o.container, 1)
}

// manualWorkloads are thirty workloads that roll, and two that do not: between
// them they hold all that injection changes in a template.
func manualWorkloads(ns string) []original {
	probes := "ports: [{name: web, containerPort: 8080}, {name: health, containerPort: 9090}], " +
		"readinessProbe: {httpGet: {port: web, path: /ready, scheme: HTTPS}}, livenessProbe: {tcpSocket: {port: health}}, startupProbe: {grpc: {port: 7070}}"
	lifecycle := "readinessProbe: {httpGet: {port: 8080}}, lifecycle: {preStop: {httpGet: {port: 8080, path: /stop}}, postStart: {tcpSocket: {port: 8080}}}"
	deployments := []original{
		{manifest{Name: "web", Replicas: 2}, ""},
		{manifest{Name: "probed"}, probes},
		{manifest{Name: "hooks"}, lifecycle},
		{manifest{Name: "scraped", PodNotes: `prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /stats`}, ""},
		{manifest{Name: "unscraped", PodNotes: `prometheus.io/scrape: "false"`}, ""},
		{manifest{Name: "optedout"}, ""},
		{manifest{Name: "grouped", PodSpec: "securityContext: {fsGroup: 2000, runAsUser: 1000}"}, ""},
		{manifest{Name: "resolved", PodSpec: "dnsPolicy: None, dnsConfig: {nameservers: [10.0.0.10]}, hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]"}, ""},
		{manifest{Name: "pulling", PodSpec: "imagePullSecrets: [{name: own}]"}, ""},
		{manifest{Name: "mounting", PodSpec: "volumes: [{name: data, emptyDir: {sizeLimit: 1Gi}}]"}, "volumeMounts: [{name: data, mountPath: /data}]"},
		{manifest{Name: "prepared", PodSpec: "initContainers: [{name: prepare, image: example.com/prepare:1}]"}, ""},
		{manifest{Name: "helped", PodSpec: "initContainers: [{name: helper, image: example.com/helper:1, restartPolicy: Always, startupProbe: {httpGet: {port: 7000, path: /up}}}]"}, ""},
		{manifest{Name: "holding", PodNotes: `proxy.istio.io/config: '{"holdApplicationUntilProxyStarts": true}'`}, ""},
		{manifest{Name: "redirected", PodNotes: `sidecar.istio.io/interceptionMode: TPROXY, traffic.sidecar.istio.io/excludeOutboundPorts: "5432"`}, ""},
		{manifest{Name: "sized", PodNotes: `sidecar.istio.io/proxyCPU: 250m, sidecar.istio.io/proxyMemoryLimit: 1Gi`}, "resources: {requests: {cpu: 1500m, memory: 1Gi}}"},
		{manifest{Name: "canonical", PodLabels: "service.istio.io/canonical-name: mine, version: v7"}, ""},
		{manifest{Name: "labelled", PodLabels: "app.kubernetes.io/name: shop, app.kubernetes.io/version: '3'"}, ""},
		{manifest{Name: "defaulting", PodNotes: "kubectl.kubernetes.io/default-container: app"}, ""},
	}
	var all []original
	for _, o := range deployments {
		o.Kind, o.Replicas = "Deployment", max(1, o.Replicas)
		all = append(all, o)
	}
	for i, container := range []string{"", probes, lifecycle, "", "", ""} {
		all = append(all,
			original{manifest{Kind: "StatefulSet", Name: fmt.Sprintf("db-%d", i), Replicas: 2, Spec: fmt.Sprintf("serviceName: db-%d", i)}, container},
			original{manifest{Kind: "DaemonSet", Name: fmt.Sprintf("agent-%d", i)}, container})
	}
	all = append(all,
		original{manifest{Kind: "Deployment", Name: "asleep"}, ""},
		original{manifest{Kind: "CronJob", Name: "cron"}, ""})
	for i := range all {
		all[i].Namespace = ns
	}
	return all
}

func joined(originals []original) string {
	texts := make([]string, 0, len(originals))
	for _, o := range originals {
		texts = append(texts, o.String())
	}
	return strings.Join(texts, "\n---\n")
}

// The originals of thirty workloads lost, every one comes to what injecting its
// original gives; no Service is ever without an endpoint; a second run writes
// nothing; what was there is kept; and what the user applies next is taken for
// what it is.
func TestManualLiveEqualsInjectingTheOriginal(t *testing.T) {
	w := sharedCluster(t)
	ns, wanted, plain := "manual", "manual-wanted", "manual-plain"
	for _, name := range []string{ns, wanted, plain} {
		w.MakeNamespace(name, nil)
	}
	const pods = 18 + 1 + 6*2 + 6*3
	all := manualWorkloads(ns)
	w.Apply(w.kubeInject(joined(all)))
	w.RunKubectl("-n", ns, "patch", "deployment", "optedout", "-p", `{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"false"}}}}}`)
	w.RunKubectl("-n", ns, "rollout", "status", "deployment/optedout")
	w.WantProxies(ns, "", map[string]int{older: pods})
	w.AwaitReady(ns, pods)
	w.Inject(newer)
	w.Apply(w.kubeInject(joined(manualWorkloads(wanted))))
	var services []string
	for _, o := range all[:30] {
		services = append(services, o.Name)
	}
	endpoints := w.WatchEndpoints(ns, services...)
	backup := t.TempDir()

	o := w.Must(0, "sidecars", "-n", ns, "--yes", istioctl(), "--backup-dir", backup)

	endpoints.Never(w.World, 1)
	if want := clustertest.Parts.Bin("istioctl") + " (" + newer + ")"; !strings.Contains(o.Stdout, want) {
		t.Errorf("the plan does not name istioctl and its version:\n%s", o)
	}
	for _, m := range all {
		got, want := w.spec(m.Kind, ns, m.Name), w.spec(m.Kind, wanted, m.Name)
		gotText, wantText := template(got, ns), template(want, wanted)
		if m.Name == "optedout" { // the user's own label stays
			gotText = strings.Replace(gotText, `,"sidecar.istio.io/inject":"false"`, "", 1)
		}
		if gotText != wantText {
			t.Errorf("%s %s is not what injecting its original gives:\nwant %s\nhave %s", m.Kind, m.Name, wantText, gotText)
		}
		kept := filepath.Join(backup, ns, strings.ToLower(m.Kind)+"-"+m.Name+".yaml")
		text, err := os.ReadFile(kept)
		if err != nil || !strings.Contains(string(text), ":"+older) {
			t.Errorf("%s does not hold the object as it was: %v", kept, err)
		}
	}
	w.RunKubectl("replace", "--dry-run=server", "-f", filepath.Join(backup, ns))

	before := w.Writes()
	o = w.Must(0, "sidecars", "-n", ns, "--yes", istioctl(), "--backup-dir", backup)
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
	w.appliesAsExpected(all, plain)
}

// appliesAsExpected: the user's own kubectl apply of the newly injected
// originals changes nothing, since last-applied-configuration is true, and that
// of the originals takes all of the sidecar out.
func (w *world) appliesAsExpected(all []original, plain string) {
	w.T.Helper()
	ns := all[0].Namespace
	var same []original
	for _, o := range all {
		if o.Name != "optedout" { // its template was patched beside its manifest
			same = append(same, o)
		}
	}
	objects := func() map[string]map[string]any {
		found := map[string]map[string]any{}
		for _, o := range same {
			found[o.Kind+" "+o.Name] = w.spec(o.Kind, ns, o.Name)
		}
		return found
	}
	before := objects()
	w.Apply(w.kubeInject(joined(same)))
	for name, now := range objects() { // with the annotation last-applied-configuration
		if !reflect.DeepEqual(before[name], now) {
			w.T.Errorf("%s: applying what was injected again changes it:\nbefore %v\nafter %v", name, before[name], now)
		}
	}
	w.Apply(joined(same))
	w.Apply(joined(manualWorkloads(plain)))
	for _, o := range same {
		got, want := template(w.spec(o.Kind, ns, o.Name), ns), template(w.spec(o.Kind, plain, o.Name), plain)
		if got != want {
			w.T.Errorf("%s %s: applying the original does not give the original:\nwant %s\nhave %s", o.Kind, o.Name, want, got)
		}
	}
}
