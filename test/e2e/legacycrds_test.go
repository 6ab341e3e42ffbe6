package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// initChart makes a chart of the shape of istio-init 1.1 to 1.5, with today's
// API groups: a ConfigMap of definitions, and a Job that applies it.
func (w *world) initChart(tag string, definitions ...string) string {
	w.T.Helper()
	dir := filepath.Join(w.T.TempDir(), "istio-init")
	for name, text := range map[string]string{
		"Chart.yaml": "apiVersion: v1\nname: istio-init\nversion: 1.1.0\nappVersion: 1.1.0\n" +
			"description: Helm chart to initialize Istio CRDs\n",
		"values.yaml":        "global: {hub: docker.io/istio, tag: " + tag + "}\n",
		"files/crd-10.yaml":  strings.Join(definitions, "---\n"),
		"templates/all.yaml": initTemplate,
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		w.Check(os.MkdirAll(filepath.Dir(file), 0o755))
		w.Check(os.WriteFile(file, []byte(text), 0o644))
	}
	return dir
}

const initTemplate = `apiVersion: v1
kind: ServiceAccount
metadata: {name: istio-init-service-account, namespace: {{ .Release.Namespace }}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: istio-init-{{ .Release.Namespace }}}
rules:
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [create, get, list, watch, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: istio-init-admin-role-binding-{{ .Release.Namespace }}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: istio-init-{{ .Release.Namespace }}}
subjects:
- {kind: ServiceAccount, name: istio-init-service-account, namespace: {{ .Release.Namespace }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-crd-10, namespace: {{ .Release.Namespace }}}
data:
  crd-10.yaml: |-
{{ .Files.Get "files/crd-10.yaml" | indent 4 }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: istio-init-crd-10-{{ .Values.global.tag }}, namespace: {{ .Release.Namespace }}}
spec:
  template:
    metadata: {annotations: {sidecar.istio.io/inject: "false"}}
    spec:
      serviceAccountName: istio-init-service-account
      containers:
      - name: istio-init-crd-10
        image: "{{ .Values.global.hub }}/kubectl:{{ .Values.global.tag }}"
        command: [kubectl, apply, -f, /etc/istio/crd-10/crd-10.yaml]
        volumeMounts: [{name: crd-10, mountPath: /etc/istio/crd-10, readOnly: true}]
      volumes:
      - {name: crd-10, configMap: {name: istio-crd-10}}
      restartPolicy: OnFailure
`

// legacyDefinition is a definition of networking.istio.io with these versions,
// the first of which is stored.
func legacyDefinition(plural, kind string, versions ...string) string {
	text := fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: %s.networking.istio.io
  labels: {app: istio-pilot, chart: istio, heritage: Tiller, release: istio}
  annotations: {helm.sh/resource-policy: keep}
spec:
  group: networking.istio.io
  names: {kind: %s, plural: %s, singular: %s}
  scope: Namespaced
  versions:
`, plural, kind, plural, strings.ToLower(kind))
	for i, version := range versions {
		text += fmt.Sprintf("  - {name: %s, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}\n", version, i == 0)
	}
	return text
}

// The procedure for Istio 1.1 to 1.5: with the release, without it, and with
// Jobs left over from before.
func TestCRDsLegacy(t *testing.T) {
	cluster := crdCluster(t)
	if err := cluster.LegacyJobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := func(w *world) string {
		return w.initChart("1.4.9", legacyDefinition("virtualservices", "VirtualService", "v1alpha3"))
	}
	next := func(w *world) []string {
		return []string{"crds", "--tag", "1.4.10", "--yes", "--charts", w.initChart("1.4.9",
			legacyDefinition("virtualservices", "VirtualService", "v1alpha3", "v1beta1"), legacyDefinition("gateways", "Gateway", "v1alpha3"))}
	}
	install := func(w *world) {
		w.Check(w.Helm(w.T.Context(), "install", "istio-init", old(w), "--namespace", lab.IstioNamespace, "--set", "global.mine=kept", "--wait", "--wait-for-jobs"))
		w.AwaitEstablished()
		w.Apply(virtualService("v1alpha3", "a"), virtualService("v1alpha3", "b"))
	}
	// replaced checks what every run must lead to.
	replaced := func(w *world, args []string) {
		w.T.Helper()
		w.unchanged(func() { w.Must(0, args...) })
		if _, ok := w.definitions()["gateways.networking.istio.io"]; !ok {
			w.T.Error("the new chart's definition is missing")
		}
		if jobs := w.RunKubectl("get", "jobs", "-n", lab.IstioNamespace, "-o", "jsonpath={.items[*].metadata.name}"); jobs != "istio-init-crd-10-1.4.10" {
			w.T.Errorf("jobs: %s", jobs)
		}
		w.silent(args...)
	}

	t.Run("the release is replaced", func(t *testing.T) {
		w := cluster.in(t)
		install(w)
		replaced(w, next(w))
		if values := w.helmValues("istio-init"); !strings.Contains(values, `"mine":"kept"`) {
			t.Errorf("the user's values are %s", values)
		}
	})

	// Helm's record of the old release stays: as uninstalled first, and as
	// superseded at the moment when the new one is about to be written.
	t.Run("killed when the release is gone and the new one not there", func(t *testing.T) {
		for _, moment := range []struct{ method, path, says string }{
			{http.MethodDelete, "/jobs/istio-init-crd-10-1.4.10", "was stopped before it had installed the new one"},
			{http.MethodPost, "/secrets", "istio-init-1.1.0 (replace)"},
		} {
			w := cluster.in(t)
			install(w)
			args := next(w)
			cmd := w.Command(t.Context(), args...)
			killed := false
			w.throughProxy(func(r *http.Request) *http.Response {
				if r.Method != moment.method || !strings.HasSuffix(r.URL.Path, moment.path) || r.URL.Query().Has("dryRun") {
					return nil
				}
				killed = cmd.Process.Kill() == nil
				return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody} // nobody reads it
			})
			cmd.Env = append(cmd.Env, "KUBECONFIG="+w.OtherKubeconfig)
			_ = cmd.Run() // it is killed
			w.OtherKubeconfig = ""
			if !killed {
				t.Fatalf("the run came to its end: %s", cmd.ProcessState)
			}
			w.Want(w.Must(0, append(args, "--dry-run")...), moment.says)
			replaced(w, args)
			if values := w.helmValues("istio-init"); !strings.Contains(values, `"mine":"kept"`) {
				t.Errorf("killed at %s: the user's values are %s", moment.path, values)
			}
		}
	})

	t.Run("there is no release and a Job of the name is left over", func(t *testing.T) {
		w := cluster.in(t)
		install(w)
		args := next(w)
		w.Must(0, args...)
		// As after a deletion of Helm's records alone.
		w.RunKubectl("delete", "secret", "-n", lab.IstioNamespace, "-l", "owner=helm")
		p := crdsOf(t, w.Must(0, append(args, "--dry-run", "-o", "json")...))
		if p.Plan.Action != "install" || len(p.Plan.LeftoverJobs) != 1 {
			t.Errorf("plan: %+v", p.Plan)
		}
		replaced(w, args)
	})

	t.Run("a release whose deletion would take definitions away is refused", func(t *testing.T) {
		w := cluster.in(t)
		chart := old(w)
		w.Check(os.WriteFile(filepath.Join(chart, "templates", "crd.yaml"),
			[]byte(strings.Replace(legacyDefinition("sidecars", "Sidecar", "v1alpha3"), "annotations: {helm.sh/resource-policy: keep}", "", 1)), 0o644))
		w.Check(w.Helm(t.Context(), "install", "istio-init", chart, "--namespace", lab.IstioNamespace, "--wait", "--wait-for-jobs"))
		w.AwaitEstablished()
		before := len(w.Writes())
		o := w.Must(3, append(next(w), "--force")...)
		if after := w.Writes(); len(after) != before || !strings.Contains(o.Stderr, "sidecars.networking.istio.io") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
		// Also where the release is the target's already, and a definition has drifted.
		w.Apply(legacyDefinition("virtualservices", "VirtualService", "v1alpha3", "v1beta1"))
		w.Want(w.Must(3, "crds", "--tag", "1.4.9", "--charts", chart, "--yes", "--force"), "sidecars.networking.istio.io")
	})
}
