package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
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
namespace (or of all, with -A) to the target tag. The plans of the first two
steps are made and checked before the first write; each step is verified before
the next begins; run again, it goes on where it stopped.`,
		Example: allExample,
		Args:    cobra.NoArgs,
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

// stage is a step of the run: it is planned anew when its turn has come,
// because the one before has changed the cluster.
type stage func(ctx context.Context) (action, error)

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
	err = o.runStages(ctx, c, stages, &doc)
	if err != nil {
		doc.Error = err.Error()
	}
	if o.output.structured() {
		return errors.Join(err, o.output.print(o.Out, doc))
	}
	return err
}

func (o *allOptions) runStages(ctx context.Context, c *cluster.Cluster, stages []stage, doc *document) error {
	if err := o.checkFirst(ctx, stages[:2]); err != nil {
		return err
	}
	for i, plan := range stages {
		a, err := plan(ctx)
		if err != nil {
			return err
		}
		if i > 0 && !o.output.structured() && !o.output.name() {
			fmt.Fprintln(o.Out)
		}
		step := o.document(a)
		err = o.carryOut(ctx, o.session, c.Identity(), a, &step)
		if err != nil {
			step.Error = err.Error()
		}
		doc.Steps = append(doc.Steps, step)
		if err != nil {
			return err
		}
	}
	return nil
}

// checkFirst makes the plans of the first two steps and gives what refuses
// them, before the first of them writes.
func (o *allOptions) checkFirst(ctx context.Context, stages []stage) error {
	var refusals []gate.Refusal
	for _, plan := range stages {
		a, err := plan(ctx)
		if err != nil {
			return err
		}
		refusals = append(refusals, a.refusals...)
	}
	return gate.Check("all", refusals, o.force)
}

// stages gives the three steps. In a dry run the workloads are judged by what
// the injector will give after the second step.
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
	workloads := o.workloadFlags.options(o.session, c, &o.changeFlags, nil)
	crdsDone := false
	if o.dryRun != dryRunNone {
		workloads.PreviewTag = o.tag
	}
	return []stage{
		func(ctx context.Context) (action, error) {
			return crdsAction(ctx, c, source, crdOptions)
		},
		func(ctx context.Context) (action, error) {
			options := planeOptions
			// The first time it is planned nothing has been applied yet.
			options.CRDsFirst = !crdsDone || o.dryRun != dryRunNone
			crdsDone = true
			return controlPlaneAction(ctx, c, options)
		},
		func(ctx context.Context) (action, error) {
			return sidecarsAction(ctx, c, workloads)
		},
	}, nil
}
