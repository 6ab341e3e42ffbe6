package crds

import (
	"errors"
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
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

func stored(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{
			"name": name, "namespace": "shop", "uid": "uid-" + name, "resourceVersion": "7", "generation": int64(3),
			"creationTimestamp": "2026-01-01T00:00:00Z", "labels": map[string]any{"team": "a"},
			"managedFields":   []any{map[string]any{"manager": "kubectl"}},
			"ownerReferences": []any{map[string]any{"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "podinfo", "uid": "7"}},
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
	if !strings.Contains(string(text), "# Left out: the owner reference to Canary podinfo") {
		t.Errorf("the owner is not told:\n%s", text)
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

// TestBackupThatFails leaves nothing in the way of the next run, which the user
// starts by the same command.
func TestBackupThatFails(t *testing.T) {
	c, client := clusterWith()
	away, call := true, 0
	client.PrependReactor("list", "virtualservices", func(clienttesting.Action) (bool, runtime.Object, error) {
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "VirtualServiceList"}}
		list.Items = []unstructured.Unstructured{*stored("a")}
		list.SetContinue("token")
		if call++; call%2 == 1 { // the first of two pages
			return true, list, nil
		}
		if away {
			return true, nil, apierrors.NewInternalError(errors.New("etcd is away"))
		}
		list.Items[0].SetName("b")
		list.SetContinue("")
		return true, list, nil
	})
	live := []mesh.CRD{crd(t, definition(version("v1", true, hosts)))}
	o := Options{BackupDir: filepath.Join(t.TempDir(), "before"), Now: time.Now}
	for _, away = range []bool{true, false} {
		folder, err := o.backupFolder(c)
		if err != nil || folder != o.BackupDir {
			t.Fatal(folder, err)
		}
		if _, err := record(t.Context(), c, live, folder); (err != nil) != away {
			t.Errorf("away %v: %v", away, err)
		}
	}
}

func TestBackupFolder(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	c, _ := clusterWith()
	empty, used := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(used, "20261125T010203Z"), 0o700); err != nil {
		t.Fatal(err)
	}
	at := func() time.Time { return time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC) }
	for _, o := range []struct {
		options Options
		want    string
	}{
		{Options{Now: at}, filepath.Join(state, "kubectl-istio-upgrade", "backups", "arn_aws_eks_prod-20261125T010203Z")},
		{Options{BackupDir: "some/where/"}, filepath.Join("some", "where")},
		{Options{BackupDir: empty, Now: at}, empty},
		{Options{BackupDir: used, Now: at}, filepath.Join(used, "20261125T010203Z-2")},
		{Options{NoBackup: true}, ""},
	} {
		if got, err := o.options.backupFolder(c); err != nil || got != o.want {
			t.Errorf("got %q, %v, want %q", got, err, o.want)
		}
	}
}

// TestDeletedByUpgrade tells what an upgrade deletes from what others do.
func TestDeletedByUpgrade(t *testing.T) {
	live := []mesh.CRD{crd(t, definition(version("v1", true, hosts)))}
	lost := []string{"istio-system/ours (virtualservices.networking.istio.io)", "shop/ours (virtualservices.networking.istio.io)"}
	ours := parse(t, "{apiVersion: networking.istio.io/v1alpha3, kind: VirtualService, metadata: {name: ours}}")
	other := parse(t, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: ours, namespace: shop}}")
	got := deletedByUpgrade(lost, []*unstructured.Unstructured{ours, other}, live, &ReleaseChange{Namespace: "istio-system"})
	if diff := cmp.Diff(lost[:1], got); diff != "" {
		t.Error(diff)
	}
	if got := deletedByUpgrade(lost, nil, live, nil); len(got) != 0 {
		t.Error(got)
	}
}

// TestMovedOn compares the release with what was planned.
func TestMovedOn(t *testing.T) {
	change := &ReleaseChange{Name: "istio-base", Namespace: "istio-system"}
	at := func(revision int, status string) helm.Release {
		return helm.Release{Revision: revision, Status: status}
	}
	for _, c := range []struct {
		planned, now helm.Release
		want         string
	}{
		{at(1, "deployed"), at(1, "deployed"), ""},
		{helm.Release{}, helm.Release{}, ""},
		{at(1, "deployed"), at(2, "deployed"), "is at revision 2 (deployed) now, and was at revision 1 (deployed)"},
		{at(1, "deployed"), at(2, "pending-upgrade"), "is at revision 2 (pending-upgrade) now"},
		{at(1, "deployed"), at(1, "uninstalled"), "is at revision 1 (uninstalled) now"},
		{at(1, "deployed"), helm.Release{}, "is not there now"},
		{helm.Release{}, at(1, "deployed"), "and was not there in the plan"},
	} {
		err := movedOn(change, c.planned, c.now)
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, new(*gate.Stopped)) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v, now %+v: %v", c.planned, c.now, err)
		}
	}
}

func TestMissing(t *testing.T) {
	before, after := inventory{"a": {}, "b": {}}, inventory{"a": {}}
	for i := range 3 {
		uid := types.UID(fmt.Sprint(i))
		before["a"][uid], after["a"][uid] = "shop/"+string(uid), "shop/"+string(uid)
	}
	if got := missing(before, after); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	before["b"]["9"] = "/cluster-wide"
	delete(after["a"], "1")
	before["a"]["5"], after["a"]["6"] = "shop/anew", "shop/anew" // deleted and made again by others
	if diff := cmp.Diff([]string{"cluster-wide (b)", "shop/1 (a)"}, missing(before, after)); diff != "" {
		t.Error(diff)
	}
}
