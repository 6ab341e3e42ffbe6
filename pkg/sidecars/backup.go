package sidecars

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// backupFolder gives the folder for the objects as they were before this run
// writes them: dir where it is given, else a new one below the user's state
// folder, named by context and time.
func backupFolder(dir, kubeContext string, now time.Time) (string, error) {
	if dir != "" {
		return filepath.Clean(dir), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for the backup: %w; give one with --backup-dir", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	name := notForFiles.ReplaceAllString(kubeContext, "_") + "-" + now.UTC().Format("20060102T150405Z") + "-sidecars"
	return filepath.Join(state, "kubectl-istio-upgrade", "backups", name), nil
}

// notForFiles is what of a context's name does not go into file names.
var notForFiles = regexp.MustCompile(`[^A-Za-z0-9.@_-]+`)

// keep writes an object to a file of its own below folder, NAMESPACE/KIND-NAME.yaml,
// in a form that kubectl apply and kubectl replace take. Files of earlier runs
// are never overwritten: the name gets a number. Folders have mode 0700, files
// 0600.
func keep(folder string, object *unstructured.Unstructured) error {
	text, err := yaml.Marshal(restorable(object).Object)
	if err != nil {
		return fmt.Errorf("back up %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	dir := filepath.Join(folder, object.GetNamespace())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for the backup: %w; give another with --backup-dir", err)
	}
	base := strings.ToLower(object.GetKind()) + "-" + object.GetName()
	for n := 1; ; n++ {
		name := base + ".yaml"
		if n > 1 {
			name = fmt.Sprintf("%s.%d.yaml", base, n)
		}
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("back up %s %s: %w; give another folder with --backup-dir", object.GetKind(), object.GetName(), err)
		}
		_, err = file.Write(text)
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("back up %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		return nil
	}
}

// restorable gives an object without what only the API server writes.
func restorable(object *unstructured.Unstructured) *unstructured.Unstructured {
	clean := object.DeepCopy()
	for _, name := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"} {
		unstructured.RemoveNestedField(clean.Object, "metadata", name)
	}
	unstructured.RemoveNestedField(clean.Object, "status")
	return clean
}
