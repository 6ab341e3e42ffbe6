package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

const allExample = `  # What all three steps would do, and nothing more
  kubectl istio-upgrade all --tag 1.31.0 -A --dry-run

  # The whole upgrade, one workload first
  kubectl istio-upgrade all --tag 1.31.0 -A --canary 1 --soak 2m`

type allOptions struct {
	*session
	changeFlags
	targetFlags
	crdsFlags
	controlPlaneFlags
	workloadFlags
}

func newAllCommand(s *session) *cobra.Command {
	o := &allOptions{session: s}
	cmd := &cobra.Command{
		Use:   "all --tag TAG",
		Short: "Run the three steps, each gated by the one before",
		Long: `Run the three steps, each gated by the one before.

Brings the CustomResourceDefinitions, the control plane and the workloads of a
namespace (or of all, with -A) to the target tag. The plans of all steps are made
and checked before the first write; each step is verified before the next begins;
run again, it goes on where it stopped.

` + watchHelp,
		Example: allExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	o.changeFlags.add(flags)
	o.targetFlags.add(flags)
	o.addDiff(flags)
	o.crdsFlags.add(flags)
	o.controlPlaneFlags.add(flags)
	o.workloadFlags.add(flags)
	return cmd
}

func (o *allOptions) validate() error {
	for _, validate := range []func() error{
		o.changeFlags.validate, o.targetFlags.validate, o.crdsFlags.validate,
		o.controlPlaneFlags.validate, o.workloadFlags.validate,
	} {
		if err := validate(); err != nil {
			return err
		}
	}
	if !o.wait {
		return usagef("all waits for each step before the next: --wait=false does not go with it")
	}
	if o.all && *o.config.Namespace != "" {
		return usagef("-A and -n exclude each other")
	}
	return nil
}

// stage plans a step. Ahead is true where a step before it has yet to change the
// cluster: the plan is then made for what will be there.
type stage func(ctx context.Context, ahead bool) (action, error)

// planned is a stage's plan, made before anything was applied.
type planned struct {
	action
	// final plans are applied as they are; others are made anew when the steps
	// before them have changed the cluster.
	final bool
	// preflight is what those parts of check refuse that concern the step.
	preflight []gate.Refusal
}

func (o *allOptions) run(ctx context.Context) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	stages, err := o.stages(c)
	if err != nil {
		return err
	}
	doc := document{APIVersion: documentVersion, Kind: "Report", Step: "all", DryRun: o.dryRun != dryRunNone, Steps: []document{}}
	o.listen.run, o.listen.stages = "all", len(stages)
	err = o.listen.finish("all", o.mark(o.runStages(ctx, c, stages, &doc)))
	doc.endWith(err)
	if o.output.structured() {
		return errors.Join(err, o.output.print(o.Out, doc))
	}
	return err
}

func (o *allOptions) runStages(ctx context.Context, c *cluster.Cluster, stages []stage, doc *document) error {
	read := o.reading()
	plans, err := o.planAhead(ctx, stages)
	read()
	if err == nil {
		err = o.refusal(plans)
	}
	if err != nil {
		return errors.Join(o.showRefused(c.Identity(), plans, doc, err), err)
	}
	if err := o.summarize(c.Identity(), plans); err != nil {
		return err
	}
	// What a step has locked stays locked until the last one has ended.
	ctx, o.locks = o.newLocks(ctx, c)
	defer o.locks.Release(ctx)
	var refused error // by the API server, in a dry run, which goes on to the other plans
	for i, plan := range stages {
		a := plans[i].action
		if !plans[i].final {
			read := o.reading()
			a, err = plan(ctx, false)
			read()
			if err != nil {
				return err
			}
		}
		o.listen.stage = i + 1
		step := o.document(a)
		err = o.carryOut(ctx, o.session, c.Identity(), o.apart(a), &step)
		step.endWith(err)
		if err == nil {
			judged := o.judged(ctx, o.session, a)
			step.endWith(judged)
			refused = errors.Join(refused, judged)
		}
		doc.Steps = append(doc.Steps, step)
		if err != nil {
			return errors.Join(refused, err)
		}
	}
	return refused
}

// planAhead makes the plans of all steps before the first of them writes. Its
// error is that of the first step that cannot be planned, whatever the reason: a
// namespace that is not there, pods that may not be read; the plans are those of
// the steps before.
func (o *allOptions) planAhead(ctx context.Context, stages []stage) ([]planned, error) {
	var plans []planned
	ahead := false
	for _, plan := range stages {
		a, err := plan(ctx, ahead)
		if err != nil {
			return plans, err
		}
		p := planned{action: a, final: !ahead || o.dryRun != dryRunNone, preflight: preflightRefusals(ctx, a)}
		plans = append(plans, p)
		ahead = ahead || !a.empty
	}
	return plans, nil
}

// refusal gives what refuses the run as a whole. Of a step whose plan is not
// final only what no step before it can mend counts: rights that are lacking.
func (o *allOptions) refusal(plans []planned) error {
	var refusals, preflight []gate.Refusal
	for i, p := range plans {
		preflight = append(preflight, p.preflight...)
		for _, r := range p.refusals {
			if p.final || i == 1 || r.Object == cluster.YourRights {
				refusals = append(refusals, r)
			}
		}
	}
	if err := gate.Check("all", slices.Concat(refusals, preflight), o.force); err != nil {
		return err
	}
	o.tellForced(preflight) // the steps tell of their own
	return nil
}

// showRefused shows the plans that could be made of a run that is refused.
// Where one could not be made at all, the reason stands alone.
func (o *allOptions) showRefused(id cluster.Identity, plans []planned, doc *document, why error) error {
	refused := errors.As(why, new(*gate.Error))
	if refused {
		if err := o.summarize(id, plans); err != nil {
			return err
		}
	}
	for _, p := range plans {
		doc.Steps = append(doc.Steps, o.document(p.action))
		if refused {
			if err := o.present(o.session, o.apart(p.action)); err != nil {
				return err
			}
		}
	}
	return nil
}

// apart gives an action whose plan is shown apart from what stands above.
func (o *allOptions) apart(a action) action {
	show := a.show
	a.show = func(w io.Writer, wide bool) error {
		fmt.Fprintln(w)
		return show(w, wide)
	}
	return a
}

// summarize shows in a line each what the steps are going to do.
func (o *allOptions) summarize(id cluster.Identity, plans []planned) error {
	if o.output.structured() || o.output.name() {
		return nil
	}
	return o.toReader(o.session, func(w io.Writer) error {
		fmt.Fprintln(w, planHead("all", id, "to "+o.tag))
		for i, p := range plans {
			fmt.Fprintf(w, "  %d %-13s  %s\n", i+1, p.step, escape(p.summary()))
		}
		return nil
	})
}

// summary says in a line what a step is going to do.
func (a *planned) summary() string {
	text := strings.TrimSuffix(a.prompt, "?")
	if a.empty {
		text = strings.TrimSuffix(a.nothing, ".")
	}
	if n := len(a.refusals) + len(a.preflight); n > 0 {
		text += " (refused: " + plural(n, "reason") + ")"
	}
	return text
}

// stages gives the three steps. Ahead of the others the workloads are judged by
// what the injector will give after the second step.
func (o *allOptions) stages(c *cluster.Cluster) ([]stage, error) {
	source, err := helm.ParseSource(o.charts)
	if err != nil {
		return nil, err
	}
	crdOptions := o.crdsFlags.options(o.session, &o.targetFlags, &o.changeFlags)
	planeOptions, err := o.controlPlaneFlags.options(o.session, c, &o.targetFlags, &o.changeFlags)
	if err != nil {
		return nil, err
	}
	o.byHand.diff = o.targetFlags.diff
	if o.backupDir != "" { // apart from the custom resources, which are restored alone
		o.byHand.backupDir = filepath.Join(o.backupDir, "workloads")
	}
	plane := "" // the control plane's revision, as the second step has found it
	return []stage{
		func(ctx context.Context, _ bool) (action, error) {
			return crdsAction(ctx, c, source, crdOptions)
		},
		func(ctx context.Context, ahead bool) (action, error) {
			options := planeOptions
			options.CRDsFirst = ahead
			a, err := controlPlaneAction(ctx, c, options)
			if plan, ok := a.plan.(*controlplane.Plan); ok {
				plane = plan.Revision
			}
			return a, err
		},
		func(ctx context.Context, ahead bool) (action, error) {
			options := o.workloadFlags.options(o.session, c, &o.changeFlags, nil)
			if o.revision != "" {
				options.Revision = plane
			}
			if ahead {
				options.PreviewTag, options.PreviewRevision = o.tag, plane
			}
			if ahead && o.dryRun == dryRunNone {
				options.ByHand = nil // the injector's settings are not there yet
			}
			return sidecarsAction(ctx, c, options)
		},
	}, nil
}
