package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/preflight"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

const checkExample = `  # Is the mesh fit to be upgraded?
  kubectl istio-upgrade check

  # To this version, with everything that stands in the way
  kubectl istio-upgrade check --tag 1.31.0 -A`

type checkOptions struct {
	*session
	targetFlags
	output outputFlag
	all    bool
}

func newCheckCommand(s *session) *cobra.Command {
	o := &checkOptions{session: s}
	cmd := &cobra.Command{
		Use:   "check [--tag TAG]",
		Short: "Say whether an upgrade is safe, and what stands in its way",
		Long: `Say whether an upgrade is safe, and what stands in its way.

Reads only. With --tag the steps are planned as for an upgrade to that version,
and all that would refuse them is listed. Ends with exit code 1 where a × stands.`,
		Example: checkExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.output.validate(); err != nil {
				return err
			}
			if o.all && *o.config.Namespace != "" {
				return usagef("-A and -n exclude each other")
			}
			return o.run(cmd.Context())
		},
	}
	o.output.add(cmd.Flags())
	o.targetFlags.add(cmd.Flags())
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "Look at all namespaces, which is the default without -n")
	return cmd
}

// errNotSafe ends check where a × stands.
var errNotSafe = errors.New("not safe yet: see the lines with ×")

func (o *checkOptions) run(ctx context.Context) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	facts, err := o.facts(ctx, c)
	if err != nil {
		return err
	}
	checks := preflight.Judge(facts)
	if o.output.structured() {
		err = o.output.print(o.Out, struct {
			APIVersion string            `json:"apiVersion"`
			Kind       string            `json:"kind"`
			Cluster    cluster.Identity  `json:"cluster"`
			Tag        string            `json:"tag,omitempty"`
			Checks     []preflight.Check `json:"checks"`
		}{documentVersion, "Check", c.Identity(), o.tag, checks})
	} else if !o.output.name() {
		err = printChecks(o.Out, c.Identity(), checks)
	}
	if err == nil && preflight.Failed(checks) {
		err = errNotSafe
	}
	return err
}

// facts reads what the checks judge. That a step cannot be planned is a finding,
// not an error.
func (o *checkOptions) facts(ctx context.Context, c *cluster.Cluster) (preflight.Facts, error) {
	m, err := mesh.Read(ctx, c, o.istioNamespace)
	if err != nil {
		return preflight.Facts{}, err
	}
	facts := preflight.Facts{Mesh: m, Denied: map[string][]cluster.Permission{}}
	if o.tag != "" {
		facts.Steps = o.planSteps(ctx, c)
	}
	options := sidecars.Options{
		Namespace: *o.config.Namespace, IstioNamespace: o.istioNamespace,
		FieldManager: sidecars.DefaultFieldManager, PreviewTag: o.tag,
	}
	if facts.Sidecars, err = sidecars.NewPlan(ctx, c, options); err != nil {
		return preflight.Facts{}, err
	}
	byHand := slices.ContainsFunc(facts.Sidecars.Items, func(i sidecars.Item) bool { return i.Verdict == sidecars.ByHand })
	if byHand {
		_, facts.Istioctl = inject.FindIstioctl("")
	}
	for command, wanted := range permissions(options.Namespace, o.istioNamespace) {
		if facts.Denied[command], err = c.Denied(ctx, wanted); err != nil {
			return preflight.Facts{}, err
		}
	}
	return facts, nil
}

// planSteps plans the first two steps as an upgrade to the tag would.
func (o *checkOptions) planSteps(ctx context.Context, c *cluster.Cluster) []preflight.Step {
	change := &changeFlags{dryRun: dryRunClient, timeout: defaultTimeout, fieldManager: sidecars.DefaultFieldManager, wait: true}
	all := &allOptions{session: o.session, changeFlags: *change, targetFlags: o.targetFlags}
	all.noBackup = true
	found := []preflight.Step{{Name: "crds"}, {Name: "control-plane"}}
	stages, err := all.stages(c)
	for i := range found {
		if err != nil {
			found[i].Err = err
			continue
		}
		a, planErr := stages[i](ctx)
		found[i].Err, found[i].Refusals, found[i].Warnings = planErr, a.refusals, a.warnings
	}
	return found
}

// permissions are what the commands need at least, by command. The steps ask for
// the exact set before they write.
func permissions(namespace, istioNamespace string) map[string][]cluster.Permission {
	return map[string][]cluster.Permission{
		"crds": {
			{Verb: "list", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
			{Verb: "patch", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
		},
		"control-plane": {
			{Verb: "list", Resource: "secrets", Namespace: istioNamespace},
			{Verb: "create", Resource: "secrets", Namespace: istioNamespace},
			{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: istioNamespace},
		},
		"sidecars": {
			{Verb: "list", Resource: "pods", Namespace: namespace},
			{Verb: "watch", Resource: "pods", Namespace: namespace},
			{Verb: "create", Resource: "pods", Namespace: namespace},
			{Verb: "list", Group: "apps", Resource: "deployments", Namespace: namespace},
			{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: namespace},
			{Verb: "patch", Group: "apps", Resource: "statefulsets", Namespace: namespace},
			{Verb: "patch", Group: "apps", Resource: "daemonsets", Namespace: namespace},
		},
	}
}

var levelMarks = map[preflight.Level]string{preflight.OK: "✓", preflight.Warning: "‼", preflight.Failure: "×"}

// printChecks prints the list, a heading for each category.
func printChecks(w io.Writer, id cluster.Identity, checks []preflight.Check) error {
	fmt.Fprintln(w, escape("Check: context "+id.Context+", server "+id.Server))
	category := ""
	for _, c := range checks {
		if c.Category != category {
			category = c.Category
			fmt.Fprintln(w, "\n"+category)
		}
		fmt.Fprintln(w, levelMarks[c.Level]+" "+escape(c.Name))
		if c.Cause != "" {
			fmt.Fprintln(w, "    "+escape(c.Cause))
		}
		if c.Cure != "" {
			fmt.Fprintln(w, "    → "+escape(c.Cure))
		}
	}
	counts := map[preflight.Level]int{}
	for _, c := range checks {
		counts[c.Level]++
	}
	_, err := fmt.Fprintf(w, "\n%d ✓  %d ‼  %d ×\n", counts[preflight.OK], counts[preflight.Warning], counts[preflight.Failure])
	return err
}
