package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// legacyPart is a Deployment of the chart istio 1.1 to 1.5: the subchart that
// renders it, its name and image, and the values that its autoscaler reads, if
// it has one.
type legacyPart struct{ subchart, name, container, image, autoscale string }

var legacyParts = []legacyPart{
	{"security", "istio-citadel", "citadel", "citadel", ""},
	{"pilot", "istio-pilot", "discovery", "pilot", ".Values"},
	{"mixer", "istio-policy", "mixer", "mixer", ".Values.policy"},
	{"mixer", "istio-telemetry", "mixer", "mixer", ".Values.telemetry"},
	{"sidecarInjectorWebhook", "istio-sidecar-injector", "sidecar-injector-webhook", "sidecar_injector", ""},
}

// legacyChart makes a chart of the shape of istio 1.1 to 1.5 with today's API
// groups: an umbrella whose subcharts a condition switches on, and more files.
func (w *world) legacyChart(tag string, more ...map[string]string) string {
	w.T.Helper()
	dir := filepath.Join(w.T.TempDir(), "istio")
	files := map[string]string{
		"Chart.yaml": "apiVersion: v1\nname: istio\nversion: 1.1.0\nappVersion: 1.1.0\nhome: http://istio.io/\nkeywords: [istio]\n",
		"values.yaml": "global: {hub: docker.io/istio, tag: " + tag + "}\nmixer: {enabled: true}\n" +
			"pilot: {enabled: true}\nsecurity: {enabled: true}\nsidecarInjectorWebhook: {enabled: true}\n",
	}
	requirements := "dependencies:\n"
	for _, p := range legacyParts {
		chart := "charts/" + p.subchart + "/"
		if files[chart+"Chart.yaml"] == "" {
			requirements += fmt.Sprintf("- {name: %s, version: 1.1.0, condition: %s.enabled}\n", p.subchart, p.subchart)
			files[chart+"Chart.yaml"] = "apiVersion: v1\nname: " + p.subchart + "\nversion: 1.1.0\n"
			files[chart+"values.yaml"] = "autoscaleEnabled: true\nautoscaleMin: 1\npolicy: {autoscaleMin: 1}\ntelemetry: {autoscaleMin: 1}\n"
		}
		files[chart+"templates/"+p.name+".yaml"] = legacyDeployment(p)
	}
	files["requirements.yaml"] = requirements
	for _, m := range more {
		maps.Copy(files, m)
	}
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		w.Check(os.MkdirAll(filepath.Dir(file), 0o755))
		w.Check(os.WriteFile(file, []byte(text), 0o644))
	}
	return dir
}

func legacyDeployment(p legacyPart) string {
	istio := strings.TrimPrefix(p.name, "istio-")
	text := fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  namespace: {{ .Release.Namespace }}
  labels: {app: %[2]s, istio: %[2]s, chart: %[2]s, heritage: Tiller, release: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {istio: %[2]s}}
  template:
    metadata: {labels: {istio: %[2]s}}
    spec:
      containers:
      - name: %[3]s
        image: "{{ .Values.global.hub }}/%[4]s:{{ .Values.global.tag }}"
        env: [{name: OWN, value: {{ .Values.own | default "none" | quote }}}]
`, p.name, istio, p.container, p.image)
	if p.autoscale != "" {
		text += fmt.Sprintf(`---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: %s, namespace: {{ .Release.Namespace }}}
spec:
  minReplicas: {{ %s.autoscaleMin }}
  maxReplicas: 5
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %s}
`, p.name, p.autoscale, p.name)
	}
	return text
}

// The procedure for the release istio of Istio 1.1 to 1.5.
func TestControlPlaneLegacy(t *testing.T) {
	w := crdCluster(t)
	w.Apply(legacyDefinition("virtualservices", "VirtualService", "v1alpha3"))
	w.Check(w.Helm(t.Context(), "install", "istio", w.legacyChart("1.4.9"), "-n", lab.IstioNamespace, "--set", "pilot.own=first"))
	for _, p := range legacyParts { // a control plane that is not up yet is refused
		w.RunKubectl("rollout", "status", "deployment", p.name, "-n", lab.IstioNamespace)
	}
	charts := []string{"--charts", w.legacyChart("1.4.9"), "--yes"}

	o := w.Must(0, append([]string{"control-plane", "--tag", "1.4.9", "--temporary-ha", "--set", "pilot.own=kept"}, charts...)...)
	for _, name := range []string{"istio-pilot", "istio-policy", "istio-telemetry"} {
		w.Want(o, "minimum of the autoscaler "+name+" in istio-system: 1 → 2 for the length of the upgrade", "minimum of the autoscaler "+name+" in istio-system: back to 1")
	}
	o = w.Must(0, append([]string{"control-plane", "--tag", "1.4.10", "--ensure-ha"}, charts...)...)
	w.Want(o, "1.4.9 → 1.4.10", "pilot.autoscaleMin", "mixer.policy.autoscaleMin", "mixer.telemetry.autoscaleMin")
	for _, p := range legacyParts {
		got := w.RunKubectl("get", "deployment", p.name, "-n", lab.IstioNamespace, "-o",
			"jsonpath={.spec.template.spec.containers[0].image} {.status.updatedReplicas} {.status.readyReplicas}")
		replicas := "1 1"
		if p.autoscale != "" {
			replicas = "2 2"
		}
		if want := "docker.io/istio/" + p.image + ":1.4.10 " + replicas; got != want {
			t.Errorf("%s: %s, want %s", p.name, got, want)
		}
	}
	if got := w.RunKubectl("get", "deployment", "istio-pilot", "-n", lab.IstioNamespace, "-o", "jsonpath={..env[0].value}"); got != "kept" {
		t.Errorf("the user's value is %q", got)
	}
	w.Want(w.Must(0, append([]string{"control-plane", "--tag", "1.4.10", "--ensure-ha"}, charts...)...), "Nothing to upgrade")
	w.Must(0, "rollback", "--yes")
	if got := w.RunKubectl("get", "deployment", "istio-citadel", "-n", lab.IstioNamespace, "-o", "jsonpath={..containers[0].image}"); !strings.HasSuffix(got, ":1.4.9") {
		t.Errorf("after the rollback citadel runs %s", got)
	}
	w.Want(w.Must(3, append([]string{"control-plane", "--tag", "1.6.0"}, charts...)...), "skips a minor version")
}
