package sidecars

import (
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Secrets are never written to a disk, other objects are.
func TestBackupHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, kind := range []string{"Secret", "ConfigMap"} {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": "db", "namespace": "shop"}, "data": map[string]any{"password": "aHVudGVyMg=="},
		}}
		if _, err := keep(dir, object); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 || files[0].Name() != "configmap-db.yaml" {
		t.Errorf("the backup holds %v", files)
	}
}
