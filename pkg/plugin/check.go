package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/preflight"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

const checkExample = `  # Is the mesh fit to be upgraded?
  kubectl istio-upgrade check

  # To this version, with everything that stands in the way
  kubectl istio-upgrade check --tag 1.31.0 -A`

type checkOptions struct {
	*session
	targetFlags
	look     lookFlags
	istioctl string
}

func newCheckCommand(s *session) *cobra.Command {
	o := &checkOptions{session: s}
	cmd := &cobra.Command{
		Use:   "check [--tag TAG]",
		Short: "Say whether an upgrade is safe, and what stands in its way",
		Long: `Say whether an upgrade is safe, and what stands in its way.

Reads only. With --tag the steps are planned as for an upgrade to that version,
all that would refuse them is listed, and the registries are asked for the images
that it brings. Ends with exit code 1 where a × stands.`,
		Example: checkExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.look.validate(o.session); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	o.look.add(cmd.Flags())
	o.targetFlags.add(cmd.Flags())
	cmd.Flags().StringVar(&o.istioctl, "istioctl", "", "The istioctl for workloads injected by hand (default the one on PATH)")
	return cmd
}

// notSafe ends check where a × stands. Where the list is not shown, it names what
// failed.
func (o *checkOptions) notSafe(checks []preflight.Check) error {
	if !o.look.output.structured() && !o.look.output.name() {
		return errors.New("not safe yet: see the lines with ×")
	}
	var failed []string
	for _, c := range checks {
		if c.Level == preflight.Failure {
			failed = append(failed, c.Name)
		}
	}
	return errors.New("not safe yet: " + strings.Join(failed, "; "))
}

func (o *checkOptions) run(ctx context.Context) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	read := o.reading()
	facts, err := o.facts(ctx, c)
	read()
	if err != nil {
		return err
	}
	checks := preflight.Judge(facts)
	if o.look.output.structured() {
		err = o.look.output.print(o.Out, checkDocument{documentVersion, "Check", c.Identity(), o.tag, checks})
	} else if !o.look.output.name() {
		err = printChecks(o.Out, c.Identity(), checks)
	}
	if err == nil && preflight.Failed(checks) {
		err = o.notSafe(checks)
	}
	return err
}

var levelStyles = map[preflight.Level]live.Style{preflight.OK: live.Good, preflight.Warning: live.Warn, preflight.Failure: live.Bad}

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
		mark := levelMarks[c.Level]
		if colours(w) {
			mark = styled(mark, levelStyles[c.Level])
		}
		fmt.Fprintln(w, mark+" "+escape(c.Name))
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
