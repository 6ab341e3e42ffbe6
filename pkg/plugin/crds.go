package plugin

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/lock"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

const crdsExample = `  # What would change, and what stands in its way
  kubectl istio-upgrade crds --tag 1.31.0 --dry-run

  # Bring the definitions to 1.31.0, with a backup of all objects in a folder of one's own
  kubectl istio-upgrade crds --tag 1.31.0 --backup-dir ./before-1.31

  # Another pipeline brings them: are they new enough?
  kubectl istio-upgrade crds --tag 1.31.0 --external`

// crdsFlags are the flags of the step, beside those of every step.
type crdsFlags struct {
	backupDir string
	noBackup  bool
	adoptFrom string
	external  bool
}

func (f *crdsFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.backupDir, "backup-dir", "", "Folder for the backup of all custom resources (default a new one below the state folder)")
	flags.BoolVar(&f.noBackup, "no-backup", false, "Do not back up the custom resources")
	flags.StringVar(&f.adoptFrom, "adopt-from", "", "Helm release (NAME or NAMESPACE/NAME) whose definitions are taken over")
	flags.BoolVar(&f.external, "external", false, "The definitions come from elsewhere: compare them with the target and write nothing")
}

func (f *crdsFlags) validate() error {
	switch {
	case f.noBackup && f.backupDir != "":
		return usagef("--no-backup and --backup-dir exclude each other")
	case f.external && f.adoptFrom != "":
		return usagef("--external and --adopt-from exclude each other")
	case f.external && f.backupDir != "":
		return usagef("--external and --backup-dir exclude each other: nothing is written")
	}
	return nil
}

// options gives the step's options.
func (f *crdsFlags) options(s *session, target *targetFlags, change *changeFlags) crds.Options {
	return crds.Options{
		Tag: target.tag, IstioNamespace: s.istioNamespace,
		BackupDir: f.backupDir, NoBackup: f.noBackup, AdoptFrom: f.adoptFrom, External: f.external,
		Diff: target.diff, DryRun: change.dryRun, Timeout: change.timeout, FieldManager: change.fieldManager, Force: change.force,
		Now: time.Now,
	}
}

type crdsOptions struct {
	*session
	changeFlags
	targetFlags
	crdsFlags
}

func newCRDsCommand(s *session) *cobra.Command {
	o := &crdsOptions{session: s}
	cmd := &cobra.Command{
		Use:   "crds --tag TAG",
		Short: "Bring the CustomResourceDefinitions to the target version (step 1)",
		Long: `Bring the CustomResourceDefinitions to the target version (step 1).

Finds the Helm release that brings them (base of today's charts, or istio-init of
Istio 1.1 to 1.5) and upgrades or replaces it; where there is none, they are
applied. First, every object of every *.istio.io kind is saved in a form that
kubectl apply -f restores; in the end, all definitions are established and no
object is lost. No definition and no object is ever deleted.`,
		Example: crdsExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, validate := range []func() error{o.changeFlags.validate, o.targetFlags.validate, o.crdsFlags.validate} {
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
	o.crdsFlags.add(cmd.Flags())
	return cmd
}

func (o *crdsOptions) run(ctx context.Context) error {
	source, err := helm.ParseSource(o.charts)
	if err != nil {
		return err
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	options := o.options(o.session, &o.targetFlags, &o.changeFlags)
	read := o.reading()
	a, err := crdsAction(ctx, c, source, options)
	read()
	if err != nil {
		return err
	}
	return o.changeFlags.run(ctx, o.session, c.Identity(), a)
}

// crdsAction plans the step.
func crdsAction(ctx context.Context, c *cluster.Cluster, source helm.Source, options crds.Options) (action, error) {
	plan, err := crds.NewPlan(ctx, c, source, options)
	if err != nil {
		return action{}, err
	}
	a := action{
		step: crds.Step, plan: plan, refusals: plan.Refusals, warnings: plan.Warnings, empty: !plan.Writes(),
		nothing: "Nothing to change: the definitions are those of Istio " + plan.Brings() + ".",
		show:    crdsTable(plan),
		apply: func(ctx context.Context, emit progress.Emitter) (any, error) {
			result, err := crds.Apply(ctx, c, plan, options, emit)
			if result == nil { // as an interface it would be one that holds nothing
				return nil, err
			}
			return result, err
		},
	}
	a.try = func(ctx context.Context, emit progress.Emitter) error {
		_, err := a.apply(ctx, emit) // the options say that it is a dry run
		return err
	}
	if plan.Action == crds.Verify {
		a.nothing = "The definitions are new enough for Istio " + plan.Brings() + "."
	}
	for _, name := range plan.Changing() {
		a.names = append(a.names, "customresourcedefinition/"+name)
	}
	if plan.Writes() {
		a.locks, a.cluster = []lock.Key{lock.ControlPlane(options.IstioNamespace)}, c
	}
	a.prompt = fmt.Sprintf("Change %s?", plural(len(a.names), "CustomResourceDefinition"))
	if plan.Release != nil {
		a.prompt = fmt.Sprintf("Change %s, by release %s in %s (%s)?", plural(len(a.names), "CustomResourceDefinition"),
			plan.Release.Name, plan.Release.Namespace, plan.Release.Action)
	}
	return a, nil
}
