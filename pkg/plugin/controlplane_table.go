package plugin

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
)

// controlPlaneTable gives what shows the plan of the releases.
func controlPlaneTable(p *controlplane.Plan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead(controlplane.Step, p.Cluster, "revision "+p.Revision+", to "+p.Target+", charts from "+p.Charts))
		releases := newTable("NAMESPACE", "RELEASE", "COMPONENT", "CHART", "TAG", "ACTION", "WHY", "+HELM REVISION")
		for _, r := range p.Releases {
			releases.row(r.Namespace, r.Name, string(r.Component), arrow(r.ChartFrom, r.ChartTo), arrow(r.TagFrom, r.TagTo), string(r.Action), r.Reason, fmt.Sprint(r.HelmRevision))
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
