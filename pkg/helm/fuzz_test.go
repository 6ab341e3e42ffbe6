package helm

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"helm.sh/helm/v4/pkg/release/common"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a chart renders or a release wrote, whatever it is, gives objects that can
// be asked for their names, or an error.
func FuzzParseManifest(f *testing.F) {
	for _, seed := range []string{
		"", "---", "a: b", "kind: X", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# nothing\n---\n{}",
		"apiVersion: v1\nkind: List\nitems: [7]", "apiVersion: 7\nkind: [a]\nmetadata: x", "a: &a [*a]", "\x00", "? {a: b}\n: c",
		"apiVersion: v1\nkind: X\nmetadata: {name: 7, labels: [a]}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := ParseManifest(text)
		if err != nil {
			return
		}
		for _, o := range objects {
			_, _, _ = o.GetName(), o.GetLabels(), o.GetAnnotations()
			if o.GetKind() == "" {
				t.Errorf("an object without a kind from %q", text)
			}
		}
	})
}

// A values file and a --set of any kind are merged, or refused as bad input.
func FuzzUserValues(f *testing.F) {
	for _, seed := range [][2]string{
		{"a: b", "a=c"}, {"", "a[0].b=c"}, {"- a", "a={b,c}"}, {"a: {b: c}", "a.b.c=d"}, {"a: [b]", "a[70000]=c"}, {"a: &a [*a]", "=,="}, {"a: 1", `a\.b=c\,d`}, {"a: {}", "a[-1]=b"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, text, set string) {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		values, err := UserValues([]string{file}, []string{set})
		if err != nil && !errors.As(err, new(*gate.BadInput)) {
			t.Errorf("%q, %q: %v", text, set, err)
		}
		if err == nil && values == nil {
			t.Errorf("%q, %q: no values", text, set)
		}
	})
}

// A record of any content is a release, is not Istio's, or is named as one that
// cannot be decoded; the others are read.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{
		"", "garbage", "{}", "null", "7", base64.StdEncoding.EncodeToString([]byte("{}")), base64.StdEncoding.EncodeToString([]byte(`{"chart":{"metadata":{"name":"istiod"}}}`)),
		base64.StdEncoding.EncodeToString([]byte(`{"name":"cni","info":{"status":"deployed"},"chart":{"metadata":{"name":"cni","home":"https://istio.io"}},"config":null}`)),
		base64.StdEncoding.EncodeToString([]byte("\x1f\x8b\x08")),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := clusterOf(t, []stored{
			{"istio-system", "istiod", "istiod", istioHome, 1, common.StatusDeployed, nil},
			{"istio-system", "cni", "cni", istioHome, 1, common.StatusDeployed, nil},
		})
		secrets := c.Kube.CoreV1().Secrets("istio-system")
		record, err := secrets.Get(t.Context(), "sh.helm.release.v1.cni.v1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		record.Data["release"] = data
		if _, err := secrets.Update(t.Context(), record, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		found, broken, err := ReadReleases(t.Context(), c, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(found)+len(broken) > 2 || len(found) == 0 || found[len(found)-1].Name != "istiod" {
			t.Errorf("found %v, broken %v", found, broken)
		}
	})
}

// A file of any content that is called a chart archive is Istio's chart, or
// refused as bad input.
func FuzzArchive(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("\x1f\x8b\x08garbage"))
	f.Add(istiodArchive(f, "1.31.4"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "istiod.tgz")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		source, err := ParseSource(file)
		if err != nil {
			t.Fatal(err)
		}
		ch, err := source.Load(t.Context(), Istiod, "1.31.4")
		if err != nil && !errors.As(err, new(*gate.BadInput)) {
			t.Error(err)
		}
		if err == nil && (ch.Name == "" || ch.Component != Istiod) {
			t.Errorf("%+v", ch)
		}
	})
}
