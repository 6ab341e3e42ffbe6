package crds

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// run is one application of a plan.
type run struct {
	*Plan
	c    *cluster.Cluster
	o    Options
	emit progress.Emitter
	// live are the definitions as they are now.
	live []mesh.CRD
}

// Apply does what the plan says: backup first, then the definitions, then a
// check that all are established, with the same UIDs and no object lost. A plan
// with refusals that are not forced gives a *gate.Error and changes nothing;
// what makes no progress within the timeout gives a *gate.Timeout. After any
// other error the same step can be run again and goes on.
func Apply(ctx context.Context, c *cluster.Cluster, p *Plan, o Options, emit progress.Emitter) (*Result, error) {
	if err := gate.Check(Step, p.Refusals, o.Force); err != nil {
		return nil, err
	}
	result := &Result{Action: p.Action, Written: []string{}}
	for _, count := range p.Objects {
		result.Objects += count.Objects
	}
	if !p.Writes() || o.DryRun == DryRunClient {
		return result, nil
	}
	emit.Step = Step
	r := &run{Plan: p, c: c, o: o, emit: emit}
	emit.Emit(progress.Event{Kind: progress.StepStarted, Message: r.headline(), Total: len(r.Changing())})
	var err error
	if r.live, err = mesh.ReadCRDs(ctx, c); err != nil {
		return nil, err
	}
	if o.DryRun == DryRunServer {
		return result, r.ask(ctx)
	}
	before, err := r.backUp(ctx)
	if err != nil {
		return nil, err
	}
	result.Backup, result.Objects = p.Backup, before.size()
	if err := r.write(ctx); err != nil {
		return result, err
	}
	gone, err := r.verify(ctx, before)
	if err != nil {
		return result, err
	}
	result.Written = r.Changing()
	emit.Emit(progress.Event{
		Kind: progress.StepFinished, Finished: len(result.Written), Total: len(result.Written),
		Message: fmt.Sprintf("%d definitions are of Istio %s; %d objects as before", len(p.work.targets), p.Brings(), result.Objects-gone),
	})
	return result, nil
}

// headline says in one line what begins.
func (p *Plan) headline() string {
	switch p.Action {
	case Upgrade:
		return fmt.Sprintf("upgrade release %s in %s from %s to %s", p.Release.Name, p.Release.Namespace, p.Release.ChartFrom, p.Release.ChartTo)
	case Replace:
		return fmt.Sprintf("replace release %s in %s by %s", p.Release.Name, p.Release.Namespace, p.Release.ChartTo)
	case Install:
		return fmt.Sprintf("install %s as release %s in %s", p.Release.ChartTo, p.Release.Name, p.Release.Namespace)
	default:
		return fmt.Sprintf("apply the definitions of Istio %s", p.Brings())
	}
}

// Changing names the definitions that the plan changes.
func (p *Plan) Changing() []string {
	names := []string{}
	for _, change := range p.CRDs {
		if change.writes() {
			names = append(names, change.Name)
		}
	}
	return names
}

// backUp writes the custom resources to the backup, or only counts them.
func (r *run) backUp(ctx context.Context) (inventory, error) {
	before, err := record(ctx, r.c, r.live, r.Backup)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	if r.Backup != "" {
		r.emit.Emit(progress.Event{
			Kind: progress.Updated, Message: fmt.Sprintf("%d objects are saved in %s", before.size(), r.Backup),
		})
	}
	return before, nil
}

// unchanged looks whether the release is as it was planned for: what somebody
// else set meanwhile would be lost, and what the upgrade deletes was judged by
// another manifest.
func (r *run) unchanged(ctx context.Context) error {
	if r.Release == nil {
		return nil
	}
	now, err := helm.Last(ctx, r.c, r.Release.Namespace, r.Release.Name)
	if apierrors.IsNotFound(err) || err == nil && now.Uninstalled() && r.work.former == nil {
		now, err = helm.Release{}, nil
	}
	if err != nil {
		return err
	}
	return movedOn(r.Release, r.work.planned(), now)
}

// planned is the newest revision that the plan was made of.
func (w *work) planned() helm.Release {
	switch {
	case w.release != nil:
		return *w.release
	case w.former != nil:
		return *w.former
	}
	return helm.Release{}
}

// movedOn gives a *gate.Stopped where a release is not at the revision and in the
// state that the plan was made for; no revision at all is 0.
func movedOn(release *ReleaseChange, planned, now helm.Release) error {
	if now.Revision == planned.Revision && now.Status == planned.Status {
		return nil
	}
	words := func(r helm.Release) string {
		if r.Revision == 0 {
			return "not there"
		}
		return fmt.Sprintf("at revision %d (%s)", r.Revision, r.Status)
	}
	return &gate.Stopped{Reason: fmt.Sprintf("release %s in %s is %s now, and was %s in the plan: somebody works on it; nothing was changed; run the command again",
		release.Name, release.Namespace, words(now), words(planned))}
}

// write does the plan's action.
func (r *run) write(ctx context.Context) error {
	if err := r.unchanged(ctx); err != nil {
		return err
	}
	if release := r.work.release; release != nil && release.Pending() {
		if err := helm.MarkFailed(ctx, r.c, *release, "Stopped before it was done", 0); err != nil {
			return err
		}
	}
	switch r.Action {
	case Replace, Install:
		return r.replace(ctx)
	case Upgrade:
		return r.upgrade(ctx)
	default:
		return r.apply(ctx)
	}
}

// upgrade upgrades the release of the chart base. Definitions of a crds folder
// come first, under Helm's own name, because Helm does not upgrade those.
func (r *run) upgrade(ctx context.Context) error {
	if !r.work.inTemplates {
		if err := r.apply(ctx); err != nil {
			return err
		}
		if r.work.same {
			return nil
		}
	} else if err := r.prepareAll(ctx); err != nil {
		return err
	}
	object := progress.Object{Kind: "release", Namespace: r.Release.Namespace, Name: r.Release.Name}
	r.emit.Emit(progress.Event{Kind: progress.Started, Object: object, Message: r.headline()})
	_, err := helm.Upgrade(ctx, r.c, *r.work.release, r.work.chart, r.work.values, helm.ApplyOptions{
		ServerSide: "true", ForceConflicts: true, Timeout: r.o.timeout(), Adjust: keepWebhooks,
		Description: "Upgraded to Istio " + r.Brings(),
	})
	if err != nil {
		return fmt.Errorf("%w; run the same command again once the cause is gone", err)
	}
	r.emit.Emit(progress.Event{Kind: progress.Done, Object: object, Message: "is " + r.Release.ChartTo})
	return nil
}

// prepareAll makes the live definitions ready for Helm to write.
func (r *run) prepareAll(ctx context.Context) error {
	for _, change := range r.CRDs {
		at := slices.IndexFunc(r.live, func(crd mesh.CRD) bool { return crd.Name == change.Name })
		if at < 0 || change.Action == Orphaned {
			continue
		}
		adopt := change.AdoptedFrom != ""
		patch, err := prepare(r.live[at], r.work.release, adopt, true, false)
		if err != nil {
			return err
		}
		if patch == nil {
			continue
		}
		if err := patchCRD(ctx, r.c, r.live[at], patch, helmManager); err != nil {
			return err
		}
		if adopt {
			r.emit.Emit(progress.Event{
				Kind: progress.Updated, Object: crdObject(change.Name),
				Message: fmt.Sprintf("adopted by release %s from %s", r.Release.Name, change.AdoptedFrom),
			})
		}
	}
	return nil
}

// apply writes the definitions that differ by server-side apply.
func (r *run) apply(ctx context.Context) error {
	names := r.Changing()
	done := 0
	for _, t := range r.work.targets {
		if !slices.Contains(names, t.Name) {
			continue
		}
		if at := slices.IndexFunc(r.live, func(crd mesh.CRD) bool { return crd.Name == t.Name }); at >= 0 {
			patch, err := prepare(r.live[at], r.work.release, false, false, r.work.release == nil && slices.Contains(r.work.stale, t.Name))
			if err != nil {
				return err
			}
			if patch != nil {
				if err := patchCRD(ctx, r.c, r.live[at], patch, r.work.manager); err != nil {
					return err
				}
			}
		}
		if err := applyCRD(ctx, r.c, t, r.work.manager, false); err != nil {
			return err
		}
		done++
		r.emit.Emit(progress.Event{Kind: progress.Done, Object: crdObject(t.Name), Message: "applied", Finished: done, Total: len(names)})
	}
	return nil
}

// ask has the API server judge the definitions without storing them.
func (r *run) ask(ctx context.Context) error {
	names, manager := r.Changing(), r.work.manager
	if manager == "" {
		r.emit.Emit(progress.Event{Kind: progress.Skipped, Message: "what the Jobs of istio-init would apply cannot be tried beforehand"})
		return nil
	}
	for i, t := range r.work.targets {
		if !slices.Contains(names, t.Name) {
			continue
		}
		if err := applyCRD(ctx, r.c, t, manager, true); err != nil {
			return err
		}
		r.emit.Emit(progress.Event{Kind: progress.Done, Object: crdObject(t.Name), Message: "would be accepted", Finished: i + 1, Total: len(r.work.targets)})
	}
	return nil
}

func crdObject(name string) progress.Object {
	return progress.Object{Kind: "customresourcedefinition", Name: name}
}
