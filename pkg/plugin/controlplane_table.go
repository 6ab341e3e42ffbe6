package plugin

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

// controlPlaneTable gives what shows the plan of the releases.
func controlPlaneTable(p *controlplane.Plan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead(controlplane.Step, p.Cluster, "revision "+p.Revision+", to "+p.Target+", charts from "+p.Charts))
		if err := releasesTable(w, p.Releases, wide); err != nil {
			return err
		}
		for _, r := range p.Releases {
			releaseDetails(w, r, wide)
		}
		printReleaseDiffs(w, p.Releases)
		printRaised(w, p.Raised)
		warn(w, p.Warnings)
		return nil
	}
}

// releasesTable shows what happens to releases, in their order; why stands below
// it, since it has no width.
func releasesTable(w io.Writer, releases []controlplane.ReleasePlan, wide bool) error {
	groups := newGrouped("NAMESPACE", "RELEASE", "CHART", "TAG", "+COMPONENT", "+HELM REVISION")
	for _, r := range releases {
		style := live.Strong
		if r.Action == controlplane.None {
			style = live.Plain
		}
		groups.row(string(r.Action), style, r.Namespace, r.Name, chartArrow(r.ChartFrom, r.ChartTo), arrow(r.TagFrom, r.TagTo), string(r.Component), fmt.Sprint(r.HelmRevision))
	}
	if err := groups.print(w, wide); err != nil {
		return err
	}
	for _, r := range releases {
		if r.Reason != "" {
			fmt.Fprintln(w, escape("  "+r.Name+": "+r.Reason))
		}
	}
	return nil
}

// chartArrow gives "istiod-1.30.2 → 1.31.0": the name stands once where it stays.
func chartArrow(from, to string) string {
	name := from[:strings.LastIndex(from, "-")+1]
	if version, same := strings.CutPrefix(to, name); same && name != "" && from != to {
		return from + " → " + version
	}
	return arrow(from, to)
}

// releaseDetails lists a release's values and objects that change.
func releaseDetails(w io.Writer, r controlplane.ReleasePlan, wide bool) {
	if len(r.Values) > 0 {
		fmt.Fprintf(w, "\nValues of %s that change:\n", escape(r.Name))
		for _, v := range r.Values {
			fmt.Fprintln(w, escape(fmt.Sprintf("  %s: %s", v.Path, arrow(valueText(v.From), valueText(v.To)))))
		}
	}
	if len(r.Objects) == 0 {
		return
	}
	counts := map[string]int{}
	for _, o := range r.Objects {
		counts[o.Change]++
	}
	fmt.Fprintf(w, "\nObjects of %s: %d added, %d changed, %d removed\n", escape(r.Name), counts["added"], counts["changed"], counts["removed"])
	for _, o := range r.Objects {
		if wide || o.Change != "changed" {
			fmt.Fprintln(w, escape(fmt.Sprintf("  %s/%s %s", strings.ToLower(o.Kind), o.Name, o.Change)))
		}
	}
}

// valueText gives a value on one line; "unset" for none.
func valueText(value any) string {
	if value == nil {
		return "unset"
	}
	return fmt.Sprint(value)
}

// arrow gives "from → to", or one of them where that says it all.
func arrow(from, to string) string {
	switch {
	case from == to || to == "":
		return from
	case from == "":
		return to
	}
	return from + " → " + to
}

func joined(words []string) string { return strings.Join(words, ", ") }
