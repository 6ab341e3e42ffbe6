package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// newestIstio is the module whose test data is the newest release's corpus.
const newestIstio = "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad"

// extraCorpus names a folder with more inject-<release> folders.
const extraCorpus = "ISTIO_INJECT_CORPUS"

// pair is one workload before and after injection.
type pair struct {
	release, name    string
	original, result string // paths
}

// twins: injected files whose original has another name, from the table in
// Istio's inject_test.go.
var twins = map[string]string{
	"auth.cert-dir":                      "auth",
	"cronjob-old-version":                "cronjob",
	"daemonset-old-version":              "daemonset",
	"hello-always":                       "hello",
	"hello-cncf-networks":                "hello",
	"hello-config-map-name":              "hello",
	"hello-fips-140-3":                   "hello",
	"hello-image-secrets-in-values":      "hello",
	"hello-mount-mtls-certs":             "hello",
	"hello-multiple-image-secrets":       "hello-image-pull-secret",
	"hello-never":                        "hello",
	"hello-no-seccontext":                "hello",
	"hello-old-version":                  "hello",
	"hello-probes.proxyHoldsApplication": "hello-probes",
	"hello-template-in-values":           "hello",
	"hello-tproxy-debug":                 "hello",
	"hello-tproxy":                       "hello",
	"hello.proxyHoldsApplication":        "hello",
	"hello.yaml.cni":                     "hello",
	"hello.yaml.proxyImageName":          "hello",
	"hello.yaml.proxyInitImageName":      "hello",
	"job-old-version":                    "job",
	"native-sidecar-old-version":         "native-sidecar",
	"pod-old-version":                    "pod",
	"proxy-override-args-native":         "proxy-override-args",
	"proxy-override-runas.yaml.cni":      "proxy-override-runas",
	"proxy-override-runas.yaml.tproxy":   "proxy-override-runas",
	"replicaset-old-version":             "replicaset",
	"statefulset-old-version":            "statefulset",
	"tcp-probes-disabled":                "tcp-probes",
}

func corpusFolders(t *testing.T) map[string]string {
	t.Helper()
	folders := map[string]string{}
	roots := []string{filepath.Join("..", "..", "..", "shared", "corpus")}
	if extra := os.Getenv(extraCorpus); extra != "" {
		roots = append(roots, extra)
	}
	for _, root := range roots {
		found, err := filepath.Glob(filepath.Join(root, "inject-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range found {
			folders[strings.TrimPrefix(filepath.Base(dir), "inject-")] = dir
		}
	}
	if dir, err := istioModule(t); err != nil {
		t.Logf("the newest release's pairs are left out: %v", err)
	} else {
		folders["newest"] = filepath.Join(dir, "pkg", "kube", "inject", "testdata", "inject")
	}
	if len(folders) == 0 {
		t.Skip("no corpus here: neither ../shared/corpus beside the project nor the module istio.io/istio")
	}
	return folders
}

// istioModule finds the folder of Istio's module without depending on it.
func istioModule(t *testing.T) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", newestIstio)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w", newestIstio, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	return module.Dir, nil
}

func corpusPairs(t *testing.T) []pair {
	t.Helper()
	var pairs []pair
	folders := corpusFolders(t)
	for _, release := range sortedKeys(folders) {
		dir := folders[release]
		files, err := filepath.Glob(filepath.Join(dir, "*.injected"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".injected")
			original := filepath.Join(dir, name)
			if _, err := os.Stat(original); errors.Is(err, fs.ErrNotExist) {
				original = filepath.Join(dir, twins[strings.TrimSuffix(name, ".yaml")]+".yaml")
			}
			if _, err := os.Stat(original); err != nil {
				t.Logf("%s/%s: no original in this folder", release, name)
				continue
			}
			pairs = append(pairs, pair{release, name, original, file})
		}
	}
	return pairs
}

// readObjects reads the documents of a file; nil ones (a trailing ---) are left
// out.
func readObjects(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	decoder := k8syaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var obj map[string]any
		err := decoder.Decode(&obj)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if obj == nil {
			continue
		}
		typed := &unstructured.Unstructured{}
		raw, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if err := typed.UnmarshalJSON(raw); err != nil { // numbers as the API machinery has them
			if err := json.Unmarshal(raw, &typed.Object); err != nil {
				t.Fatal(err)
			}
		}
		objects = append(objects, flattened(typed)...)
	}
}

func flattened(obj *unstructured.Unstructured) []*unstructured.Unstructured {
	items, ok := obj.Object["items"].([]any)
	if !ok {
		return []*unstructured.Unstructured{obj}
	}
	var out []*unstructured.Unstructured
	for _, item := range items {
		out = append(out, &unstructured.Unstructured{Object: item.(map[string]any)})
	}
	return out
}

// meaning is an object up to what is semantically the same: its pod template is
// read into Kubernetes' types (quantities, unset fields) and empty values go.
func meaning(t *testing.T, obj *unstructured.Unstructured) any {
	t.Helper()
	obj = obj.DeepCopy()
	for _, template := range podTemplates(obj.Object) {
		var spec corev1.PodSpec
		raw, err := json.Marshal(template.spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &spec); err != nil {
			t.Fatalf("%s: %v", objectName(obj.Object), err)
		}
		raw, err = json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var canonical map[string]any
		if err := json.Unmarshal(raw, &canonical); err != nil {
			t.Fatal(err)
		}
		clear(template.spec)
		maps.Copy(template.spec, canonical)
	}
	for _, field := range []string{"minReadySeconds", "paused", "test"} { // typed zero values
		if spec := mapAt(obj.Object, "spec"); spec[field] == int64(0) || spec[field] == false {
			delete(spec, field)
		}
	}
	return pruned(plain(t, obj.Object))
}

func plain(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			if item = pruned(item); item == nil {
				delete(v, k)
			} else {
				v[k] = item
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = pruned(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

func difference(t *testing.T, want, got []*unstructured.Unstructured) string {
	t.Helper()
	if len(want) != len(got) {
		return fmt.Sprintf("%d objects instead of %d", len(got), len(want))
	}
	var out strings.Builder
	for i := range want {
		out.WriteString(cmp.Diff(meaning(t, want[i]), meaning(t, got[i])))
	}
	return out.String()
}

func uninjectAll(t *testing.T, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, []Note) {
	t.Helper()
	var out []*unstructured.Unstructured
	var notes []Note
	for _, obj := range objects {
		clean, result, err := Uninject(obj)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, clean)
		notes = append(notes, result.Notes...)
	}
	return out, notes
}

// TestCorpus: uninject(injected) is the original, for every pair of every
// release, but for those in unknowable.
func TestCorpus(t *testing.T) {
	restored, excused, total := map[string]int{}, map[string]int{}, map[string]int{}
	used := map[string]bool{}
	pairs := corpusPairs(t)
	for _, p := range pairs {
		t.Run(p.release+"/"+p.name, func(t *testing.T) {
			total[p.release]++
			got, notes := uninjectAll(t, readObjects(t, p.result))
			want := readObjects(t, p.original)
			if slices.ContainsFunc(want, func(o *unstructured.Unstructured) bool { _, yes := Injected(o); return yes }) {
				want, _ = uninjectAll(t, want) // the original is an injected workload itself (merge-probers)
			}
			diff := difference(t, want, got)
			reason, listed := unknowable[p.name]
			switch {
			case diff == "":
				restored[p.release]++
			case listed:
				used[p.name] = true
				excused[p.release]++
				t.Logf("not restored: %s", reason)
			default:
				for _, n := range notes {
					t.Log(n)
				}
				t.Errorf("differs from the original (-want +got):\n%s", diff)
			}
		})
	}
	for _, release := range sortedKeys(total) {
		t.Logf("%-12s %3d of %3d pairs restored, %d unknowable", release, restored[release], total[release], excused[release])
	}
	if len(total) == 1 {
		return // a clone alone has the newest release only, which may well restore what others do not
	}
	for name := range unknowable {
		if !used[name] && !slices.ContainsFunc(pairs, func(p pair) bool { return p.name == name }) {
			continue // of a release that is not here
		}
		if !used[name] {
			t.Errorf("%s is listed as unknowable but is restored: take it off the list", name)
		}
	}
}

// TestCorpusTwice: taking out twice is taking out once.
func TestCorpusTwice(t *testing.T) {
	for _, p := range corpusPairs(t) {
		once, _ := uninjectAll(t, readObjects(t, p.result))
		for _, obj := range once {
			again, result, err := Uninject(obj)
			if err != nil {
				t.Fatalf("%s/%s: %v", p.release, p.name, err)
			}
			if result.Changed || len(result.Notes) > 0 || !cmp.Equal(obj.Object, again.Object) {
				t.Errorf("%s/%s: a second time changed it (%v):\n%s", p.release, p.name, result, cmp.Diff(obj.Object, again.Object))
			}
		}
	}
}

func toYAML(t *testing.T, obj map[string]any) string {
	t.Helper()
	out, err := yaml.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// unknowable are the pairs whose original nobody could restore from the injected
// object alone.
var unknowable = map[string]string{
	"custom-template.yaml": "a custom template adds the annotations foo, prometheus.istio.io/merge-metrics and " +
		"sidecar.istio.io/rewriteAppHTTPProbers; the status annotation does not list annotations, so they look like a user's",
	"explicit-security-context.yaml": "to 1.14 the template overwrites the pod's fsGroup 1234 by 1337 and records it nowhere",
	"hello-openshift-custom-injection.yaml": "on OpenShift the webhook deletes the proxy's runAsUser, where the application's is the same, " +
		"before it records the container",
	"merge-probers.yaml": "one probe was written by number where another was written by name; the record holds numbers only, " +
		"and the name that means the same is restored for both",
}
