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
	"strings"

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

// backupFolder gives the folder for the backup of a run: the one that was asked
// for, or a new one in it where it holds something already, so that the same
// command can be run again.
func (o Options) backupFolder(c *cluster.Cluster) (string, error) {
	if o.NoBackup {
		return "", nil
	}
	if o.BackupDir != "" {
		dir := filepath.Clean(o.BackupDir)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
			return dir, nil // where it cannot be read, writing to it tells why
		}
		return newFolder(dir, o.now().UTC().Format(stamp)), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for the backup: %w; give one with --backup-dir", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	name := unsafe.ReplaceAllString(c.Context, "_") + "-" + o.now().UTC().Format(stamp)
	return newFolder(filepath.Join(state, "kubectl-istio-upgrade", "backups"), name), nil
}

// stamp is the form of times in the names of folders.
const stamp = "20060102T150405Z"

// newFolder gives the path of a folder of the name that is not there yet; where
// two runs begin in the same second, the second has a number.
func newFolder(dir, name string) string {
	path := filepath.Join(dir, name)
	for i := 2; ; i++ {
		if _, err := os.Lstat(path); err != nil {
			return path
		}
		path = filepath.Join(dir, fmt.Sprintf("%s-%d", name, i))
	}
}

// unsafe is what of a context's name is not for file names.
var unsafe = regexp.MustCompile(`[^A-Za-z0-9.@_-]+`)

// record reads every object of the definitions, and, where folder is not
// empty, writes them to it: one file a kind, in a form that `kubectl apply -f`
// restores. The folder has mode 0700, the files 0600; none is overwritten. What a
// run wrote that failed, or was killed, is not taken for a whole file.
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
		if err := out.close(err); err != nil {
			return nil, fmt.Errorf("back up %s: %w", crd.Name, err)
		}
		found[crd.Name] = objects
	}
	return found, nil
}

// partial ends the name of a file that is being written: kubectl apply -f reads
// none of that name.
const partial = ".partial"

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
		if _, err := os.Lstat(b.path); err == nil {
			return fmt.Errorf("%s: %w", b.path, fs.ErrExist)
		}
		file, err := os.OpenFile(b.path+partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		b.file, b.out = file, bufio.NewWriter(file)
	}
	text, err := yaml.Marshal(restorable(object).Object)
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", object.GetNamespace(), object.GetName(), err)
	}
	if _, err := b.out.WriteString("---\n" + ownersNote(object) + string(text)); err != nil {
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

// close makes sure that the file is on the disk, under its name; after a failure
// it is removed.
func (b *backupFile) close(failed error) error {
	if b == nil || b.file == nil {
		return failed
	}
	err := errors.Join(failed, b.out.Flush(), b.file.Sync(), b.file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(b.file.Name()))
	}
	return os.Rename(b.file.Name(), b.path)
}

// ownersNote is a comment that names the owners which restorable leaves out.
func ownersNote(object *unstructured.Unstructured) string {
	var note strings.Builder
	for _, owner := range object.GetOwnerReferences() {
		fmt.Fprintf(&note, "# Left out: the owner reference to %s %s, without whose UID of today the object would be deleted again.\n", owner.Kind, owner.Name)
	}
	return note.String()
}

// restorable gives an object without what only the API server writes, so that it
// can be applied to a cluster where it is gone. References to owners go too: one
// to an owner that was made anew, under another UID, has the object deleted at
// once (kubernetes pkg/controller/garbagecollector).
func restorable(object *unstructured.Unstructured) *unstructured.Unstructured {
	clean := object.DeepCopy()
	for _, name := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"} {
		unstructured.RemoveNestedField(clean.Object, "metadata", name)
	}
	unstructured.RemoveNestedField(clean.Object, "status")
	return clean
}
