package plugin

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/lock"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
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
	allowDowntime  bool
}

func newRollbackCommand(s *session) *cobra.Command {
	o := &rollbackOptions{session: s}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Take the control plane back to its previous version",
		Long: `Take the control plane back to its previous version.

Goes back to the newest revision of the Helm releases that was in force and runs
another version of Istio, never to a failed one. Proxies must not be newer than
their control plane: gateways that the upgrade has moved go back before it, by an
injector that gives out the former proxy while istiod stays. Where workloads have
moved too, --proxies-first rolls all of them before the releases go back. The CRDs
stay as they are.

` + watchHelp,
		Example: rollbackExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("to") && o.to == 0 {
				o.to = -1 // no revision either
			}
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
	flags.BoolVar(&o.allowDowntime, "allow-downtime", false, "Also move workloads whose own strategy allows that no pod is ready")
	flags.BoolVar(&o.recoverPending, "recover", false, "Go on from a release that a killed run left pending")
	return cmd
}

func (o *rollbackOptions) validate() error {
	if o.to < 0 {
		return usagef("--to must be a revision, as helm history shows them")
	}
	if o.dryRun == dryRunServer {
		return usagef("--dry-run=server does not go with rollback, which writes what the cluster has had before: give --dry-run=client")
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
	read := o.reading()
	plan, err := controlplane.NewRollbackPlan(ctx, c, options)
	read()
	if err != nil {
		return err
	}
	if plan.InjectorFirst() {
		former := o.workloads(c, plan)
		former.PreviewTag, former.PreviewImage = plan.To, plan.FormerProxy()
		if plan.Workloads, err = o.planWorkloads(ctx, c, former, plan.Gateways); err != nil {
			return err
		}
		plan.Refusals = append(plan.Refusals, plan.Workloads.Refusals...)
	}
	return o.changeFlags.run(ctx, o.session, c.Identity(), action{
		step: controlplane.RollbackStep, plan: plan, refusals: plan.Refusals, names: rollbackNames(plan),
		empty: plan.Empty(), nothing: "Nothing to take back.",
		prompt: rollbackPrompt(plan),
		show:   rollbackTable(plan),
		locks:  []lock.Key{lock.ControlPlane(o.istioNamespace)}, cluster: c,
		apply: func(ctx context.Context, emit progress.Emitter) (any, error) {
			options.RollWorkloads = func(ctx context.Context, only []workload.Ref) error {
				return o.rollNow(ctx, c, o.workloads(c, plan), only, emit)
			}
			return controlplane.ApplyRollback(ctx, c, plan, options, emit)
		},
	})
}

// workloads gives the options by which the machinery of sidecars moves what the
// rolled-back revision serves.
func (o *rollbackOptions) workloads(c *cluster.Cluster, plan *controlplane.RollbackPlan) sidecars.Options {
	flags := workloadFlags{
		all: true, maxParallel: 10, maxFailures: 1,
		onFailure: string(rollout.Halt), restartWith: string(sidecars.RestartByAnnotation), allowDowntime: o.allowDowntime,
	}
	options := flags.options(o.session, c, &o.changeFlags, nil)
	options.Revision = plan.Revision
	return options
}

// planWorkloads plans to roll the named workloads, or all where none is named. What
// the user may not do is among its refusals.
func (o *rollbackOptions) planWorkloads(ctx context.Context, c *cluster.Cluster, options sidecars.Options, only []workload.Ref) (*sidecars.Plan, error) {
	byNamespace := map[string][]sidecars.Name{}
	for _, ref := range only {
		byNamespace[ref.Namespace] = append(byNamespace[ref.Namespace], sidecars.Name{Group: ref.Group, Kind: ref.Kind, Name: ref.Name})
	}
	if len(only) == 0 {
		byNamespace[""] = nil // all
	}
	whole := &sidecars.Plan{Cluster: c.Identity(), Scope: joined(slices.Sorted(maps.Keys(byNamespace)))}
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		options.Namespace, options.Only = namespace, byNamespace[namespace]
		plan, err := sidecars.NewPlan(ctx, c, options)
		if err != nil {
			return nil, fmt.Errorf("plan what goes back to the former proxy: %w", err)
		}
		if len(only) == 0 {
			whole = plan
			break
		}
		whole.Items, whole.Refusals, whole.Warnings = append(whole.Items, plan.Items...), append(whole.Refusals, plan.Refusals...), append(whole.Warnings, plan.Warnings...)
	}
	return whole, whole.CheckRights(ctx, c)
}

// rollNow plans the workloads by what the injector gives now, and moves them
// under their own locks.
func (o *rollbackOptions) rollNow(ctx context.Context, c *cluster.Cluster, options sidecars.Options, only []workload.Ref, emit progress.Emitter) error {
	plan, err := o.planWorkloads(ctx, c, options, only)
	if err != nil {
		return err
	}
	if err := gate.Check("sidecars", plan.Refusals, o.force); err != nil {
		return err
	}
	emit.Step = "sidecars"
	ctx, locks := o.newLocks(ctx, c)
	defer locks.Release(ctx)
	if err := locks.Acquire(ctx, emit, movingLocks(plan)); err != nil {
		return err
	}
	_, err = sidecars.Apply(ctx, c, plan, options, emit)
	return err
}

// rollbackPrompt asks for the go-ahead: which releases go back, and which
// workloads before them, with their namespaces.
func rollbackPrompt(p *controlplane.RollbackPlan) string {
	var releases []string
	for _, r := range p.Releases {
		if r.Action == controlplane.Rollback {
			releases = append(releases, r.Namespace)
		}
	}
	text := fmt.Sprintf("Take %s in %s back from %s to %s?", plural(len(releases), "release"), distinct(releases), p.From, p.To)
	if p.Workloads == nil || len(p.Workloads.Moving()) == 0 {
		return text
	}
	var namespaces []string
	for _, item := range p.Workloads.Moving() {
		namespaces = append(namespaces, item.Namespace)
	}
	return fmt.Sprintf("First give %s in %s the former proxy. %s", plural(len(namespaces), "workload"), distinct(namespaces), text)
}

// distinct lists names, each once.
func distinct(names []string) string {
	slices.Sort(names)
	return joined(slices.Compact(names))
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
		if p.Empty() && p.From != "" && p.From == p.To {
			fmt.Fprintln(w, planHead(controlplane.RollbackStep, p.Cluster, "revision "+p.Revision+", at "+p.From))
			warn(w, p.Warnings)
			return nil
		}
		fmt.Fprintln(w, planHead(controlplane.RollbackStep, p.Cluster, "revision "+p.Revision+", from "+p.From+" back to "+p.To))
		if p.ProxiesFirst {
			fmt.Fprintln(w, "First the injector gives out "+escape(p.To)+" and all workloads of the revision are rolled; then the releases go back.")
		} else if len(p.Gateways) > 0 {
			fmt.Fprintln(w, "First the injector gives out "+escape(p.To)+" and the gateways go back; then the rest.")
		}
		if err := releasesTable(w, p.Releases, wide); err != nil {
			return err
		}
		for _, r := range p.Releases {
			releaseDetails(w, r, wide)
		}
		printRaised(w, p.Raised)
		warn(w, p.Warnings)
		if p.Workloads == nil {
			return nil
		}
		fmt.Fprintln(w, "\nExpected of the workloads, once the injector gives out "+escape(p.To)+":")
		return sidecarsTable(p.Workloads)(w, wide)
	}
}
