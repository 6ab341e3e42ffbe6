package plugin

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

const rollbackExample = `  # Where the control plane would go back to, and what stands in the way
  kubectl istio-upgrade rollback --dry-run

  # Workloads have the new proxy already: they go back first, then the control plane
  kubectl istio-upgrade rollback --proxies-first`

type rollbackOptions struct {
	*session
	changeFlags
	revision       string
	to             int
	proxiesFirst   bool
	recoverPending bool
}

func newRollbackCommand(s *session) *cobra.Command {
	o := &rollbackOptions{session: s}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Take the control plane back to its previous version",
		Long: `Take the control plane back to its previous version.

Goes back to the newest revision of the Helm releases that was in force and runs
another version of Istio, never to a failed one. Proxies must not be newer than
their control plane: where workloads have moved, --proxies-first has the injector
give out the former proxy while istiod stays, rolls all workloads, and then takes
the releases back. The CRDs stay as they are.`,
		Example: rollbackExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	o.add(flags)
	flags.StringVar(&o.revision, "revision", "", "Revision, or tag of one, where there are several control planes")
	flags.IntVar(&o.to, "to", 0, "Revision of the control plane's Helm release to go back to (default the newest good one of another version)")
	flags.BoolVar(&o.proxiesFirst, "proxies-first", false, "Give all workloads the former proxy before the control plane goes back")
	flags.BoolVar(&o.recoverPending, "recover", false, "Go on from a release that a killed run left pending")
	return cmd
}

func (o *rollbackOptions) validate() error {
	if o.to < 0 {
		return usagef("--to must be a revision, as helm history shows them")
	}
	if o.proxiesFirst && !o.wait {
		return usagef("--proxies-first and --wait=false exclude each other")
	}
	return o.changeFlags.validate()
}

func (o *rollbackOptions) run(ctx context.Context) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	options := controlplane.RollbackOptions{
		Options: controlplane.Options{
			Revision: o.revision, Wait: o.wait, Timeout: o.timeout, Force: o.force, Recover: o.recoverPending,
			IstioNamespace: o.istioNamespace, Now: time.Now,
			Proxies: func(ctx context.Context) ([]controlplane.ProxyVersion, error) {
				return controlplane.ReadProxies(ctx, c)
			},
		},
		To: o.to, ProxiesFirst: o.proxiesFirst,
	}
	plan, err := controlplane.NewRollbackPlan(ctx, c, options)
	if err != nil {
		return err
	}
	return o.changeFlags.run(ctx, o.session, c.Identity(), action{
		step: controlplane.RollbackStep, plan: plan, refusals: plan.Refusals, names: rollbackNames(plan),
		empty: plan.Empty(), nothing: "Nothing to take back.",
		prompt: fmt.Sprintf("Take %s back from %s to %s?", plural(len(rollbackNames(plan)), "release"), plan.From, plan.To),
		show:   rollbackTable(plan),
		apply: func(ctx context.Context, emit progress.Emitter) (any, error) {
			options.RollWorkloads = o.rollWorkloads(c)
			return controlplane.ApplyRollback(ctx, c, plan, options, emit)
		},
	})
}

// rollWorkloads gives what rolls all workloads, by the machinery of sidecars.
func (o *rollbackOptions) rollWorkloads(c *cluster.Cluster) func(context.Context) error {
	return func(ctx context.Context) error {
		workloads := workloadFlags{
			all: true, maxParallel: 10, maxFailures: 1,
			onFailure: string(rollout.Halt), restartWith: string(sidecars.RestartByAnnotation),
		}
		options := workloads.options(o.session, c, &o.changeFlags, nil)
		plan, err := sidecars.NewPlan(ctx, c, options)
		if err != nil {
			return err
		}
		_, err = sidecars.Apply(ctx, c, plan, options, progress.Emitter{Step: "sidecars", To: o.listener(o.session)})
		return err
	}
}

func rollbackNames(p *controlplane.RollbackPlan) []string {
	var names []string
	for _, r := range p.Releases {
		if r.Action == controlplane.Rollback {
			names = append(names, "release/"+r.Name)
		}
	}
	return names
}

func rollbackTable(p *controlplane.RollbackPlan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead(controlplane.RollbackStep, p.Cluster, "revision "+p.Revision+", from "+p.From+" back to "+p.To))
		if p.ProxiesFirst {
			fmt.Fprintln(w, "First the injector gives out "+escape(p.To)+" and all workloads are rolled; then the releases go back.")
		}
		releases := newTable("NAMESPACE", "RELEASE", "COMPONENT", "CHART", "TAG", "ACTION", "WHY")
		for _, r := range p.Releases {
			releases.row(r.Namespace, r.Name, string(r.Component), arrow(r.ChartFrom, r.ChartTo), arrow(r.TagFrom, r.TagTo), string(r.Action), r.Reason)
		}
		if err := releases.print(w, wide); err != nil {
			return err
		}
		for _, r := range p.Releases {
			releaseDetails(w, r, wide)
		}
		for _, text := range p.Warnings {
			fmt.Fprintln(w, "‼ "+escape(text))
		}
		return nil
	}
}
