package helm

import (
	"context"
	"fmt"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// ApplyOptions say how a revision is written.
type ApplyOptions struct {
	// ServerSide is auto (as the revision before was written), true or false;
	// empty means auto for an upgrade and true for an installation.
	ServerSide string
	// ForceConflicts takes fields from other managers; server-side only.
	ForceConflicts bool
	// TakeOwnership adopts objects that exist without Helm's marks.
	TakeOwnership bool
	// WaitForJobs waits for the release's objects and Jobs as Helm does; hooks
	// are always waited for.
	WaitForJobs bool
	// Timeout bounds Helm's own waiting; zero means ten minutes.
	Timeout     time.Duration
	Description string
	// Replace installs under the name of a release that was uninstalled and whose
	// records are kept; installations only.
	Replace bool
	// KeepHistory removes no older revision, however many there are: one of them
	// is gone back to later.
	KeepHistory bool
	// Adjust has a say in what is written; may be nil.
	Adjust Adjust
}

func (o ApplyOptions) timeout() time.Duration {
	if o.Timeout <= 0 {
		return 10 * time.Minute
	}
	return o.Timeout
}

func (o ApplyOptions) wait() kube.WaitStrategy {
	if o.WaitForJobs {
		return kube.StatusWatcherStrategy
	}
	return kube.HookOnlyStrategy
}

// Upgrade writes a new revision of a release: exactly these values, on the
// chart's own defaults. It does not wait for pods. Once Helm writes, ctx's end
// does not cut it off half-way: only its waiting ends. The new revision is given
// back, also with an error where one was stored, which then bears the status
// failed.
func Upgrade(ctx context.Context, c *cluster.Cluster, rel Release, ch *Chart, values map[string]any, o ApplyOptions) (Release, error) {
	if err := ctx.Err(); err != nil {
		return Release{}, err
	}
	config, err := configuration(context.WithoutCancel(ctx), c, rel.Namespace, o.Adjust)
	if err != nil {
		return Release{}, err
	}
	loaded, err := ch.load()
	if err != nil {
		return Release{}, fmt.Errorf("load the chart %s: %w", ch, err)
	}
	up := action.NewUpgrade(config)
	up.Namespace, up.ResetValues, up.Description = rel.Namespace, true, o.Description
	up.Timeout, up.WaitStrategy, up.WaitForJobs = o.timeout(), o.wait(), o.WaitForJobs
	up.WaitOptions = []kube.WaitOption{kube.WithWaitContext(ctx)}
	up.ForceConflicts, up.TakeOwnership = o.ForceConflicts, o.TakeOwnership
	if up.MaxHistory = maxHistory(); o.KeepHistory {
		up.MaxHistory = 0
	}
	if o.ServerSide != "" {
		up.ServerSideApply = o.ServerSide
	}
	stored, err := up.RunWithContext(context.WithoutCancel(ctx), rel.Name, loaded, copyValues(values))
	return outcome(stored, err, "upgrade "+rel.String())
}

// Install makes a new release under the given name and namespace, as Upgrade
// does an existing one.
func Install(ctx context.Context, c *cluster.Cluster, namespace, name string, ch *Chart, values map[string]any, o ApplyOptions) (Release, error) {
	if err := ctx.Err(); err != nil {
		return Release{}, err
	}
	config, err := configuration(context.WithoutCancel(ctx), c, namespace, o.Adjust)
	if err != nil {
		return Release{}, err
	}
	loaded, err := ch.load()
	if err != nil {
		return Release{}, fmt.Errorf("load the chart %s: %w", ch, err)
	}
	in := action.NewInstall(config)
	in.ReleaseName, in.Namespace, in.Description = name, namespace, o.Description
	in.Timeout, in.WaitStrategy, in.WaitForJobs = o.timeout(), o.wait(), o.WaitForJobs
	in.WaitOptions = []kube.WaitOption{kube.WithWaitContext(ctx)}
	in.ServerSideApply = o.ServerSide != "false"
	in.ForceConflicts, in.TakeOwnership, in.Replace = o.ForceConflicts, o.TakeOwnership, o.Replace
	stored, err := in.RunWithContext(context.WithoutCancel(ctx), loaded, copyValues(values))
	return outcome(stored, err, fmt.Sprintf("install release %s in %s", name, namespace))
}

// Uninstall deletes a release with its objects. Its records stay, with the status
// uninstalled: the values are in them. What bears helm.sh/resource-policy: keep
// stays, and so do the definitions that came from a chart's crds folder.
func Uninstall(ctx context.Context, c *cluster.Cluster, rel Release, timeout time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	config, err := configuration(context.WithoutCancel(ctx), c, rel.Namespace, nil)
	if err != nil {
		return err
	}
	out := action.NewUninstall(config)
	out.Timeout, out.WaitStrategy = ApplyOptions{Timeout: timeout}.timeout(), kube.StatusWatcherStrategy
	out.WaitOptions = []kube.WaitOption{kube.WithWaitContext(ctx)}
	out.DeletionPropagation, out.KeepHistory = "background", true
	if _, err := out.Run(rel.Name); err != nil {
		return fmt.Errorf("uninstall %s: %w", rel, err)
	}
	return nil
}

// Rollback writes a new revision that is a copy of an older one. It does not
// wait for pods.
func Rollback(ctx context.Context, c *cluster.Cluster, rel Release, to int, o ApplyOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	config, err := configuration(context.WithoutCancel(ctx), c, rel.Namespace, o.Adjust)
	if err != nil {
		return err
	}
	back := action.NewRollback(config)
	back.Version, back.Description = to, o.Description
	back.Timeout, back.WaitStrategy, back.WaitForJobs = o.timeout(), o.wait(), o.WaitForJobs
	back.WaitOptions = []kube.WaitOption{kube.WithWaitContext(ctx)}
	back.ForceConflicts, back.MaxHistory = o.ForceConflicts, maxHistory()
	if o.ServerSide != "" {
		back.ServerSideApply = o.ServerSide
	}
	if err := back.Run(rel.Name); err != nil {
		return fmt.Errorf("roll %s back to revision %d: %w", rel, to, err)
	}
	return nil
}

// MarkFailed gives a stored revision the status failed, with the reason: one
// whose pods did not come up, or one that a killed run left pending. Good, where
// it is not zero, is the revision that was in force before and is so again, as
// Helm leaves it when its own waiting fails: else the next upgrade would take
// the failed one for a good one.
func MarkFailed(ctx context.Context, c *cluster.Cluster, rel Release, reason string, good int) error {
	config, err := configuration(context.WithoutCancel(ctx), c, rel.Namespace, nil)
	if err != nil {
		return err
	}
	if err := setStatus(config, rel, rel.Revision, common.StatusFailed, reason); err != nil || good == 0 {
		return err
	}
	return setStatus(config, rel, good, common.StatusDeployed, "")
}

// setStatus changes a stored revision's status, and its description where one
// is given.
func setStatus(config *action.Configuration, rel Release, revision int, status common.Status, description string) error {
	found, err := config.Releases.Get(rel.Name, revision)
	if err != nil {
		return fmt.Errorf("read revision %d of %s: %w", revision, rel, err)
	}
	stored, ok := found.(*releasev1.Release)
	if !ok {
		return fmt.Errorf("read revision %d of %s: unknown form %T", revision, rel, found)
	}
	if description == "" {
		description = stored.Info.Description
	}
	stored.SetStatus(status, description)
	if err := config.Releases.Update(stored); err != nil {
		return fmt.Errorf("mark revision %d of %s as %s: %w", revision, rel, status, err)
	}
	return nil
}

// outcome takes over the revision that Helm stored.
func outcome(stored release.Releaser, err error, doing string) (Release, error) {
	var r Release
	if v1, ok := stored.(*releasev1.Release); ok && v1 != nil {
		r, _ = fromHelm(v1)
	}
	if err != nil {
		if !r.Failed() { // refused before it was stored
			r = Release{}
		}
		return r, fmt.Errorf("%s: %w", doing, err)
	}
	return r, nil
}
