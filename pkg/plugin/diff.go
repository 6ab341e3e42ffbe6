package plugin

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
)

// printDiff prints a unified diff, line by line, with nothing in it that could
// drive the terminal.
func printDiff(w io.Writer, text string) {
	if text == "" {
		return
	}
	fmt.Fprintln(w)
	for line := range strings.Lines(text) {
		fmt.Fprintln(w, escape(strings.TrimSuffix(line, "\n")))
	}
}

// printReleaseDiffs prints what changes in values and objects of releases, where
// the plan has it.
func printReleaseDiffs(w io.Writer, releases []controlplane.ReleasePlan) {
	for _, r := range releases {
		printDiff(w, r.ValuesDiff)
		for _, o := range r.Objects {
			printDiff(w, o.Diff)
		}
	}
}

// printDefinitionDiffs prints what changes in definitions, where the plan has it.
func printDefinitionDiffs(w io.Writer, changes []crds.Change) {
	for _, c := range changes {
		printDiff(w, c.Diff)
	}
}

// printRaised says which numbers of replicas are raised for a while, and which an
// earlier run has left so.
func printRaised(w io.Writer, raised []controlplane.Raise) {
	for _, r := range raised {
		text := fmt.Sprintf("For the length of the upgrade: %s %d → %d", r, r.From, r.To)
		if r.Left {
			text = fmt.Sprintf("An earlier run has raised the %s; it goes back to %d", r, r.From)
		}
		fmt.Fprintln(w, escape(text))
	}
}
