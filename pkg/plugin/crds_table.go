package plugin

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

// crdsTable gives what shows the plan of the definitions.
func crdsTable(p *crds.Plan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead(crds.Step, p.Cluster, "cluster-wide, to "+p.Tag+", charts from "+p.Source))
		switch r := p.Release; {
		case p.Action == crds.Verify:
			fmt.Fprintln(w, "The definitions come from elsewhere: nothing is written")
		case r != nil:
			fmt.Fprintln(w, escape(fmt.Sprintf("Release %s in %s: %s (%s)", r.Name, r.Namespace, arrow(r.ChartFrom, r.ChartTo), r.Action)))
		case p.Action != crds.Nothing:
			fmt.Fprintln(w, "No Helm release owns them: they are applied")
		}
		fmt.Fprintln(w, definitionCounts(p))
		definitions := newGrouped("NAME", "VERSIONS", "STORAGE", "OBJECTS", "+OWNER")
		for _, change := range p.CRDs {
			if change.Action == crds.Unchanged && !wide {
				continue
			}
			style := live.Plain
			if change.Action != crds.Unchanged {
				style = live.Strong
			}
			definitions.row(changeText(change), style, change.Name, versionsText(change), arrow(change.StorageFrom, change.StorageTo), fmt.Sprint(objects(p, change.Name)), change.Owner)
		}
		if len(definitions.groups) > 0 {
			fmt.Fprintln(w)
		}
		if err := definitions.print(w, wide); err != nil {
			return err
		}
		for _, object := range p.Invalid {
			for _, problem := range object.Errors {
				fmt.Fprintln(w, "‼ "+escape(fmt.Sprintf("%s/%s in %s, %s: %s", strings.ToLower(object.Kind), object.Name, object.Namespace, object.Version, problem)))
			}
		}
		for _, job := range p.LeftoverJobs {
			fmt.Fprintln(w, "‼ "+escape("job "+job+" is left over, and removed first"))
		}
		printDefinitionDiffs(w, p.CRDs)
		warn(w, p.Warnings)
		if p.Backup != "" {
			fmt.Fprintln(w, "Backup: "+escape(p.Backup))
		}
		return nil
	}
}

// definitionCounts sums the definitions up by what happens to them.
func definitionCounts(p *crds.Plan) string {
	counts, order := map[string]int{}, []string{}
	for _, c := range p.CRDs {
		if counts[c.Action] == 0 {
			order = append(order, c.Action)
		}
		counts[c.Action]++
	}
	parts := []string{}
	for _, action := range order {
		parts = append(parts, fmt.Sprintf("%d %s", counts[action], action))
	}
	total := 0
	for _, count := range p.Objects {
		total += count.Objects
	}
	return strings.TrimSuffix(fmt.Sprintf("%s: %s", plural(len(p.CRDs), "definition"), strings.Join(parts, ", ")), ": ") +
		"; " + plural(total, "object") + " kept"
}

func changeText(c crds.Change) string {
	if c.AdoptedFrom != "" {
		return c.Action + " (from " + c.AdoptedFrom + ")"
	}
	return c.Action
}

// versionsText gives "+v1 -v1alpha3".
func versionsText(c crds.Change) string {
	words := []string{}
	for _, v := range c.VersionsAdded {
		words = append(words, "+"+v)
	}
	for _, v := range c.VersionsRemoved {
		words = append(words, "-"+v)
	}
	return strings.Join(words, " ")
}

func objects(p *crds.Plan, name string) int {
	for _, count := range p.Objects {
		if count.CRD == name {
			return count.Objects
		}
	}
	return 0
}
