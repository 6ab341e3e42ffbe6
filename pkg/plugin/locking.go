package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/lock"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// newLocks gives an empty set of locks for a run, and the context of the work
// under them.
func (c *changeFlags) newLocks(ctx context.Context, to *cluster.Cluster) (context.Context, *lock.Set) {
	work, set := lock.New(ctx, to.Kube, lock.Options{Holder: holder(to.User), TakeOver: c.takeOver, Now: time.Now, Persist: to.Persist})
	to.Guard(set.Held)
	return work, set
}

// underLock gives the action whose application holds the action's locks: those
// of the whole run, where it has any, or else until the application has ended.
func (c *changeFlags) underLock(a action) action {
	if len(a.locks) == 0 {
		return a
	}
	apply := a.apply
	a.apply = func(ctx context.Context, emit progress.Emitter) (any, error) {
		set := c.locks
		if set == nil {
			ctx, set = c.newLocks(ctx, a.cluster)
			defer set.Release(ctx)
		}
		if err := set.Acquire(ctx, emit, a.locks); err != nil {
			return nil, err
		}
		result, err := apply(ctx, emit)
		return result, withLoss(ctx, err)
	}
	return a
}

// withLoss gives the error of a run together with the loss of its lock, where
// that is what ended it.
func withLoss(ctx context.Context, err error) error {
	var lost *gate.Stopped
	if err == nil || !errors.As(context.Cause(ctx), &lost) || errors.As(err, new(*gate.Stopped)) {
		return err
	}
	return fmt.Errorf("%w; %w", lost, err)
}

// movingLocks are the locks for a plan of workloads. Those that are only
// watched need none.
func movingLocks(plan *sidecars.Plan) []lock.Key {
	var namespaces []string
	for _, item := range plan.Moving() {
		if item.How != sidecars.Watch {
			namespaces = append(namespaces, item.Namespace)
		}
	}
	return lock.Workloads(namespaces...)
}

// fileLocks are the locks for a plan of manifests.
func fileLocks(plan *sidecars.FilesPlan) []lock.Key {
	var namespaces []string
	for i := range plan.Objects {
		if o := &plan.Objects[i]; o.Held == "" && o.Action != sidecars.Unchanged {
			namespaces = append(namespaces, o.Namespace)
		}
	}
	return lock.Workloads(namespaces...)
}

// holder names this run to others: who, on which machine, in which process.
func holder(kubeUser string) string {
	name := kubeUser
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s@%s pid %d", name, host, os.Getpid())
}
