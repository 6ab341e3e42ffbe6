package inject

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func object(tb testing.TB, manifest string) *unstructured.Unstructured {
	tb.Helper()
	data, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		tb.Fatal(err)
	}
	obj, err := toObject(data)
	if err != nil {
		tb.Fatal(err)
	}
	return obj
}

// deployment makes a Deployment around a template; the template's own lines are
// indented for it.
func deployment(template string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  template:\n" +
		"    " + strings.ReplaceAll(strings.TrimSpace(template), "\n", "\n    ") + "\n"
}

const (
	status128 = `{"initContainers":["istio-init"],"containers":["istio-proxy"],"volumes":["workload-socket","credential-socket","istio-envoy"],"imagePullSecrets":null,"revision":"default"}`
	status112 = `{"initContainers":["istio-init"],"containers":["istio-proxy"],"volumes":["istio-envoy"],"imagePullSecrets":["pull"],"revision":"default"}`
	status110 = `{"initContainers":["istio-init"],"containers":["istio-proxy"],"volumes":["istio-envoy"],"imagePullSecrets":null}`
	status106 = `{"version":"x","initContainers":["istio-init"],"containers":["istio-proxy"],"volumes":["istio-envoy"],"imagePullSecrets":null}`
)

// TestUninjectRules: each case is the part of a template that one rule is about.
// The sidecar itself is added to it.
func TestUninjectRules(t *testing.T) {
	for _, tc := range []struct {
		name     string
		status   string // annotation
		env      map[string]string
		args     []string // of the proxy; a sidecar's where nil
		in, want string   // metadata and spec without the sidecar
		notes    []string // fields, in order
		ports    bool     // the proxy has port 15090
	}{
		{
			name: "http, tcp and grpc probes, by name where one port fits", status: status128,
			env: map[string]string{envProbers: `{"/app-health/app/readyz":{"httpGet":{"path":"/ready","port":8080,"scheme":"HTTPS","httpHeaders":[{"name":"a","value":"b"}]}},` +
				`"/app-health/app/livez":{"tcpSocket":{"port":9090}},"/app-health/app/startupz":{"grpc":{"port":7070,"service":null}}}`},
			in: `
spec:
  containers:
  - name: app
    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {periodSeconds: 3, httpGet: {path: /app-health/app/readyz, port: 15020, scheme: HTTP, httpHeaders: [{name: a, value: b}]}}
    livenessProbe: {httpGet: {path: /app-health/app/livez, port: 15020}}
    startupProbe: {httpGet: {path: /app-health/app/startupz, port: 15020}}`,
			want: `
spec:
  containers:
  - name: app
    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {periodSeconds: 3, httpGet: {path: /ready, port: web, scheme: HTTPS, httpHeaders: [{name: a, value: b}]}}
    livenessProbe: {tcpSocket: {port: 9090}}
    startupProbe: {grpc: {port: 7070}}`,
		},
		{
			name: "the bare form of 1.1 to 1.4", status: status106,
			env:  map[string]string{envProbers: `{"/app-health/app/readyz":{"path":"/ready","port":8080}}`},
			in:   "spec:\n  containers: [{name: app, readinessProbe: {httpGet: {path: /app-health/app/readyz, port: 15020}}}]",
			want: "spec:\n  containers: [{name: app, readinessProbe: {httpGet: {path: /ready, port: 8080}}}]",
		},
		{
			name: "a number with two names stays a number", status: status128,
			env:   map[string]string{envProbers: `{"/app-health/app/livez":{"tcpSocket":{"port":53}}}`},
			in:    "spec:\n  containers: [{name: app, ports: [{name: tcp, containerPort: 53}, {name: udp, containerPort: 53}], livenessProbe: {httpGet: {path: /app-health/app/livez, port: 15020}}}]",
			want:  "spec:\n  containers: [{name: app, ports: [{name: tcp, containerPort: 53}, {name: udp, containerPort: 53}], livenessProbe: {tcpSocket: {port: 53}}}]",
			notes: []string{"spec.template.containers[app].livenessProbe"},
		},
		{
			name: "an unrecorded probe stays and is reported", status: status128,
			in:    "spec:\n  containers: [{name: app, livenessProbe: {httpGet: {path: /app-health/app/livez, port: 15020}}}]",
			want:  "spec:\n  containers: [{name: app, livenessProbe: {httpGet: {path: /app-health/app/livez, port: 15020}}}]",
			notes: []string{"spec.template.containers[app].livenessProbe"},
		},
		{
			name: "lifecycle handlers, in init containers too", status: status128,
			env:  map[string]string{envProbers: `{"/app-lifecycle/app/prestopz":{"httpGet":{"path":"/bye","port":80}},"/app-lifecycle/first/poststartz":{"tcpSocket":{"port":81}}}`},
			in:   "spec:\n  initContainers: [{name: first, lifecycle: {postStart: {httpGet: {path: /app-lifecycle/first/poststartz, port: 15020}}}}]\n  containers: [{name: app, lifecycle: {preStop: {httpGet: {path: /app-lifecycle/app/prestopz, port: 15020}}}}]",
			want: "spec:\n  initContainers: [{name: first, lifecycle: {postStart: {tcpSocket: {port: 81}}}}]\n  containers: [{name: app, lifecycle: {preStop: {httpGet: {path: /bye, port: 80}}}}]",
		},
		{
			name: "prometheus annotations from the proxy's record", status: status128,
			env:  map[string]string{envPrometheus: `{"scrape":"true","path":"","port":"9090"}`},
			in:   `metadata: {annotations: {prometheus.io/scrape: "true", prometheus.io/path: /stats/prometheus, prometheus.io/port: "15020"}}` + "\nspec: {containers: [{name: app}]}",
			want: `metadata: {annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9090"}}` + "\nspec: {containers: [{name: app}]}",
		},
		{
			name: "the user's own prometheus annotations stay", status: status128,
			in:   `metadata: {annotations: {prometheus.io/scrape: "false", prometheus.io/path: /stats/prometheus, prometheus.io/port: "15020"}}` + "\nspec: {containers: [{name: app}]}",
			want: `metadata: {annotations: {prometheus.io/scrape: "false", prometheus.io/path: /stats/prometheus, prometheus.io/port: "15020"}}` + "\nspec: {containers: [{name: app}]}",
		},
		{
			name: "all annotations are recorded to 1.10", status: status110,
			env: map[string]string{envPodPorts: "[]", envAnnotations: `{"traffic.sidecar.istio.io/excludeInboundPorts":"4,5","kubectl.kubernetes.io/default-logs-container":"app"}`},
			in: `metadata: {annotations: {traffic.sidecar.istio.io/excludeInboundPorts: "4,5,15020",` +
				` kubectl.kubernetes.io/default-logs-container: app, note: later}}` + "\nspec: {containers: [{name: app}]}",
			want: `metadata: {annotations: {traffic.sidecar.istio.io/excludeInboundPorts: "4,5", kubectl.kubernetes.io/default-logs-container: app, note: later}}` + "\nspec: {containers: [{name: app}]}",
		},
		{
			name: "what was added after an injection by 1.9 stays, with a note", status: status110,
			env:   map[string]string{envPodPorts: "[]"},
			in:    `metadata: {annotations: {sidecar.istio.io/interceptionMode: REDIRECT, traffic.sidecar.istio.io/excludeOutboundPorts: "3306"}}` + "\nspec: {containers: [{name: app}]}",
			want:  `metadata: {annotations: {sidecar.istio.io/interceptionMode: REDIRECT, traffic.sidecar.istio.io/excludeOutboundPorts: "3306"}}` + "\nspec: {containers: [{name: app}]}",
			notes: []string{"spec.template.annotations[sidecar.istio.io/interceptionMode]", "spec.template.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]"},
		},
		{
			name: "of 1.6 goes what its template writes", status: status106,
			env: map[string]string{envPodPorts: "[]"},
			in: `metadata: {annotations: {sidecar.istio.io/interceptionMode: REDIRECT, traffic.sidecar.istio.io/includeInboundPorts: "80", traffic.sidecar.istio.io/excludeInboundPorts: "15020",` +
				` traffic.sidecar.istio.io/excludeOutboundPorts: "3306"}}` + "\nspec: {containers: [{name: app, ports: [{containerPort: 80}]}]}",
			want:  `metadata: {annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: "3306"}}` + "\nspec: {containers: [{name: app, ports: [{containerPort: 80}]}]}",
			notes: []string{"spec.template.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]"},
		},
		{
			name: "another revision than the injector's is the user's", status: status128,
			in:    "metadata: {annotations: {istio.io/rev: canary}}\nspec: {containers: [{name: app}]}",
			want:  "metadata: {annotations: {istio.io/rev: canary}}\nspec: {containers: [{name: app}]}",
			notes: []string{"spec.template.annotations[istio.io/rev]"},
		},
		{
			name: "values that are no strings are not dropped", status: status128,
			in:   "metadata: {annotations: {x: true, n: 5}}\nspec: {containers: [{name: app}]}",
			want: "metadata: {annotations: {x: true, n: 5}}\nspec: {containers: [{name: app}]}",
		},
		{
			name: "a custom template's volume is told of", status: strings.Replace(status128, `"istio-envoy"`, `"istio-envoy","spool"`, 1),
			in:    "metadata: {annotations: {by: template}}\nspec: {containers: [{name: app}], volumes: [{name: spool}]}",
			want:  "metadata: {annotations: {by: template}}\nspec: {containers: [{name: app}]}",
			notes: []string{"spec.template.metadata"},
		},
		{
			name: "a volume of the user's that both mount stays", status: strings.Replace(status128, `"istio-envoy"`, `"istio-envoy","certs"`, 1),
			in:    "metadata: {annotations: {sidecar.istio.io/userVolume: '{\"certs\":{}}'}}\nspec: {containers: [{name: app, volumeMounts: [{name: certs}]}], volumes: [{name: certs}]}",
			want:  "metadata: {annotations: {sidecar.istio.io/userVolume: '{\"certs\":{}}'}}\nspec: {containers: [{name: app, volumeMounts: [{name: certs}]}], volumes: [{name: certs}]}",
			notes: []string{"spec.template.volumes"},
		},
		{
			name: "labels the injector writes go, others stay with a note", status: status128,
			in:    "metadata: {labels: {app: web, security.istio.io/tlsMode: istio, service.istio.io/canonical-name: mine, service.istio.io/canonical-revision: latest}}\nspec: {containers: [{name: app}]}",
			want:  "metadata: {labels: {app: web, service.istio.io/canonical-name: mine}}\nspec: {containers: [{name: app}]}",
			notes: []string{"spec.template.labels[service.istio.io/canonical-name]"},
		},
		{
			name: "a gateway's tlsMode label is its owner's", status: status128, args: []string{"proxy", "router"},
			in:   "metadata: {labels: {security.istio.io/tlsMode: istio}}\nspec: {containers: [{name: app}]}",
			want: "metadata: {labels: {security.istio.io/tlsMode: istio}}\nspec: {containers: [{name: app}]}",
		},
		{
			name: "labels recorded to 1.5", status: status106,
			env:  map[string]string{envLabels: `{"app":"web","security.istio.io/tlsMode":"istio"}`},
			in:   "metadata: {labels: {app: web, security.istio.io/tlsMode: istio}}\nspec: {containers: [{name: app}]}",
			want: "metadata: {labels: {app: web, security.istio.io/tlsMode: istio}}\nspec: {containers: [{name: app}]}",
		},
		{
			name: "fsGroup and pull secrets of 1.12", status: status112,
			in:    "spec: {containers: [{name: app}], imagePullSecrets: [{name: mine}, {name: pull}], securityContext: {fsGroup: 1337, runAsUser: 5}}",
			want:  "spec: {containers: [{name: app}], imagePullSecrets: [{name: mine}], securityContext: {runAsUser: 5}}",
			notes: []string{"spec.template.imagePullSecrets", "spec.template.securityContext.fsGroup"},
		},
		{
			name: "fsGroup of today is the user's", status: status128,
			in:    "spec: {containers: [{name: app}], securityContext: {fsGroup: 1337}}",
			want:  "spec: {containers: [{name: app}], securityContext: {fsGroup: 1337}}",
			notes: []string{"spec.template.securityContext.fsGroup"},
		},
		{
			name: "dnsConfig to 1.7", status: status106, ports: true,
			in:    "spec: {containers: [{name: app}], dnsConfig: {searches: [global]}}",
			want:  "spec: {containers: [{name: app}]}",
			notes: []string{"spec.template.dnsConfig"},
		},
		{
			name: "dnsConfig of today is the user's", status: status128, ports: true,
			in:   "spec: {containers: [{name: app}], dnsConfig: {searches: [global]}}",
			want: "spec: {containers: [{name: app}], dnsConfig: {searches: [global]}}",
		},
		{
			name: "annotations about containers that are gone", status: status128,
			in:   "metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/istio-proxy: unconfined, container.apparmor.security.beta.kubernetes.io/app: unconfined}}\nspec: {containers: [{name: app}]}",
			want: "metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/app: unconfined}}\nspec: {containers: [{name: app}]}",
		},
		{
			name: "a user's own proxy comes back", status: strings.ReplaceAll(status128, `"revision"`, `"x":0,"revision"`),
			in:   `metadata: {annotations: {proxy.istio.io/overrides: '{"containers":[{"name":"istio-proxy","resources":{},"env":[{"name":"A","value":"b"}]}]}'}}` + "\nspec: {containers: [{name: app}]}",
			want: "spec: {containers: [{name: app}, {name: istio-proxy, image: auto, env: [{name: A, value: b}]}]}",
		},
		{
			name: "a mount of Istio's volume stays, with a note", status: status128,
			in:    "spec: {containers: [{name: app, volumeMounts: [{name: istio-envoy, mountPath: /e}]}]}",
			want:  "spec: {containers: [{name: app, volumeMounts: [{name: istio-envoy, mountPath: /e}]}]}",
			notes: []string{"spec.template.containers[app].volumeMounts"},
		},
		{
			name: "multus network", status: status128,
			in:   "metadata: {annotations: {k8s.v1.cni.cncf.io/networks: 'mine, default/istio-cni'}}\nspec: {containers: [{name: app}]}",
			want: "metadata: {annotations: {k8s.v1.cni.cncf.io/networks: mine}}\nspec: {containers: [{name: app}]}",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			injected := withSidecar(t, object(t, deployment(tc.in)), tc.status, tc.env, tc.args, tc.ports)
			before := injected.DeepCopy()
			got, result, err := Uninject(injected)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(object(t, deployment(tc.want)).Object, got.Object); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var fields []string
			for _, n := range result.Notes {
				fields = append(fields, n.Field)
			}
			if !slices.Equal(tc.notes, fields) {
				t.Errorf("notes on %v, want %v: %v", fields, tc.notes, result.Notes)
			}
			if !cmp.Equal(before.Object, injected.Object) {
				t.Error("the input was changed")
			}
		})
	}
}

// withSidecar adds a sidecar in its shortest form.
func withSidecar(t *testing.T, obj *unstructured.Unstructured, status string, env map[string]string, args []string, port bool) *unstructured.Unstructured {
	t.Helper()
	template := podTemplates(obj.Object)[0]
	proxy := map[string]any{"name": proxyContainer, "image": "istio/proxyv2:1.2.3"}
	if args == nil {
		args = []string{"proxy", "sidecar"}
	}
	var list []any
	for _, a := range args {
		list = append(list, a)
	}
	proxy["args"] = list
	var vars []any
	for _, name := range sortedKeys(env) {
		vars = append(vars, map[string]any{"name": name, "value": env[name]})
	}
	proxy["env"] = vars
	if port {
		proxy["ports"] = []any{map[string]any{"containerPort": int64(15090)}}
	}
	setList(template.spec, "containers", append(listOf(template.spec, "containers"), proxy))
	setList(template.spec, "initContainers", append(listOf(template.spec, "initContainers"), map[string]any{"name": initContainer}))
	setList(template.spec, "volumes", append(listOf(template.spec, "volumes"), map[string]any{"name": "istio-envoy"}))
	annotations := template.annotations()
	annotations[statusAnnotation] = status
	template.setMeta("annotations", annotations)
	return obj
}

// TestOwnLabel: two objects with the same injected template, one whose selector
// shows that the label is its owner's.
func TestOwnLabel(t *testing.T) {
	template := "metadata: {labels: {app: web, security.istio.io/tlsMode: istio}}\nspec: {containers: [{name: app}]}"
	injected := withSidecar(t, object(t, deployment(template)), status128, nil, nil, false)
	for _, tc := range []struct {
		name string
		own  func(obj map[string]any)
		kept bool
	}{
		{"nothing shows it", func(map[string]any) {}, false},
		{"the selector", func(obj map[string]any) {
			mapAt(obj, "spec")["selector"] = map[string]any{"matchLabels": map[string]any{tlsModeLabel: "istio"}}
		}, true},
		{"a selector's expression", func(obj map[string]any) {
			mapAt(obj, "spec")["selector"] = map[string]any{"matchExpressions": []any{map[string]any{"key": tlsModeLabel, "operator": "Exists"}}}
		}, true},
		{"the workload's own label", func(obj map[string]any) {
			mapAt(obj, "metadata")["labels"] = map[string]any{tlsModeLabel: "istio"}
		}, true},
		{"the manifest last applied", func(obj map[string]any) {
			raw, _ := json.Marshal(object(t, deployment(template)).Object)
			mapAt(obj, "metadata")["annotations"] = map[string]any{lastApplied: string(raw)}
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			obj := injected.DeepCopy()
			tc.own(obj.Object)
			got, result, err := Uninject(obj)
			if err != nil {
				t.Fatal(err)
			}
			_, has := podTemplates(got.Object)[0].labels()[tlsModeLabel]
			if has != tc.kept || tc.kept != (len(result.Notes) == 1) {
				t.Errorf("kept %v, want %v; notes %v", has, tc.kept, result.Notes)
			}
		})
	}
}

// TestKinds: where each kind has its template.
func TestKinds(t *testing.T) {
	pod := "{metadata: {annotations: {sidecar.istio.io/status: '" + status128 + "'}}, spec: {containers: [{name: app}, {name: istio-proxy}]}}"
	for _, tc := range []struct{ kind, body, path string }{
		{"Pod", strings.TrimSuffix(strings.TrimPrefix(pod, "{"), "}"), ""},
		{"StatefulSet", "spec: {template: " + pod + "}", "spec.template"},
		{"DeploymentConfig", "spec: {template: " + pod + "}", "spec.template"},
		{"Rollout", "spec: {template: " + pod + "}", "spec.template"},
		{"Job", "spec: {template: " + pod + "}", "spec.template"},
		{"PodTemplate", "template: " + pod, "template"},
		{"CronJob", "spec: {jobTemplate: {metadata: {annotations: {sidecar.istio.io/status: '" + status128 + "'}}, spec: {template: {spec: {containers: [{name: app}, {name: istio-proxy}]}}}}}", "spec.jobTemplate.spec.template"},
		{"ScaledJob", "spec: {jobTargetRef: {template: " + pod + "}}", "spec.jobTargetRef.template"},
		{"JobSet", "spec: {replicatedJobs: [{template: {spec: {template: " + pod + "}}}]}", "spec.replicatedJobs[0].template.spec.template"},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			obj := object(t, "{kind: "+tc.kind+", "+tc.body+"}")
			found, ok := Injected(obj)
			if !ok || found.Template != tc.path || found.Revision != "default" {
				t.Fatalf("Injected: %v %+v", ok, found)
			}
			got, result, err := Uninject(obj)
			if err != nil || !result.Changed {
				t.Fatal(result, err)
			}
			if text := toYAML(t, got.Object); strings.Contains(text, "istio") || !strings.Contains(text, "name: app") {
				t.Errorf("left:\n%s", text)
			}
		})
	}
}

// TestNotASidecar: what must not be taken for one.
func TestNotASidecar(t *testing.T) {
	for name, manifest := range map[string]string{
		"a user's own proxy":   deployment("spec: {containers: [{name: app}, {name: istio-proxy, image: auto, env: [{name: A, value: b}]}]}"),
		"an old gateway":       deployment("spec: {containers: [{name: istio-proxy, image: 'istio/proxyv2:1.4.0', args: [proxy, router], env: [{name: ISTIO_META_INTERCEPTION_MODE, value: REDIRECT}]}]}"),
		"a service":            plainService,
		"a template of chaos":  "kind: Deployment\nspec: {template: {spec: {containers: 7}}}",
		"containers of chaos":  "kind: Deployment\nspec: {template: {spec: {containers: [7, null, {name: 5}]}}}",
		"the word status only": deployment("metadata: {annotations: {sidecar.istio.io/inject: 'true'}}\nspec: {containers: [{name: app}]}"),
	} {
		obj := object(t, manifest)
		if _, ok := Injected(obj); ok {
			t.Errorf("%s is taken for injected", name)
		}
		got, result, err := Uninject(obj)
		if err != nil || result.Changed || !cmp.Equal(obj.Object, got.Object) {
			t.Errorf("%s: changed %v, error %v", name, result.Changed, err)
		}
	}
}

// TestLostStatus: a sidecar is recognised by its form, and only volumes that
// nobody else mounts go with it.
func TestLostStatus(t *testing.T) {
	obj := object(t, deployment(`
spec:
  initContainers: [{name: istio-init}]
  containers:
  - {name: app, volumeMounts: [{name: istio-certs}]}
  - {name: istio-proxy, image: 'istio/proxyv2:1.9.0', args: [proxy, sidecar], env: [{name: ISTIO_META_INTERCEPTION_MODE, value: REDIRECT}]}
  volumes: [{name: istio-envoy}, {name: istio-certs}, {name: data}]`))
	found, ok := Injected(obj)
	if !ok || found.FoundBy != FoundByForm || found.Version != "1.9.0" {
		t.Fatalf("%v %+v", ok, found)
	}
	got, result, err := Uninject(obj)
	if err != nil {
		t.Fatal(err)
	}
	want := object(t, deployment("spec:\n  containers: [{name: app, volumeMounts: [{name: istio-certs}]}]\n  volumes: [{name: istio-certs}, {name: data}]"))
	if diff := cmp.Diff(want.Object, got.Object); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(result.Notes) != 1 || !strings.Contains(result.Notes[0].Message, "recognised by its form") {
		t.Errorf("notes: %v", result.Notes)
	}
}

// TestInjectedTwice: kube-inject to 1.1 appends a second sidecar.
func TestInjectedTwice(t *testing.T) {
	proxy := "{name: istio-proxy, args: [proxy, sidecar], env: [{name: ISTIO_METAJSON_ANNOTATIONS, value: '%s'}]}"
	obj := object(t, deployment("metadata: {annotations: {sidecar.istio.io/interceptionMode: TPROXY, sidecar.istio.io/status: '"+status106+"'}}\nspec:\n"+
		"  initContainers: [{name: istio-init}, {name: istio-init}]\n  containers: [{name: app}, "+
		strings.ReplaceAll(proxy, "%s", `{"sidecar.istio.io/interceptionMode":"REDIRECT"}`)+", "+
		strings.ReplaceAll(proxy, "%s", `{"sidecar.istio.io/interceptionMode":"TPROXY","sidecar.istio.io/status":"{}"}`)+"]\n"+
		"  volumes: [{name: istio-envoy}, {name: istio-envoy}, {name: data}]"))
	got, result, err := Uninject(obj)
	if err != nil {
		t.Fatal(err)
	}
	want := object(t, deployment("metadata: {annotations: {sidecar.istio.io/interceptionMode: TPROXY}}\nspec:\n  containers: [{name: app}]\n  volumes: [{name: data}]"))
	if diff := cmp.Diff(want.Object, got.Object); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(result.Notes) == 0 || !strings.Contains(result.Notes[0].Message, "injected 2 times") {
		t.Errorf("notes: %v", result.Notes)
	}
}

// FuzzUninject: it never panics, never changes its input or an object without a
// sidecar, never drops a container that is not Istio's, and is done after once.
func FuzzUninject(f *testing.F) {
	f.Add([]byte(injectedPod))
	f.Add([]byte(deployment("metadata: {annotations: {sidecar.istio.io/status: '" + status110 + "'}}\nspec: {containers: [{name: app}, {name: istio-proxy, env: [{name: ISTIO_KUBE_APP_PROBERS, value: '{}'}]}]}")))
	f.Add([]byte(`{"kind":"List","items":[{"kind":"Pod","spec":{"containers":[{"name":"a"}]}}]}`))
	f.Add([]byte(plainService))
	for _, tc := range leftovers {
		f.Add([]byte(deployment(tc.in)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, err := yaml.YAMLToJSON(data)
		if err != nil {
			return
		}
		obj, err := toObject(raw)
		if err != nil || obj == nil {
			return
		}
		before := obj.DeepCopy()
		got, result, err := Uninject(obj)
		if !cmp.Equal(before.Object, obj.Object) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		if !result.Changed && !cmp.Equal(obj.Object, got.Object) {
			t.Fatal("changed without saying so")
		}
		gone := map[string]bool{}
		for _, r := range result.Removed {
			for _, name := range append(r.Containers, r.InitContainers...) {
				gone[name] = true
			}
		}
		left := containerNames(got.Object)
		for name := range containerNames(obj.Object) {
			if !gone[name] && !left[name] {
				t.Fatalf("container %q was dropped", name)
			}
		}
		again, second, err := Uninject(got)
		if err != nil || second.Changed || !cmp.Equal(got.Object, again.Object) {
			t.Fatalf("a second time: changed %v, error %v", second.Changed, err)
		}
	})
}

func containerNames(node any) map[string]bool {
	names := map[string]bool{}
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for _, key := range []string{"containers", "initContainers"} {
				for _, c := range listOf(node, key) {
					if name := nameOf(c); name != "" {
						names[name] = true
					}
				}
			}
			for _, v := range node {
				walk(v)
			}
		case []any:
			for _, v := range node {
				walk(v)
			}
		}
	}
	walk(node)
	return names
}
