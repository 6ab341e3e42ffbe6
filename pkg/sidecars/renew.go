package sidecars

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// renew makes the new objects of all workloads injected by hand that lag: each
// is read, and those that share their settings go through one istioctl. What
// goes wrong holds the workloads that it concerns; the others go on. It writes
// nothing.
func (seen *observation) renew(ctx context.Context, a *asker, o *Options, subjects []*subject, plan *Plan) error {
	var lagging []*subject
	for _, s := range subjects {
		if s.item.How == Reinject {
			lagging = append(lagging, s)
		}
	}
	if len(lagging) == 0 {
		return nil
	}
	var err error
	if plan.BackupDir, err = backupFolder(o.ByHand.BackupDir, plan.Cluster.Context, o.now()); err != nil {
		return err
	}
	if err := readObjects(ctx, a, lagging); err != nil {
		return err
	}
	lagging = reinjecting(lagging)
	if o.ByHand.ToWebhook {
		seen.toWebhook(lagging)
	} else if err := seen.reinjectAll(ctx, a, o, subjects, lagging, plan); err != nil {
		return err
	}
	group, askCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for _, s := range lagging {
		if s.item.remake != nil && s.item.How != Nothing && !s.item.unwatched {
			group.Go(func() error { return a.askRemade(askCtx, s) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !slices.ContainsFunc(lagging, func(s *subject) bool { return s.item.How == Reinject || s.item.How == Webhook }) {
		plan.BackupDir = ""
	}
	seen.offerWebhook(o, lagging)
	for _, s := range lagging {
		if remake := s.item.remake; o.ByHand.Diff && s.item.How != Nothing && remake != nil && remake.after != nil {
			if s.item.Diff, err = a.diffOf(ctx, s); err != nil {
				return fmt.Errorf("compare %s: %w", s.Ref.In(), err)
			}
		}
	}
	return nil
}

// reinjecting gives the subjects that are still to be injected again.
func reinjecting(subjects []*subject) []*subject {
	return slices.DeleteFunc(slices.Clone(subjects), func(s *subject) bool { return s.item.How != Reinject })
}

// hold leaves the workloads as they are, with the reason.
func hold(subjects []*subject, reason string) {
	for _, s := range subjects {
		s.item.How, s.item.Held = Nothing, oneLine(reason)
		s.item.evict, s.item.unwatched, s.item.remake = false, false, nil
	}
}

// readObjects reads the live object of each subject. What cannot be read holds
// its own workload.
func readObjects(ctx context.Context, a *asker, subjects []*subject) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for _, s := range subjects {
		group.Go(func() error {
			resource, ok := resourceOf(s.Ref.Kind)
			if !ok {
				hold([]*subject{s}, "a "+s.Ref.Kind+" cannot be injected again")
				return nil
			}
			object, err := cluster.Reading(ctx, a.c, func(ctx context.Context) (*unstructured.Unstructured, error) {
				return a.c.Dynamic.Resource(resource).Namespace(s.Ref.Namespace).Get(ctx, s.Ref.Name, metav1.GetOptions{})
			})
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case apierrors.IsNotFound(err):
				hold([]*subject{s}, "it was deleted meanwhile")
			case err != nil:
				hold([]*subject{s}, "its object cannot be read: "+err.Error())
			default:
				s.item.remake = &remake{before: object}
			}
			return nil
		})
	}
	return group.Wait()
}
