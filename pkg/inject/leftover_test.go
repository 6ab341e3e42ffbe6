package inject

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wholeProxy is a sidecar's proxy as the template writes it, in its shortest form.
const wholeProxy = `name: istio-proxy, image: "istio/proxyv2:1.28.0", args: [proxy, sidecar], volumeMounts: [{name: istio-envoy}],` +
	` env: [{name: ISTIO_META_INTERCEPTION_MODE, value: REDIRECT}, {name: ISTIO_META_POD_PORTS, value: "[]"}, {name: CA_ADDR, value: "istiod-canary.istio-system.svc:15012"}]`

// leftovers are injections that their own status does not describe: laid over
// another one, or without it.
var leftovers = []struct {
	name, in, want string
	foundBy        string
	notes          []string // in each a word, in order
}{
	{
		name: "classic over native", foundBy: FoundByStatus,
		in: `
metadata: {annotations: {sidecar.istio.io/status: '` + status128 + `'}}
spec:
  initContainers: [{name: migrate}, {name: istio-init, args: [istio-iptables]}, {restartPolicy: Always, ` + wholeProxy + `}]
  containers: [{name: app}, {` + wholeProxy + `}]
  volumes: [{name: istio-envoy}, {name: credential-socket}, {name: istio-ca-crl}, {name: data}]`,
		want:  "spec: {initContainers: [{name: migrate}], containers: [{name: app}], volumes: [{name: data}]}",
		notes: []string{"does not list initContainers[istio-proxy], volumes[istio-ca-crl]", "injected 2 times"},
	},
	{
		name: "native over classic", foundBy: FoundByStatus,
		in: `
metadata: {annotations: {sidecar.istio.io/status: '{"initContainers":["istio-init","istio-proxy"],"containers":null,"volumes":["istio-envoy"],"imagePullSecrets":null,"revision":"default"}'}}
spec:
  initContainers: [{name: istio-init}, {restartPolicy: Always, ` + wholeProxy + `}]
  containers: [{name: app, livenessProbe: {httpGet: {path: /app-health/app/livez, port: 15020}}}, {` + wholeProxy + `}]
  volumes: [{name: istio-envoy}]`,
		want:  "spec: {containers: [{name: app, livenessProbe: {httpGet: {path: /app-health/app/livez, port: 15020}}}]}",
		notes: []string{"does not list containers[istio-proxy]", "injected 2 times", "not recorded"},
	},
	{
		name: "the CNI plugin's over a classic one", foundBy: FoundByStatus,
		in: `
metadata: {annotations: {sidecar.istio.io/status: '{"initContainers":["istio-validation"],"containers":["istio-proxy"],"volumes":["istio-envoy"],"imagePullSecrets":null,"revision":"default"}'}}
spec:
  initContainers: [{name: istio-validation, args: [istio-iptables, --run-validation]}, {name: istio-init, args: [istio-iptables]}]
  containers: [{name: app}, {` + wholeProxy + `}]
  volumes: [{name: istio-envoy}, {name: istio-ca-crl}]`,
		want:  "spec: {containers: [{name: app}]}",
		notes: []string{"does not list initContainers[istio-init], volumes[istio-ca-crl]"},
	},
	{
		name: "an empty status", foundBy: FoundByForm,
		in: `
metadata: {annotations: {sidecar.istio.io/status: '{}'}}
spec:
  initContainers: [{name: istio-init}, {restartPolicy: Always, ` + wholeProxy + `}]
  containers: [{name: app}, {` + wholeProxy + `}]
  volumes: [{name: istio-envoy}]`,
		want:  "spec: {containers: [{name: app}]}",
		notes: []string{"recognised by its form", "injected 2 times"},
	},
	{
		name: "injected again after the status was lost", foundBy: FoundByStatus,
		in: `
metadata:
  annotations:
    sidecar.istio.io/status: '` + status128 + `'
    proxy.istio.io/overrides: '{"containers":[{"name":"istio-proxy","image":"p:1","args":["proxy","sidecar"],"env":[{"name":"ISTIO_META_INTERCEPTION_MODE"}]}],"initContainers":[{"name":"istio-init","args":["istio-iptables"]},{"name":"migrate","image":"m:1"}]}'
spec:
  initContainers: [{name: istio-init}, {name: migrate, image: "m:2"}]
  containers: [{name: app}, {` + wholeProxy + `}]
  volumes: [{name: istio-envoy}, {name: istio-data}]`,
		want:  "spec: {initContainers: [{name: migrate, image: 'm:2'}], containers: [{name: app}]}",
		notes: []string{"does not list", "a custom template was injected too (container migrate)", `container "istio-proxy" of an earlier injection`, `container "istio-init" of an earlier injection`, "changed since it was injected: image; kept as now"},
	},
	{
		name: "a lost status of today: what the user wrote stays", foundBy: FoundByForm,
		in: `
metadata:
  labels: {istio.io/rev: canary, security.istio.io/tlsMode: istio}
  annotations: {istio.io/rev: canary, traffic.sidecar.istio.io/excludeOutboundPorts: "3306", sidecar.istio.io/interceptionMode: TPROXY}
spec:
  initContainers: [{name: istio-init}]
  containers: [{name: app}, {` + wholeProxy + `}]
  volumes: [{name: istio-envoy}, {name: credential-socket}]`,
		want: `
metadata:
  labels: {istio.io/rev: canary}
  annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "3306", sidecar.istio.io/interceptionMode: TPROXY}
spec: {containers: [{name: app}]}`,
		notes: []string{"recognised by its form"},
	},
	{
		name: "a lost status of no known release: all that may be the user's stays", foundBy: FoundByForm,
		in: `
metadata:
  labels: {app: web, service.istio.io/canonical-name: web, istio.io/rev: canary}
  annotations: {istio.io/rev: canary, traffic.sidecar.istio.io/excludeOutboundPorts: "3306", kubectl.kubernetes.io/default-container: app}
spec:
  containers: [{name: app}, {` + wholeProxy + `}]`,
		want: `
metadata:
  labels: {app: web, service.istio.io/canonical-name: web, istio.io/rev: canary}
  annotations: {istio.io/rev: canary, traffic.sidecar.istio.io/excludeOutboundPorts: "3306", kubectl.kubernetes.io/default-container: app}
spec: {containers: [{name: app}]}`,
		notes: []string{"recognised by its form", "cannot be told", "cannot be told", "cannot be told", "cannot be told"},
	},
	{
		name: "grpc-agent without its status", foundBy: FoundByForm,
		in: `
metadata:
  annotations:
    inject.istio.io/templates: grpc-agent
    sidecar.istio.io/rewriteAppHTTPProbers: "false"
    proxy.istio.io/overrides: '{"containers":[{"name":"app","image":"a:1","resources":{}}]}'
spec:
  containers:
  - {name: app, image: "a:1", env: [{name: GRPC_XDS_BOOTSTRAP, value: x}], volumeMounts: [{name: istio-xds}, {name: workload-socket}]}
  - {name: istio-proxy, image: "p:1", args: [proxy, sidecar], env: [{name: ISTIO_META_GENERATOR, value: grpc}], volumeMounts: [{name: istio-xds}]}
  volumes: [{name: istio-xds}, {name: workload-socket}]`,
		want:  "metadata: {annotations: {inject.istio.io/templates: grpc-agent}}\nspec: {containers: [{name: app, image: 'a:1'}]}",
		notes: []string{"recognised by its form"},
	},
	{
		name: "grpc-simple without its status", foundBy: FoundByForm,
		in: `
metadata:
  annotations:
    inject.istio.io/templates: grpc-simple
    prometheus.io/path: /stats/prometheus
    prometheus.io/port: "15020"
    prometheus.io/scrape: "true"
    sidecar.istio.io/rewriteAppHTTPProbers: "false"
    proxy.istio.io/overrides: '{"containers":[{"name":"app","image":"a:1","resources":{}}]}'
spec:
  initContainers: [{name: grpc-bootstrap-init}]
  containers: [{name: app, image: "a:1", volumeMounts: [{name: grpc-io-proxyless-bootstrap}]}]
  volumes: [{name: grpc-io-proxyless-bootstrap}]`,
		want:  "metadata: {annotations: {inject.istio.io/templates: grpc-simple}}\nspec: {containers: [{name: app, image: 'a:1'}]}",
		notes: []string{"recognised by its form", "where there is no proxy"},
	},
}

func TestLeftovers(t *testing.T) {
	for _, tc := range leftovers {
		t.Run(tc.name, func(t *testing.T) {
			obj := object(t, deployment(tc.in))
			if found, ok := Injected(obj); !ok || found.FoundBy != tc.foundBy {
				t.Errorf("found %v by %q, want by %q", ok, found.FoundBy, tc.foundBy)
			}
			got, result, err := Uninject(obj)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(object(t, deployment(tc.want)).Object, got.Object); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			same := slices.EqualFunc(result.Notes, tc.notes, func(n Note, part string) bool { return strings.Contains(n.Message, part) })
			if !same {
				t.Errorf("notes: %q, want %q", result.Notes, tc.notes)
			}
			if again, second, err := Uninject(got); err != nil || second.Changed || !cmp.Equal(got.Object, again.Object) {
				t.Errorf("a second time: changed %v, error %v", second.Changed, err)
			}
		})
	}
}

// TestNothingLeft: a pod of Istio's containers alone is refused.
func TestNothingLeft(t *testing.T) {
	obj := object(t, deployment("metadata: {annotations: {sidecar.istio.io/status: '"+status128+"'}}\nspec: {containers: [{"+wholeProxy+"}]}"))
	if _, _, err := Uninject(obj); err == nil || !strings.Contains(err.Error(), "Deployment/shop/web: cannot take the sidecar out: it holds no container but Istio's") {
		t.Errorf("error is %v", err)
	}
}

// TestItemsWithoutKind: `kubectl get --raw` gives lists whose items have no kind.
func TestItemsWithoutKind(t *testing.T) {
	pod := "metadata: {name: w, annotations: {sidecar.istio.io/status: '" + status128 + "'}}, spec: {containers: [{name: a}, {name: istio-proxy}]}"
	for list, want := range map[string]string{
		"{kind: PodList, items: [{" + pod + "}]}": "{kind: PodList, items: [{metadata: {name: w}, spec: {containers: [{name: a}]}}]}",
		"{kind: CronJobList, items: [{spec: {jobTemplate: {" + strings.Replace(pod, "spec: {", "spec: {template: {spec: {", 1) + "}}}}}]}": "{kind: CronJobList, items: [{spec: {jobTemplate: {metadata: {name: w}, spec: {template: {spec: {containers: [{name: a}]}}}}}}]}",
	} {
		got, _, err := Uninject(object(t, list))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(object(t, want).Object, got.Object); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestNotesNameTheirPlace: a CronJob's annotations are those of its Job template,
// and an init container that is put back says so.
func TestNotesNameTheirPlace(t *testing.T) {
	cron := "{kind: CronJob, metadata: {name: c}, spec: {jobTemplate: {metadata: {labels: {service.istio.io/canonical-name: mine}, annotations: {sidecar.istio.io/status: '" + status128 + "'}}, " +
		"spec: {template: {spec: {containers: [{name: a}, {" + wholeProxy + "}]}}}}}}"
	init := "{kind: Pod, metadata: {name: p, annotations: {proxy.istio.io/overrides: '{\"initContainers\":[{\"name\":\"istio-proxy\",\"restartPolicy\":\"Always\"}]}', " +
		"sidecar.istio.io/status: '{\"initContainers\":[\"istio-proxy\"],\"revision\":\"d\"}'}}, spec: {initContainers: [{name: istio-proxy}, {name: migrate}], containers: [{name: a}]}}"
	for manifest, want := range map[string]string{
		cron: "CronJob/c: spec.jobTemplate.labels[service.istio.io/canonical-name]: ",
		init: `Pod/p: initContainers: your own container "istio-proxy" is put last`,
	} {
		_, result, err := Uninject(object(t, manifest))
		if err != nil || len(result.Notes) != 1 || !strings.HasPrefix(result.Notes[0].String(), want) {
			t.Errorf("notes are %v, error %v, want %q", result.Notes, err, want)
		}
	}
}
