package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What was changed in a container after a template had its part in it is the
// user's: it stays as it is now, and what the record does not have goes.
func TestChangesSinceTheInjectionStay(t *testing.T) {
	const record = `{"containers":[{"name":"app","image":"a:1","command":["run"],"env":[{"name":"MODE","value":"blue"},{"name":"GONE","value":"x"},{"name":"POD","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],` +
		`"resources":{"limits":{"cpu":"1"}},"readinessProbe":{"httpGet":{"port":80}}}]}`
	const status = `{"containers":["istio-proxy","app"],"volumes":["istio-xds"]}`
	proxy := `{name: istio-proxy, image: "p:1", args: [proxy, sidecar], env: [{name: ISTIO_META_APP_CONTAINERS, value: app}]}`
	for _, c := range []struct {
		name, app, want string
		notes           []string
	}{
		{
			"nothing was changed",
			`{name: app, image: "a:1", command: [run], env: [{name: MODE, value: blue}, {name: GONE, value: x}, {name: POD, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}, {name: GRPC_XDS_BOOTSTRAP, value: y}],
     resources: {limits: {cpu: "1"}}, readinessProbe: {httpGet: {port: 80}, timeoutSeconds: 1}, volumeMounts: [{name: istio-xds, mountPath: /etc/istio/proxy}]}`,
			`{name: app, image: "a:1", command: [run], env: [{name: MODE, value: blue}, {name: GONE, value: x}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
     resources: {limits: {cpu: "1"}}, readinessProbe: {httpGet: {port: 80}}}`,
			nil,
		},
		{
			"a later release of the application",
			`{name: app, image: "a:2", command: [run, fast], env: [{name: MODE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: POD, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}, {name: GRPC_XDS_BOOTSTRAP, value: y}],
     resources: {limits: {cpu: "2", memory: 1Gi}}, readinessProbe: {httpGet: {port: 15020}}}`,
			`{name: app, image: "a:2", command: [run, fast], env: [{name: MODE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
     resources: {limits: {cpu: "2", memory: 1Gi}}, readinessProbe: {httpGet: {port: 80}}}`,
			[]string{"changed since it was injected: command, env, image, resources; kept as now"},
		},
		{
			"something was added",
			`{name: app, image: "a:1", command: [run], env: [{name: MODE, value: blue}, {name: GONE, value: x}, {name: POD, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}, {name: NEW, value: z}],
     resources: {limits: {cpu: "1", memory: 1Gi}}, args: [more], volumeMounts: [{name: data, mountPath: /data}]}`,
			`{name: app, image: "a:1", command: [run], env: [{name: MODE, value: blue}, {name: GONE, value: x}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
     resources: {limits: {cpu: "1"}}, readinessProbe: {httpGet: {port: 80}}}`,
			[]string{"a template's or added since: args, resources, env NEW, volumeMount data; removed"},
		},
	} {
		in := "metadata: {annotations: {sidecar.istio.io/status: '" + status + "', proxy.istio.io/overrides: '" + record + "'}}\nspec:\n  containers:\n  - " + c.app + "\n  - " + proxy
		got, result, err := Uninject(object(t, deployment(in)))
		if err != nil {
			t.Fatal(err)
		}
		want := object(t, deployment("spec:\n  containers:\n  - "+c.want))
		if diff := cmp.Diff(want.Object, got.Object); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if len(result.Notes) != len(c.notes) {
			t.Errorf("%s: notes %q", c.name, result.Notes)
			continue
		}
		for i, note := range c.notes {
			if !strings.Contains(result.Notes[i].Message, note) {
				t.Errorf("%s: note %q, want %q", c.name, result.Notes[i], note)
			}
		}
	}
}
