package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

const injectedManifest = `# kept
kind: Service
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    service.istio.io/canonical-name: mine
  annotations:
    sidecar.istio.io/status: '{"containers":["istio-proxy"],"volumes":["credential-socket"],"revision":"default"}'
spec:
  containers:
  - name: web
  - name: istio-proxy
    args: [proxy, sidecar]
`

const cleanManifest = `# kept
kind: Service
---
apiVersion: v1
kind: Pod
metadata:
  labels:
    service.istio.io/canonical-name: mine
  name: web
spec:
  containers:
  - name: web
`

func TestUninjectCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(file, []byte(injectedManifest), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, in    string
		args        []string
		out, errOut string
		err         string
	}{
		{name: "a file", args: []string{"-f", file}, out: cleanManifest, errOut: "note: Pod/web: labels[service.istio.io/canonical-name]: "},
		{name: "stdin", in: injectedManifest, args: []string{"-f", "-"}, out: cleanManifest, errOut: "note: "},
		{name: "as json", in: "kind: Service\n", args: []string{"-f", "-", "-o", "json"}, out: "{\n    \"kind\": \"Service\"\n}\n"},
		{name: "no file", err: "uninject needs manifests"},
		{name: "no such file", args: []string{"-f", file + "x"}, err: "web.yamlx: no such file"},
		{name: "another format", args: []string{"-f", file, "-o", "table"}, err: "manifests are written as yaml or json"},
		{name: "broken yaml", in: "a: [\n", args: []string{"-f", "-"}, err: "stdin: document 1 (line 1): yaml: line"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			streams, in, out, errOut := genericiooptions.NewTestIOStreams()
			in.WriteString(tc.in)
			cmd := newUninjectCommand(streams)
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(tc.args)
			if tc.args == nil {
				cmd.SetArgs([]string{})
			}
			err := cmd.ExecuteContext(t.Context())
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if out.String() != tc.out {
				t.Errorf("stdout:\n%s\nwant:\n%s", out, tc.out)
			}
			if !strings.HasPrefix(errOut.String(), tc.errOut) || tc.errOut == "" && errOut.Len() > 0 {
				t.Errorf("stderr: %q, want %q", errOut, tc.errOut)
			}
		})
	}
}
