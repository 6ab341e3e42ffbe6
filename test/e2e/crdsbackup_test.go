package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// everyKind has a spec for an object of each kind that Istio's charts define.
var everyKind = map[string]string{
	"extensions.istio.io/v1alpha1 TrafficExtension": `{lua: {inlineCode: "-- one\n-- two"}, priority: 3}`,
	"extensions.istio.io/v1alpha1 WasmPlugin":       `{url: "oci://registry.example/filter", pluginConfig: {any: {thing: [1, two]}}}`,
	"networking.istio.io/v1 DestinationRule":        `{host: a.shop.svc, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}`,
	"networking.istio.io/v1alpha3 EnvoyFilter":      `{configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {name: x, "@type": type.example}}}]}`,
	"networking.istio.io/v1 Gateway":                `{selector: {istio: ingress}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*.example"], tls: {mode: SIMPLE, credentialName: cert}}]}`,
	"networking.istio.io/v1beta1 ProxyConfig":       `{concurrency: 0, environmentVariables: {A: "1", B: "true"}}`,
	"networking.istio.io/v1 ServiceEntry":           `{hosts: [db.example], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: STATIC, endpoints: [{address: 192.0.2.7}]}`,
	"networking.istio.io/v1 Sidecar":                `{egress: [{hosts: ["./*", istio-system/*]}]}`,
	"networking.istio.io/v1 VirtualService":         `{hosts: [a.example], http: [{match: [{uri: {regex: '/v[0-9]+/.*'}}], route: [{destination: {host: a}, weight: 100}], timeout: 1.5s}]}`,
	"networking.istio.io/v1 WorkloadEntry":          `{address: 192.0.2.8, labels: {app: vm}}`,
	"networking.istio.io/v1 WorkloadGroup":          `{template: {serviceAccount: vm}}`,
	"security.istio.io/v1 AuthorizationPolicy":      `{action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}]}]}`,
	"security.istio.io/v1 PeerAuthentication":       `{mtls: {mode: STRICT}, selector: {matchLabels: {app: a}}, portLevelMtls: {"8080": {mode: DISABLE}}}`,
	"security.istio.io/v1 RequestAuthentication":    `{jwtRules: [{issuer: issuer.example, jwksUri: "https://issuer.example/keys"}]}`,
	"telemetry.istio.io/v1 Telemetry":               `{tracing: [{randomSamplingPercentage: 12.5}]}`,
}

// applyEveryKind makes an object of each kind in two namespaces, and says where
// the charts define a kind that there is none of.
func (w *world) applyEveryKind() {
	w.T.Helper()
	var manifests []string
	kinds := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(everyKind)) {
		version, kind, _ := strings.Cut(key, " ")
		kinds[kind] = true
		for _, namespace := range []string{"shop", lab.IstioNamespace} {
			manifests = append(manifests, fmt.Sprintf(`{apiVersion: %s, kind: %s, metadata: {name: one, namespace: %s,
  labels: {team: a}, annotations: {note: "a: [b]\n\ttab, ünïcode, 'quotes'"}}, spec: %s}`, version, kind, namespace, everyKind[key]))
		}
	}
	for _, kind := range strings.Fields(w.RunKubectl("get", "crd", "-o", "jsonpath={.items[*].spec.names.kind}")) {
		if !kinds[kind] && kind != "Stage" { // kwok's
			w.T.Errorf("the charts define %s, of which nothing is made here", kind)
		}
	}
	w.Apply(manifests...)
}

// istioObjects gives all objects of Istio's kinds by kind, namespace and name, as
// their makers see them: without what the API server keeps for itself.
func (w *world) istioObjects() map[string]any {
	w.T.Helper()
	var list struct {
		Items []map[string]any `json:"items"`
	}
	definitions := slices.Sorted(maps.Keys(w.definitions()))
	w.Check(json.Unmarshal([]byte(w.RunKubectl("get", strings.Join(definitions, ","), "-A", "-o", "json")), &list))
	objects := map[string]any{}
	for _, o := range list.Items {
		metadata, ok := o["metadata"].(map[string]any)
		if !ok {
			w.T.Fatalf("an object without metadata: %v", o)
		}
		for _, key := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"} {
			delete(metadata, key)
		}
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
		}
		objects[fmt.Sprintf("%s %s/%s", o["kind"], metadata["namespace"], metadata["name"])] = o
	}
	return objects
}

// backupRestores deletes everything after an upgrade and restores it from the
// backup with kubectl alone: nothing is missing, nothing is other than it was.
func backupRestores(w *world) {
	w.T.Helper()
	w.base(older)
	w.AwaitEstablished()
	w.applyEveryKind()
	before := w.istioObjects()
	if len(before) != 2*len(everyKind) {
		w.T.Fatalf("%d objects of %d kinds", len(before), len(everyKind))
	}
	folder := filepath.Join(w.T.TempDir(), "backup")
	w.Must(0, "crds", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--yes", "--backup-dir", folder)
	files, err := os.ReadDir(folder)
	w.Check(err)
	if len(files) != len(everyKind) {
		w.T.Errorf("%d files for %d kinds", len(files), len(everyKind))
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			w.T.Errorf("%s: %v, %v", f.Name(), info, err)
		}
	}
	for _, definition := range slices.Sorted(maps.Keys(w.definitions())) {
		w.RunKubectl("delete", definition, "--all", "-A")
	}
	if left := w.istioObjects(); len(left) > 0 {
		w.T.Fatalf("not deleted: %v", left)
	}
	w.RunKubectl("apply", "-f", folder)
	after := w.istioObjects()
	for name, was := range before {
		if is := after[name]; !reflect.DeepEqual(was, is) {
			w.T.Errorf("%s was\n%v\nand is now\n%v", name, was, is)
		}
	}
}
