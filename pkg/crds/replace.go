package crds

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// replace does the legacy procedure: the release istio-init is deleted, Jobs
// that bear the new chart's names go, and the new chart is installed under the
// same name. Its Jobs apply the definitions. A run that stopped in between goes
// on with the installation, and with the values that Helm's record still has.
func (r *run) replace(ctx context.Context) error {
	object := progress.Object{Kind: "release", Namespace: r.Release.Namespace, Name: r.Release.Name}
	if r.Action == Replace {
		if err := r.saveValues(); err != nil {
			return err
		}
		r.emit.Emit(progress.Event{Kind: progress.Started, Object: object, Message: "deleting " + r.Release.ChartFrom + "; the definitions stay"})
		if err := helm.Uninstall(ctx, r.c, *r.work.release, r.o.timeout()); err != nil {
			return err
		}
	}
	if err := removeJobs(ctx, r.c, r.Release.Namespace, r.work.jobs, r.o.timeout()); err != nil {
		return err
	}
	if err := r.ensureNamespace(ctx); err != nil {
		return err
	}
	r.emit.Emit(progress.Event{Kind: progress.Waiting, Object: object, Message: "installing " + r.Release.ChartTo + " and waiting for its Jobs"})
	_, err := helm.Install(ctx, r.c, r.Release.Namespace, r.Release.Name, r.work.chart, r.work.values, helm.ApplyOptions{
		ServerSide: "false", TakeOwnership: true, WaitForJobs: true, Replace: true, Timeout: r.o.timeout(),
		Description: "Installed for Istio " + r.Tag,
	})
	if err != nil {
		return fmt.Errorf("%w; see kubectl get jobs,pods --namespace %s, and run the same command again once the cause is gone", err, r.Release.Namespace)
	}
	r.emit.Emit(progress.Event{Kind: progress.Done, Object: object, Message: "is " + r.Release.ChartTo + ", its Jobs are complete"})
	return nil
}

// formerRelease gives the release of istio-init that a run of ours deleted last
// without having installed the new one; nil for none. What a user deleted with its
// history kept is not taken up.
func formerRelease(ctx context.Context, c *cluster.Cluster, istioNamespace string) (*helm.Release, error) {
	gone, err := helm.Uninstalled(ctx, c, "")
	if apierrors.IsForbidden(err) {
		gone, err = helm.Uninstalled(ctx, c, istioNamespace)
	}
	if err != nil {
		return nil, err
	}
	var last *helm.Release
	for i := range gone {
		r := &gone[i]
		if r.Component == helm.IstioInit && strings.HasPrefix(r.StoredBy, ownManager) && (last == nil || r.Updated.After(last.Updated)) {
			last = r
		}
	}
	return last, nil
}

// saveValues writes what the user set for the release into the backup, for
// people. The name's ending keeps kubectl apply -f from taking the file for an
// object.
func (r *run) saveValues() error {
	if r.Backup == "" || len(r.work.release.Values) == 0 {
		return nil
	}
	text, err := yaml.Marshal(r.work.release.Values)
	if err != nil {
		return fmt.Errorf("save the values of %s: %w", r.work.release, err)
	}
	if err := os.WriteFile(filepath.Join(r.Backup, r.Release.Name+".values"), text, 0o600); err != nil {
		return fmt.Errorf("save the values of %s: %w", r.work.release, err)
	}
	return nil
}

// ensureNamespace makes the namespace of a release that is not there yet.
func (r *run) ensureNamespace(ctx context.Context) error {
	_, err := r.c.Kube.CoreV1().Namespaces().Get(ctx, r.Release.Namespace, metav1.GetOptions{})
	if err == nil || !apierrors.IsNotFound(err) {
		return nil // no right to read it is no reason to stop: the installation tells
	}
	_, err = r.c.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Release.Namespace}},
		metav1.CreateOptions{FieldManager: r.o.fieldManager()})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", r.Release.Namespace, err)
	}
	return nil
}
