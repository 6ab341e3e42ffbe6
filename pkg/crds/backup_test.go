package crds

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

func stored(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{
			"name": name, "namespace": "shop", "uid": "uid-" + name, "resourceVersion": "7", "generation": int64(3),
			"creationTimestamp": "2026-01-01T00:00:00Z", "labels": map[string]any{"team": "a"},
			"managedFields": []any{map[string]any{"manager": "kubectl"}},
		},
		"spec": map[string]any{"hosts": []any{name}}, "status": map[string]any{"validationMessages": []any{}},
	}}
}

func clusterWith(objects ...runtime.Object) (*cluster.Cluster, *dynamicfake.FakeDynamicClient) {
	resource := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{resource: "VirtualServiceList"}, objects...)
	return &cluster.Cluster{Dynamic: client, Context: "arn:aws:eks/prod"}, client
}

func TestBackup(t *testing.T) {
	c, _ := clusterWith(stored("a"), stored("b"))
	live := []mesh.CRD{crd(t, definition(version("v1", true, hosts)))}
	folder := filepath.Join(t.TempDir(), "new", "backup")
	found, err := record(t.Context(), c, live, folder)
	if err != nil {
		t.Fatal(err)
	}
	want := inventory{live[0].Name: {"uid-a": "shop/a", "uid-b": "shop/b"}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
	path := filepath.Join(folder, "virtualservices.networking.istio.io.yaml")
	for name, mode := range map[string]fs.FileMode{folder: 0o700, path: 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := helm.ParseManifest(string(text))
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"name": "a", "namespace": "shop", "labels": map[string]any{"team": "a"}},
		"spec":     map[string]any{"hosts": []any{"a"}},
	}
	if len(objects) != 2 {
		t.Fatalf("%d objects", len(objects))
	}
	if diff := cmp.Diff(wanted, objects[0].Object); diff != "" {
		t.Error(diff)
	}
	if _, err := record(t.Context(), c, live, folder); err == nil {
		t.Error("a backup was overwritten")
	}
}

// TestExpiredToken reads a list whose continue token expires between two pages:
// all of it comes again, and none twice.
func TestExpiredToken(t *testing.T) {
	c, client := clusterWith()
	call := 0
	client.PrependReactor("list", "virtualservices", func(clienttesting.Action) (bool, runtime.Object, error) {
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "VirtualServiceList"}}
		call++
		switch call {
		case 1:
			list.Items = []unstructured.Unstructured{*stored("a")}
			list.SetContinue("token")
		case 2:
			return true, nil, apierrors.NewResourceExpired("too old")
		default:
			list.Items = []unstructured.Unstructured{*stored("a"), *stored("b")}
		}
		return true, list, nil
	})
	live := []mesh.CRD{crd(t, definition(version("v1", true, hosts)))}
	folder := t.TempDir()
	found, err := record(t.Context(), c, live, folder)
	if err != nil || found.size() != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	text, err := os.ReadFile(filepath.Join(folder, live[0].Name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "kind: VirtualService"); n != 2 {
		t.Errorf("%d objects in the backup", n)
	}
}

func TestBackupFolder(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	c, _ := clusterWith()
	at := func() time.Time { return time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC) }
	for _, o := range []struct {
		options Options
		want    string
	}{
		{Options{Now: at}, filepath.Join(state, "kubectl-istio-upgrade", "backups", "arn_aws_eks_prod-20261125T010203Z")},
		{Options{BackupDir: "some/where/"}, filepath.Join("some", "where")},
		{Options{NoBackup: true}, ""},
	} {
		if got, err := o.options.backupFolder(c); err != nil || got != o.want {
			t.Errorf("got %q, %v, want %q", got, err, o.want)
		}
	}
}

func TestMissing(t *testing.T) {
	before, after := inventory{"a": {}, "b": {}}, inventory{"a": {}}
	for i := range 3 {
		uid := types.UID(fmt.Sprint(i))
		before["a"][uid], after["a"][uid] = "shop/x", "shop/x"
	}
	if got := missing(before, after); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	before["b"]["9"] = "/cluster-wide"
	delete(after["a"], "1")
	if diff := cmp.Diff([]string{"cluster-wide (b)", "shop/x (a)"}, missing(before, after)); diff != "" {
		t.Error(diff)
	}
}
