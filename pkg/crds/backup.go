package crds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// inventory is which objects there are, by definition.
type inventory map[string]map[types.UID]string

func (i inventory) size() int {
	n := 0
	for _, objects := range i {
		n += len(objects)
	}
	return n
}

// backupFolder gives the folder for the backup of a run.
func (o Options) backupFolder(c *cluster.Cluster) (string, error) {
	if o.NoBackup {
		return "", nil
	}
	if o.BackupDir != "" {
		return filepath.Clean(o.BackupDir), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for the backup: %w; give one with --backup-dir", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	name := unsafe.ReplaceAllString(c.Context, "_") + "-" + o.now().UTC().Format("20060102T150405Z")
	return filepath.Join(state, "kubectl-istio-upgrade", "backups", name), nil
}

// unsafe is what of a context's name is not for file names.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9.@_-]+`)

// record reads every object of the definitions, and, where folder is not
// empty, writes them to it: one file a kind, in a form that `kubectl apply -f`
// restores. The folder has mode 0700, the files 0600; none is overwritten.
func record(ctx context.Context, c *cluster.Cluster, live []mesh.CRD, folder string) (inventory, error) {
	found := inventory{}
	if folder != "" {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder for the backup: %w", err)
		}
	}
	for _, crd := range live {
		objects := map[types.UID]string{}
		var out *backupFile
		if folder != "" {
			out = &backupFile{path: filepath.Join(folder, crd.Name+".yaml")}
		}
		err := eachObject(ctx, c, crd, func() error {
			clear(objects)
			return out.restart()
		}, func(object *unstructured.Unstructured) error {
			objects[object.GetUID()] = object.GetNamespace() + "/" + object.GetName()
			return out.add(object)
		})
		if err := errors.Join(err, out.close()); err != nil {
			return nil, fmt.Errorf("back up %s: %w", crd.Name, err)
		}
		found[crd.Name] = objects
	}
	return found, nil
}

// backupFile is one file of a backup, made with the first object; nil writes
// nothing.
type backupFile struct {
	path string
	file *os.File
	out  *bufio.Writer
}

func (b *backupFile) add(object *unstructured.Unstructured) error {
	if b == nil {
		return nil
	}
	if b.file == nil {
		file, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w; give an empty folder with --backup-dir", err)
		}
		if err != nil {
			return err
		}
		b.file, b.out = file, bufio.NewWriter(file)
	}
	text, err := yaml.Marshal(restorable(object).Object)
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", object.GetNamespace(), object.GetName(), err)
	}
	if _, err := b.out.WriteString("---\n" + string(text)); err != nil {
		return err
	}
	return nil
}

// restart drops what was written so far.
func (b *backupFile) restart() error {
	if b == nil || b.file == nil {
		return nil
	}
	b.out.Reset(b.file)
	if err := b.file.Truncate(0); err != nil {
		return err
	}
	_, err := b.file.Seek(0, 0)
	return err
}

// close makes sure that the file is on the disk.
func (b *backupFile) close() error {
	if b == nil || b.file == nil {
		return nil
	}
	return errors.Join(b.out.Flush(), b.file.Sync(), b.file.Close())
}

// restorable gives an object without what only the API server writes, so that
// it can be applied to a cluster where it is gone.
func restorable(object *unstructured.Unstructured) *unstructured.Unstructured {
	clean := object.DeepCopy()
	for _, name := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"} {
		unstructured.RemoveNestedField(clean.Object, "metadata", name)
	}
	unstructured.RemoveNestedField(clean.Object, "status")
	return clean
}
