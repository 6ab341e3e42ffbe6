package plugin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/lock"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/preflight"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

const controlPlaneExample = `  # What an upgrade to 1.31.0 would change, and what stands in its way
  kubectl istio-upgrade control-plane --tag 1.31.0 --dry-run

  # Upgrade, with a value changed, from charts of one's own
  kubectl istio-upgrade control-plane --tag 1.31.0 --charts ./manifests/charts --set pilot.traceSampling=5

  # See what changes in values and objects, and have the API server judge it
  kubectl istio-upgrade control-plane --tag 1.31.0 --dry-run=server --diff

  # Make istiod and the gateways highly available on the way, and go back if pods fail
  kubectl istio-upgrade control-plane --tag 1.31.0 --ensure-ha --rollback-on-failure`

// targetFlags are those of every command that goes to a version.
type targetFlags struct {
	tag    string
	charts string
	diff   bool
}

func (f *targetFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.tag, "tag", "", "Image tag to go to, such as 1.31.0 or 1.31.0-distroless")
	flags.StringVar(&f.charts, "charts", "", "Helm repository (address or name), oci:// prefix, folder or .tgz of the charts (default "+helm.DefaultSource+")")
}

// addDiff adds the flag of the commands that show what changes.
func (f *targetFlags) addDiff(flags *pflag.FlagSet) {
	flags.BoolVar(&f.diff, "diff", false, "Show what changes in values and objects as a unified diff; what Secrets hold is hidden")
}

func (f *targetFlags) validate() error {
	if f.tag == "" {
		return usagef("--tag is needed: the image tag to go to, such as 1.31.0")
	}
	return nil
}

// controlPlaneFlags are the flags of the step, beside those of every step.
type controlPlaneFlags struct {
	revision          string
	set               []string
	values            []string
	ensureHA          bool
	temporaryHA       bool
	components        []string
	rollbackOnFailure bool
	recoverPending    bool
}

var componentNames = []string{string(helm.Istiod), string(helm.CNI), string(helm.Ztunnel), string(helm.Gateway)}

func (f *controlPlaneFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.revision, "revision", "", "Revision, or tag of one, where there are several control planes; all moves its workloads alone then")
	flags.StringArrayVar(&f.set, "set", nil, "Helm value to change, as in --set pilot.traceSampling=5 (may be repeated)")
	flags.StringArrayVar(&f.values, "values", nil, "YAML file of Helm values to change (may be repeated)")
	flags.BoolVar(&f.ensureHA, "ensure-ha", false, "Give istiod and gateways two replicas for good, by the charts' own values")
	flags.BoolVar(&f.temporaryHA, "temporary-ha", false, "Give single replicas of istiod and gateways a second one for the length of the upgrade")
	flags.StringSliceVar(&f.components, "component", nil, "Upgrade only these: istiod, cni, ztunnel, gateway (may be repeated)")
	flags.BoolVar(&f.rollbackOnFailure, "rollback-on-failure", false, "Put the release back whose pods do not become ready; those upgraded before it stay new")
	flags.BoolVar(&f.recoverPending, "recover", false, "Go on from a release that a killed run of somebody else, such as Helm, left pending")
}

func (f *controlPlaneFlags) validate() error {
	if f.ensureHA && f.temporaryHA {
		return usagef("--ensure-ha and --temporary-ha exclude each other")
	}
	for _, name := range f.components {
		if !slices.Contains(componentNames, name) {
			return usagef("--component is istiod, cni, ztunnel or gateway, not %q", name)
		}
	}
	return nil
}

// options gives the step's options for a connection. The charts source is read,
// which needs no network yet.
func (f *controlPlaneFlags) options(s *session, c *cluster.Cluster, target *targetFlags, change *changeFlags) (controlplane.Options, error) {
	charts, err := helm.ParseSource(target.charts)
	if err != nil {
		return controlplane.Options{}, err
	}
	o := controlplane.Options{
		Tag: target.tag, Revision: f.revision, Charts: charts, Set: f.set, ValuesFiles: f.values,
		EnsureHA: f.ensureHA, TemporaryHA: f.temporaryHA, Diff: target.diff, AskServer: change.dryRun == dryRunServer,
		RollbackOnFailure: f.rollbackOnFailure, Recover: f.recoverPending,
		Wait: change.wait, Timeout: change.timeout, Force: change.force,
		IstioNamespace: s.istioNamespace, Now: time.Now,
		Proxies: func(ctx context.Context) ([]controlplane.ProxyVersion, error) {
			return controlplane.ReadProxies(ctx, c)
		},
	}
	for _, name := range f.components {
		o.Components = append(o.Components, helm.Component(name))
	}
	return o, nil
}

type controlPlaneOptions struct {
	*session
	changeFlags
	targetFlags
	controlPlaneFlags
}

func newControlPlaneCommand(s *session) *cobra.Command {
	o := &controlPlaneOptions{session: s}
	cmd := &cobra.Command{
		Use:   "control-plane --tag TAG",
		Short: "Upgrade the Helm releases to the target tag (step 2)",
		Long: `Upgrade the Helm releases to the target tag (step 2).

Finds the releases of istiod, cni, ztunnel and the gateways (or the release istio
of Istio 1.1 to 1.5), and brings one after the other to the new charts, with your
own values kept and global.tag changed. Each is waited for, failing pods are named
at once, and in the end the injector itself is asked what it gives out.

--set and --values change the values of istiod, and what is global those of cni
and ztunnel too; with --component they change those of what is named there.`,
		Example: controlPlaneExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, validate := range []func() error{o.changeFlags.validate, o.targetFlags.validate, o.controlPlaneFlags.validate} {
				if err := validate(); err != nil {
					return err
				}
			}
			return o.run(cmd.Context())
		},
	}
	o.changeFlags.add(cmd.Flags())
	o.targetFlags.add(cmd.Flags())
	o.addDiff(cmd.Flags())
	o.controlPlaneFlags.add(cmd.Flags())
	return cmd
}

func (o *controlPlaneOptions) run(ctx context.Context) error {
	if o.rollbackOnFailure && !o.wait {
		return usagef("--rollback-on-failure and --wait=false exclude each other: where nobody watches, nobody knows whether pods become ready")
	}
	if o.temporaryHA && !o.wait {
		return usagef("--temporary-ha and --wait=false exclude each other: what is not waited for has no length")
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	options, err := o.options(o.session, c, &o.targetFlags, &o.changeFlags)
	if err != nil {
		return err
	}
	read := o.reading()
	a, err := controlPlaneAction(ctx, c, options)
	read()
	if err != nil {
		return err
	}
	a.refuse(preflightRefusals(ctx, a))
	return o.changeFlags.run(ctx, o.session, c.Identity(), a)
}

// stepPatience is how long a step waits for the registries, all in all.
const stepPatience = 2 * time.Second

// preflightRefusals gives what those parts of check refuse that concern a step. A
// registry that cannot be asked from here is left to check.
func preflightRefusals(ctx context.Context, a action) []gate.Refusal {
	plan, ok := a.plan.(*controlplane.Plan)
	if !ok || plan.Before() == nil {
		return nil
	}
	return preflight.Refusals(a.step, preflight.Facts{Mesh: plan.Before(), Images: preflight.AskRegistries(ctx, plan.Images(), stepPatience)})
}

// refuse adds refusals to those of the plan.
func (a *action) refuse(more []gate.Refusal) {
	a.refusals = append(a.refusals, more...)
	if plan, ok := a.plan.(*controlplane.Plan); ok {
		plan.Refusals = a.refusals
	}
}

// controlPlaneAction plans the step.
func controlPlaneAction(ctx context.Context, c *cluster.Cluster, options controlplane.Options) (action, error) {
	plan, err := controlplane.NewPlan(ctx, c, options)
	if err != nil {
		return action{}, err
	}
	a := action{
		step: controlplane.Step, plan: plan, refusals: plan.Refusals, warnings: plan.Warnings,
		nothing: "Nothing to upgrade: the control plane is at " + plan.Target + ".",
		show:    controlPlaneTable(plan),
		apply: func(ctx context.Context, emit progress.Emitter) (any, error) {
			return controlplane.Apply(ctx, c, plan, options, emit)
		},
	}
	namespaces := []string{}
	for _, r := range plan.Releases {
		if r.Action != controlplane.Upgrade {
			continue
		}
		a.names = append(a.names, "release/"+r.Name)
		if !slices.Contains(namespaces, r.Namespace) {
			namespaces = append(namespaces, r.Namespace)
		}
	}
	a.empty = plan.Empty()
	if !plan.Writes() {
		a.prompt = "Wait for the control plane at " + plan.Target + "?"
		return a, nil
	}
	a.locks, a.cluster = []lock.Key{lock.ControlPlane(options.IstioNamespace)}, c
	if len(a.names) == 0 {
		a.prompt = fmt.Sprintf("Put %s of replicas back?", plural(len(plan.Raised), "number"))
		return a, nil
	}
	a.prompt = fmt.Sprintf("Upgrade %s in %s to %s?", plural(len(a.names), "release"), joined(namespaces), plan.Target)
	return a, nil
}
