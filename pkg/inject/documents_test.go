package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const plainService = `# the front door
apiVersion: v1
kind: Service   # with a comment
metadata: {name: web}
spec:
    ports: [{port: 80}]
`

// injectedPod is a pod as Istio 1.20 injects it, cut down to what matters.
const injectedPod = `apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations:
    sidecar.istio.io/status: '{"initContainers":["istio-init"],"containers":["istio-proxy"],"volumes":["istio-envoy"],"imagePullSecrets":null,"revision":"default"}'
spec:
  initContainers:
  - name: istio-init
    image: istio/proxyv2:1.20.8
  containers:
  - name: web
    image: web:1
  - name: istio-proxy
    image: istio/proxyv2:1.20.8
    args: [proxy, sidecar]
  volumes:
  - name: istio-envoy
    emptyDir: {}
`

const cleanPod = `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - image: web:1
    name: web
`

func text(name, content string) Source {
	return Source{name, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func TestUninjectManifestsKeepsShape(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		format         Format
	}{
		{name: "nothing at all"},
		{name: "untouched", in: plainService, want: plainService},
		{name: "no newline at the end", in: "a: 1", want: "a: 1"},
		{name: "windows line ends", in: "a: 1\r\n---\r\nb: 2\r\n", want: "a: 1\r\n---\r\nb: 2\r\n"},
		{name: "empty documents and comments", in: "---\n---\n# only this\n---\n\n---", want: "---\n---\n# only this\n---\n\n---"},
		{name: "directive", in: "%YAML 1.1\n---\na: 1\n...\n# after\n", want: "%YAML 1.1\n---\na: 1\n...\n# after\n"},
		{name: "a separator inside a block of text", in: "a: |\n  x\n  ---\n  y\n", want: "a: |\n  x\n  ---\n  y\n"},
		{name: "helm's source comments", in: "---\n# Source: chart/web.yaml\n" + injectedPod + "---\n# Source: chart/svc.yaml\n" + plainService, want: "---\n" + cleanPod + "---\n# Source: chart/svc.yaml\n" + plainService},
		{name: "first of two", in: injectedPod + "---\n" + plainService, want: cleanPod + "---\n" + plainService},
		{name: "second of two", in: plainService + "--- # next\n" + injectedPod, want: plainService + "--- # next\n" + cleanPod},
		{name: "json stays", in: `{"kind": "Service"}` + "\n" + `{"kind":"ConfigMap"}`, want: `{"kind": "Service"}` + "\n" + `{"kind":"ConfigMap"}`},
		{name: "a separator with a comment at once", in: plainService + "---# next\n" + injectedPod, want: plainService + "---# next\n" + cleanPod},
		{name: "utf-16 becomes utf-8", in: utf16(plainService + "---\n" + injectedPod), want: plainService + "---\n" + cleanPod},
		{name: "a comment behind json", in: `{"kind": "Service"} # the door` + "\n", want: `{"kind": "Service"} # the door` + "\n"},
		{name: "dashes inside a document", in: "a: |\n  -----BEGIN X-----\n  ---\n", want: "a: |\n  -----BEGIN X-----\n  ---\n"},
		{name: "json to yaml", in: `{"kind": "Service"} {"kind":"ConfigMap"}`, format: FormatYAML, want: "kind: Service\n---\nkind: ConfigMap\n"},
		{name: "yaml to json", in: "kind: Service\n---\n# nothing\n---\nkind: ConfigMap\n", format: FormatJSON, want: "{\n    \"kind\": \"Service\"\n}\n{\n    \"kind\": \"ConfigMap\"\n}\n"},
		{name: "json among yaml's marks to json", in: "---\n{\"kind\": \"Service\"} # the door\n---\n{\"kind\":\"ConfigMap\"}\n...\n", format: FormatJSON, want: "{\n    \"kind\": \"Service\"\n}\n{\n    \"kind\": \"ConfigMap\"\n}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			if _, err := UninjectManifests(t.Context(), []Source{text("in", tc.in)}, tc.format, &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestUninjectManifestsJoinsSources(t *testing.T) {
	var out bytes.Buffer
	summary, err := UninjectManifests(t.Context(), []Source{text("a", "a: 1"), text("b", injectedPod), text("c", plainService)}, FormatAsRead, &out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("a: 1\n---\n"+cleanPod+"---\n"+plainService, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if summary.Documents != 3 || summary.Changed != 1 || len(summary.Removed) != 1 || summary.Removed[0].Version != "1.20.8" {
		t.Errorf("summary: %+v", summary)
	}
}

func TestUninjectManifestsList(t *testing.T) {
	indent := func(s string) string {
		return "- " + strings.TrimSuffix(strings.ReplaceAll(s, "\n", "\n  "), "  ")
	}
	list := "apiVersion: v1\nitems:\n" + indent("kind: Service\n") + indent(injectedPod) + "kind: List\n"
	want := "apiVersion: v1\nitems:\n" + indent("kind: Service\n") + indent(cleanPod) + "kind: List\n"
	var out bytes.Buffer
	if _, err := UninjectManifests(t.Context(), []Source{text("list", list)}, FormatAsRead, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUninjectManifestsBadInput(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a: &a \"" + strings.Repeat("x", 1<<16) + "\"\nb:\n")
	for range 2000 {
		bomb.WriteString("- *a\n")
	}
	for _, tc := range []struct{ name, in, want string }{
		{"broken yaml has the stream's line", "a: 1\n---\nb: 2\nc: [\n", "in: document 2 (line 2): yaml: line 4"},
		{"a template", "kind: {{ .Values.kind }}\n", "in: document 1 (line 1)"},
		{"a list", "- a\n- b\n", "is a list, not an object"},
		{"a word", "hello\n", "is a bare string, not an object"},
		{"aliases of many bytes", bomb.String(), "its aliases expand to more than 64 MiB"},
		{"billion laughs", billionLaughs(), "its aliases expand to more than 64 MiB"},
		{"an alias of itself", "a: &a\n  b: *a\n", "anchor"},
		{"many tiny values", "kind: X\na:\n" + strings.Repeat("- a\n", maxEntries), "lines and list entries"},
		{"many tiny values in one line", `{"kind":"X","a":[` + strings.Repeat("1,", maxEntries) + "1]}", "lines and list entries"},
		{"too deep", strings.Repeat("[", 20000), "depth"},
		{"too deep json", strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000), "depth"},
		{"json cut short behind an object", `{"kind":"A"}` + "\n" + `{"kind":"B"`, "in: document 2 (line 1): behind a JSON object: unexpected EOF"},
		{"yaml behind a json object", `{"kind":"A"}` + "\nkind: B\n", "in: document 2 (line 1): behind a JSON object"},
		{"a list behind a json object", `{"kind":"A"} {"kind":"B"}` + "\n[]", "in: document 3 (line 1): behind a JSON object: is a list"},
		{"carriage returns alone", "kind: A\r---\rkind: B\r", "in: document 1 (line 1): line 2: another document begins here, behind a line end that is not a line feed"},
		{"carriage returns alone, a comment first", "# c\rkind: A\r---\rkind: B\r", "another document begins here"},
		{"next-line characters", "kind: A\u0085---\u0085kind: B\u0085", "another document begins here"},
		{"a line separator", "kind: A\n# c\u2028---\nkind: B\n", "another document begins here"},
		{"a key twice", "a: 1\n---\nb: 2\nenv: [{name: A}]\nenv: [{name: B}]\n", "in: document 2 (line 2): yaml: line 5: key \"env\" already set in map"},
		{"a key twice in json", `{"kind":"A","spec":{"env":1,"env":2}}`, `in: document 1 (line 1): duplicate field "spec.env"`},
		{"broken status", strings.Replace(injectedPod, `'{"init`, `'{init`, 1), `Pod/web: cannot take the sidecar out: annotation sidecar.istio.io/status`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			_, err := UninjectManifests(t.Context(), []Source{text("in", tc.in)}, FormatAsRead, &out)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one with %q", err, tc.want)
			}
			if out.Len() > 0 {
				t.Errorf("something was written before the error: %q", out.String())
			}
		})
	}
}

// utf16 writes text as PowerShell's redirection does: little-endian, with a mark.
func utf16(s string) string {
	out := []byte("\xff\xfe")
	for _, r := range s {
		out = append(out, byte(r), byte(r>>8))
	}
	return string(out)
}

func billionLaughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
	}
	return b.String()
}

func TestDocumentsSize(t *testing.T) {
	d := NewDocuments("big", strings.NewReader("a: 1\n---\nb: "+strings.Repeat("x", 4096)+"\n"))
	d.maximum = 1024
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Next(); err == nil || !strings.Contains(err.Error(), "document 2 is larger than") {
		t.Errorf("error is %v", err)
	}
}

// FuzzDocuments: whatever the input, reading ends, and what was read is what
// came in, byte for byte.
func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{"", "---", "a: 1\n---\nb: 2", "{}{}", "{\"a\":1}\n---\n{}", "%YAML 1.2\n---\na: 1\n...\n", injectedPod, "&a [*a]", "--- |\n x\n", "{\"a\":1}\n{\"b\"", "a: 1\r---\rb: 2\r", "a: 1\n---# b\nb: 2", "a: 1\na: 2", utf16("a: 1\n---\n")} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		documents := NewDocuments("fuzz", bytes.NewReader(data))
		var read []byte
		for {
			doc, err := documents.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			read = append(read, doc.Raw...)
		}
		if !bytes.Equal(read, data) && !bytes.HasPrefix(data, []byte("\xff\xfe")) && !bytes.HasPrefix(data, []byte("\xfe\xff")) {
			t.Errorf("read %q of %q", read, data)
		}
	})
}
