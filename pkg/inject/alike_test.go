package inject

import (
	"testing"

	"sigs.k8s.io/yaml"
)

func TestSaysTheSame(t *testing.T) {
	const manifest = `
metadata: {labels: {app: web}, annotations: {a: b}}
spec:
  volumes: []
  securityContext: {}
  containers: [{name: web, image: web:1, ports: [{containerPort: 80}], resources: {}}]`
	for _, tc := range []struct {
		name, live string
		want       bool
	}{
		{"the API server's defaults", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec:
  dnsPolicy: ClusterFirst
  securityContext: {}
  containers: [{name: web, image: web:1, imagePullPolicy: IfNotPresent, ports: [{containerPort: 80, protocol: TCP}], resources: {}}]`, true},
		{"another image", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec: {containers: [{name: web, image: web:2, ports: [{containerPort: 80}]}]}`, false},
		{"a container more", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 80}]}, {name: more}]}`, false},
		{"a field less", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec: {containers: [{name: web, image: web:1}]}`, false},
		{"restarted since", `
metadata: {labels: {app: web}, annotations: {a: b, kubectl.kubernetes.io/restartedAt: "2026-01-01T00:00:00Z"}}
spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 80}]}]}`, false},
		{"a probe that the manifest does not have", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 80}], livenessProbe: {httpGet: {port: 80, path: /, scheme: HTTP}}}]}`, false},
		{"a volume that the manifest does not have", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec: {volumes: [{name: v, emptyDir: {}}], containers: [{name: web, image: web:1, ports: [{containerPort: 80}]}]}`, false},
		{"the host's network, which the manifest does not want", `
metadata: {labels: {app: web}, annotations: {a: b}}
spec: {hostNetwork: true, containers: [{name: web, image: web:1, ports: [{containerPort: 80}]}]}`, false},
		{"another label", `
metadata: {labels: {app: web, version: v2}, annotations: {a: b}}
spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 80}]}]}`, false},
	} {
		template := func(text string) podTemplate {
			var of map[string]any
			if err := yaml.Unmarshal([]byte(text), &of); err != nil {
				t.Fatal(err)
			}
			return podTemplates(wrap("apps/v1", "Deployment", map[string]any{"name": "web"}, "template", of).Object)[0]
		}
		if got := saysTheSame(template(manifest), template(tc.live)); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}
