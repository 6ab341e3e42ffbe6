package sidecars

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
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
// 0600. Secrets are not written to a disk. It gives the file's path, "" where
// there is none.
func keep(folder string, object *unstructured.Unstructured) (string, error) {
	if object.GetKind() == "Secret" {
		return "", nil
	}
	text, err := yaml.Marshal(restorable(object).Object)
	if err != nil {
		return "", fmt.Errorf("back up %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	dir := filepath.Join(folder, object.GetNamespace())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for the backup: %w; give another with --backup-dir", err)
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
			return "", fmt.Errorf("back up %s %s: %w; give another folder with --backup-dir", object.GetKind(), object.GetName(), err)
		}
		_, err = file.Write(text)
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return "", fmt.Errorf("back up %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		return file.Name(), nil
	}
}

// keepRemade keeps the workloads that are written anew as they were, all of them
// before the first is written, and notes the files.
func keepRemade(folder string, moving []Item, emit progress.Emitter) error {
	var objects []kept
	for i := range moving {
		if r := moving[i].remake; r != nil && r.patch != nil {
			objects = append(objects, kept{r.before, &r.kept})
		}
	}
	return keepAll(folder, objects, emit)
}

// keepReplaced does the same for what is applied from files.
func keepReplaced(p *FilesPlan, emit progress.Emitter) error {
	var objects []kept
	for i := range p.Objects {
		if o := &p.Objects[i]; o.before != nil && o.Action != Unchanged && o.Held == "" {
			objects = append(objects, kept{o.before, &o.kept})
		}
	}
	return keepAll(p.BackupDir, objects, emit)
}

// kept is an object that goes into the backup, and where its file's path goes.
type kept struct {
	object *unstructured.Unstructured
	file   *string
}

func keepAll(folder string, objects []kept, emit progress.Emitter) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, k := range objects {
		group.Go(func() (err error) {
			*k.file, err = keep(folder, k.object)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("no workload was changed: %w", err)
	}
	objects = slices.DeleteFunc(objects, func(k kept) bool { return *k.file == "" })
	if len(objects) > 0 {
		emit.Emit(progress.Event{Kind: progress.Updated, Message: fmt.Sprintf("%d objects are saved in %s", len(objects), folder)})
	}
	return nil
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
