package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// legacyGateway is the chart's own gateway: a Deployment that is nothing but a
// proxy.
const legacyGateway = `apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata: {labels: {istio: ingressgateway, sidecar.istio.io/inject: "false"}}
    spec:
      containers:
      - {name: istio-proxy, image: "{{ .Values.global.hub }}/proxyv2:{{ .Values.global.tag }}"}
`

// legacyConfigMap is the injector's, in which the chart writes hub and tag.
const legacyConfigMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: {{ .Release.Namespace }}}
data:
  config: {{ .Files.Get "files/config" | quote }}
  values: {{ .Files.Get "files/values" | replace "LEGACY-TAG" .Values.global.tag | quote }}
`

// legacyMesh turns a cluster of today into one of the legacy release: the
// injector that answers is today's, what it gives out is what the release istio
// says.
func (w *world) legacyMesh() (chart string) {
	w.T.Helper()
	cm, err := w.Client().CoreV1().ConfigMaps(lab.IstioNamespace).Get(w.T.Context(), "istio-sidecar-injector", metav1.GetOptions{})
	w.Check(err)
	var values map[string]any
	w.Check(json.Unmarshal([]byte(cm.Data["values"]), &values))
	global := values["global"].(map[string]any)
	global["hub"], global["tag"] = "docker.io/istio", "LEGACY-TAG"
	raw, err := json.Marshal(values)
	w.Check(err)
	w.RunKubectl("delete", "secrets", "-n", lab.IstioNamespace, "-l", "owner=helm,name=istiod")
	w.RunKubectl("delete", "deployment/istiod", "hpa/istiod", "-n", lab.IstioNamespace)
	w.RunKubectl("annotate", "configmap", "istio-sidecar-injector", "-n", lab.IstioNamespace, "--overwrite", "meta.helm.sh/release-name=istio")
	chart = w.legacyChart("1.4.9", map[string]string{
		"files/config": cm.Data["config"], "files/values": string(raw),
		"templates/injector.yaml": legacyConfigMap, "templates/gateway.yaml": legacyGateway,
	})
	w.Check(w.Helm(w.T.Context(), "install", "istio", chart, "-n", lab.IstioNamespace))
	w.Check(w.AwaitInjection(w.T.Context(), "", "1.4.9"))
	return chart
}

// noDryRuns has the API server answer as it does where the injector's webhook
// declares no sideEffects, which today's API does not let anybody make.
func noDryRuns(r *http.Request) *http.Response {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/pods") || r.URL.Query().Get("dryRun") == "" {
		return nil
	}
	body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400,` +
		`"message":"admission webhook \"sidecar-injector.istio.io\" does not support dry run"}`
	return &http.Response{
		StatusCode: http.StatusBadRequest, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

func (w *world) imageOf(deployment string) string {
	w.T.Helper()
	image := w.RunKubectl("get", "deployment", deployment, "-n", lab.IstioNamespace, "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	return image[strings.LastIndex(image, "/")+1:]
}

// The legacy injector cannot be asked, and its release is taken back with the
// proxies first.
func TestControlPlaneLegacyRollback(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	chart := w.legacyMesh()
	w.InjectedNamespace("shop")
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: "shop", Replicas: 2}.String())
	w.AwaitReady("shop", 2)
	w.WantProxies("shop", "web", map[string]int{"1.4.9": 2})
	w.throughProxy(noDryRuns)

	up := []string{"control-plane", "--tag", "1.4.10", "--charts", chart, "--yes"}
	o := w.Must(0, up...)
	w.Want(o, "does not support dry", "by its ConfigMap istio-sidecar-injector in istio-system it gives out docker.io/istio/proxyv2:1.4.10")

	// Only the chart's own gateway has moved, which goes back with the release.
	o = w.Must(0, "rollback", "--yes")
	w.Want(o, "the gateways go back")
	for _, name := range []string{"istio-pilot", "istio-ingressgateway", "istio-sidecar-injector", "istio-citadel"} {
		if got := w.imageOf(name); !strings.HasSuffix(got, ":1.4.9") {
			t.Errorf("after the rollback %s runs %s", name, got)
		}
	}

	w.Must(0, up...)
	w.Must(0, "sidecars", "-A", "--yes")
	w.WantProxies("shop", "web", map[string]int{"1.4.10": 2})
	w.Want(w.Must(3, "rollback", "--yes"), "shop/web-", "rollback --proxies-first")
	began := w.newest(lab.IstioNamespace, "istio")
	w.Must(0, "rollback", "--proxies-first", "--yes")
	w.WantProxies("shop", "web", map[string]int{"1.4.9": 2})
	for _, name := range []string{"istio-pilot", "istio-ingressgateway", "istio-sidecar-injector"} {
		if got := w.imageOf(name); !strings.HasSuffix(got, ":1.4.9") {
			t.Errorf("after the rollback %s runs %s", name, got)
		}
	}
	// One revision in between, in which Pilot stayed; the last one is the former.
	if history := w.history(lab.IstioNamespace, "istio"); len(history) < 3 || history[len(history)-3] != strings.Replace(began, "deployed", "superseded", 1) {
		t.Errorf("from %s the revisions went to %v", began, history)
	}
	w.Want(w.Must(0, "sidecars", "-A", "--yes"), "Nothing to move")
}
