package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

const sidecarsExample = `  # What would be moved in this namespace, how, and what it would disturb
  kubectl istio-upgrade sidecars -n shop --dry-run

  # Move everything that is stale, in all namespaces, one workload first
  kubectl istio-upgrade sidecars -A --canary 1 --soak 2m

  # One workload alone
  kubectl istio-upgrade sidecars deployment/web -n shop

  # Original manifests, injected by a custom configuration and applied
  kubectl istio-upgrade sidecars -f manifests/ -R --inject-config inject-config.yaml`

// workloadFlags are the flags that choose workloads and say how they move.
type workloadFlags struct {
	all           bool
	selector      string
	maxParallel   int
	canary        int
	soak          time.Duration
	maxFailures   int
	onFailure     string
	allowDowntime bool
	evict         bool
	restartWith   string
	byHand        byHandFlags
}

func (f *workloadFlags) add(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.all, "all-namespaces", "A", false, "Look at all namespaces")
	flags.StringVarP(&f.selector, "selector", "l", "", "Label selector of the workloads, as in -l app=web")
	flags.IntVar(&f.maxParallel, "max-parallel", 10, "How many workloads move at a time at most; more than 10 only while the API server answers promptly")
	flags.IntVar(&f.canary, "canary", 0, "How many workloads go first and alone")
	flags.DurationVar(&f.soak, "soak", 0, "How long to wait after the canary before the rest")
	flags.IntVar(&f.maxFailures, "max-failures", 1, "After how many failures nothing new starts")
	flags.StringVar(&f.onFailure, "on-failure", string(rollout.Halt), "What to do when a workload fails: halt, continue or undo")
	flags.BoolVar(&f.allowDowntime, "allow-downtime", false, "Also move workloads whose own strategy allows that no pod is ready")
	flags.BoolVar(&f.evict, "evict", false, "Evict, one at a time, the pods of workloads that do not replace them by themselves")
	flags.StringVar(&f.restartWith, "restart-with", string(sidecars.RestartByAnnotation), "What in the pod template triggers the restart: annotation or grace-period")
	f.byHand.add(flags)
}

func (f *workloadFlags) validate() error {
	switch {
	case f.maxParallel < 1:
		return usagef("--max-parallel must be at least 1")
	case f.canary < 0:
		return usagef("--canary must not be negative")
	case f.soak < 0:
		return usagef("--soak must not be negative")
	case f.soak > 0 && f.canary == 0:
		return usagef("--soak needs --canary")
	case f.maxFailures < 1:
		return usagef("--max-failures must be at least 1")
	case !slices.Contains([]string{string(rollout.Halt), string(rollout.Continue), string(rollout.Undo)}, f.onFailure):
		return usagef("--on-failure is halt, continue or undo, not %q", f.onFailure)
	case !slices.Contains([]string{string(sidecars.RestartByAnnotation), string(sidecars.RestartByGracePeriod)}, f.restartWith):
		return usagef("--restart-with is annotation or grace-period, not %q", f.restartWith)
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return usagef("-l %s: %w", f.selector, err)
	}
	return f.byHand.validate()
}

// unwatched refuses what has no meaning where nobody watches.
func (f *workloadFlags) unwatched(change *changeFlags) error {
	flag := ""
	switch {
	case change.wait:
		return nil
	case f.canary > 0:
		flag = "--canary"
	case f.onFailure == string(rollout.Undo):
		flag = "--on-failure undo"
	default:
		return nil
	}
	return usagef("%s and --wait=false exclude each other: where nobody watches, nobody knows how a workload fares", flag)
}

// options gives the step's options for a connection.
func (f *workloadFlags) options(s *session, c *cluster.Cluster, change *changeFlags, names []sidecars.Name) sidecars.Options {
	namespace := c.Namespace
	if f.all {
		namespace = ""
	}
	selector, _ := labels.Parse(f.selector) // validate has parsed it
	return sidecars.Options{
		Namespace: namespace, IstioNamespace: s.istioNamespace, Selector: selector, Only: names,
		AllowDowntime: f.allowDowntime, Evict: f.evict, RestartWith: sidecars.RestartWith(f.restartWith),
		FieldManager: change.fieldManager, Force: change.force, User: c.User, Now: time.Now,
		ByHand: f.byHand.options(s),
		Rollout: rollout.Options{
			MaxParallel: f.maxParallel, Canary: f.canary, Soak: f.soak, MaxFailures: f.maxFailures,
			OnFailure: rollout.OnFailure(f.onFailure), Timeout: change.timeout, Wait: change.wait,
			Patience: sidecars.DefaultPatience,
		},
	}
}

type sidecarsOptions struct {
	*session
	changeFlags
	workloadFlags
	fileFlags
	names []sidecars.Name
}

func newSidecarsCommand(s *session) *cobra.Command {
	o := &sidecarsOptions{session: s}
	cmd := &cobra.Command{
		Use:   "sidecars [TYPE/NAME...]",
		Short: "Give every workload the new proxy (step 3)",
		Long: `Give every workload the new proxy (step 3).

Finds the workloads whose proxies are not those that their injector gives now,
shows for each how it would be moved and what that would disturb, and moves them
many at a time, watched to their end. Run again, it goes on where it stopped:
what is stale is asked of the cluster.

` + watchHelp,
		Example:           sidecarsExample,
		ValidArgsFunction: s.complete(s.staleWorkloads),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	o.changeFlags.add(cmd.Flags())
	o.workloadFlags.add(cmd.Flags())
	o.fileFlags.add(cmd.Flags())
	return cmd
}

func (o *sidecarsOptions) complete(args []string) error {
	if err := o.changeFlags.validate(); err != nil {
		return err
	}
	if err := o.workloadFlags.validate(); err != nil {
		return err
	}
	if err := o.unwatched(&o.changeFlags); err != nil {
		return err
	}
	if err := o.completeFiles(args); err != nil {
		return err
	}
	if o.all && *o.config.Namespace != "" {
		return usagef("-A and -n exclude each other")
	}
	if o.all && len(args) > 0 {
		return usagef("-A and TYPE/NAME exclude each other")
	}
	for _, arg := range args {
		kind, name, ok := strings.Cut(arg, "/")
		parsed, known := workload.ParseKind(kind)
		switch {
		case !ok || name == "" || strings.Contains(name, "/"):
			return usagef("name a workload as TYPE/NAME, as in deployment/web, not %q", arg)
		case !known:
			return usagef("%q is no kind of workload; give one such as deployment, statefulset, daemonset, cronjob or rollout", kind)
		}
		o.names = append(o.names, sidecars.Name{Group: parsed.Group, Kind: parsed.Kind, Name: name})
	}
	return nil
}

func (o *sidecarsOptions) run(ctx context.Context) error {
	if len(o.files) > 0 {
		return o.runFiles(ctx)
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	read := o.reading()
	a, err := sidecarsAction(ctx, c, o.workloadFlags.options(o.session, c, &o.changeFlags, o.names))
	read()
	if err != nil {
		return err
	}
	return o.changeFlags.run(ctx, o.session, c.Identity(), a)
}

// sidecarsAction plans the step.
func sidecarsAction(ctx context.Context, c *cluster.Cluster, options sidecars.Options) (action, error) {
	plan, err := sidecars.NewPlan(ctx, c, options)
	if err != nil {
		return action{}, err
	}
	nothing := len(plan.Items) == 0 && options.Revision == "" // another revision may well have some
	if nothing && options.Selector != nil && !options.Selector.Empty() {
		return action{}, gate.BadInputf("no workload that has or should have a proxy bears the labels %s in %s: -l goes by the labels of the workload itself, not of its pods", options.Selector, plan.Scope)
	}
	if nothing && options.Namespace != "" {
		return action{}, gate.BadInputf("no workload of namespace %s has a proxy, and no webhook injects any: label the namespace for injection, or choose another with -n or -A", options.Namespace)
	}
	if err := plan.CheckRights(ctx, c); err != nil {
		return action{}, err
	}
	moving := plan.Moving()
	a := action{
		locks: movingLocks(plan), cluster: c,
		step: "sidecars", plan: plan, refusals: plan.Refusals, left: plan.Staying(),
		empty: len(moving) == 0, nothing: "Nothing to move: every proxy that can be moved is up to date.",
		prompt: fmt.Sprintf("Move %s in %s?", plural(len(moving), "workload"), plan.Scope),
		show:   sidecarsTable(plan),
		apply: func(ctx context.Context, emit progress.Emitter) (any, error) {
			return sidecars.Apply(ctx, c, plan, options, emit)
		},
	}
	a.leftAfter = func(result any) any {
		if r, ok := result.(*sidecars.Result); ok && r != nil {
			return plan.StayingAfter(r)
		}
		return plan.Staying()
	}
	for i := range moving {
		a.names = append(a.names, moving[i].String())
	}
	return a, nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
