package plugin

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// sidecarsTable gives what shows the plan of the workloads: what moves by its
// impact, the worst first, then what stays and why. Wide, what moves stands in
// the order in which it will.
func sidecarsTable(p *sidecars.Plan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead("sidecars", p.Cluster, p.Scope))
		fmt.Fprintln(w, sidecarCounts(p))
		if line := impactCounts(p); line != "" {
			fmt.Fprintln(w, line)
		}
		if p.ExpectedSeconds > 0 {
			fmt.Fprintf(w, "Expected: about %s, by how long the present pods took to start\n", seconds(p.ExpectedSeconds))
		}
		show := movingGroups
		if wide {
			show = movingInOrder
		}
		if err := show(w, p); err != nil {
			return err
		}
		if err := stayingGroups(p).printUnder(w, "Stays, and lags:", wide); err != nil {
			return err
		}
		byHandLines(w, p, wide)
		warn(w, p.Warnings)
		return nil
	}
}

// movingGroups shows what moves, by its impact. Versions that are the same for
// all stand above.
func movingGroups(w io.Writer, p *sidecars.Plan) error {
	moving := p.Moving()
	if len(moving) == 0 {
		return nil
	}
	slices.SortFunc(moving, func(a, b sidecars.Item) int { return a.Compare(b.Ref) })
	title, columns := "Moves:", []string{"NAMESPACE", "WORKLOAD", "PODS", "HOW", "PROXY"}
	same := fromTo(&moving[0])
	if !slices.ContainsFunc(moving, func(i sidecars.Item) bool { return fromTo(&i) != same }) {
		title, columns = "Moves, "+same+":", columns[:4]
	}
	groups := newGrouped(columns...)
	for _, impacts := range [][]sidecars.Impact{{sidecars.Outage}, {sidecars.Refused}, {sidecars.AtRisk}, {sidecars.NoImpact, ""}} {
		for _, item := range moving {
			if slices.Contains(impacts, item.Impact) {
				cells := []any{item.Namespace, item.String(), pods(&item), string(item.How), fromTo(&item)}
				groups.row(impactHeading(&item), impactStyle(item.Impact), cells[:len(columns)]...)
			}
		}
	}
	return groups.printUnder(w, title, false)
}

func movingInOrder(w io.Writer, p *sidecars.Plan) error {
	moving := newTable("NAMESPACE", "WORKLOAD", "PODS", "PROXY", "EXPECTED", "HOW", "IMPACT", "REVISION")
	var marks []mark
	for _, item := range p.Moving() {
		moving.row(item.Namespace, item.String(), pods(&item), fromTo(&item), expected(&item), string(item.How), impact(&item), item.Revision)
		marks = append(marks, mark{cell(impact(&item)), impactStyle(item.Impact)})
	}
	if len(moving.Rows) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nMoves, in this order:")
	return moving.printMarked(w, marks)
}

// stayingGroups gives what stays although it lags, by the reason.
func stayingGroups(p *sidecars.Plan) *grouped {
	groups := newGrouped("NAMESPACE", "WORKLOAD", "PODS", "PROXY", "+REVISION")
	for _, item := range p.Staying() {
		heading := strings.TrimSuffix(string(item.Verdict)+": "+why(&item), ": ")
		style := live.Warn
		if item.Verdict == sidecars.Loses {
			style = live.Bad
		}
		groups.row(heading, style, item.Namespace, item.String(), pods(&item), fromTo(&item), item.Revision)
	}
	return groups
}

// printUnder prints the groups under a title; nothing where there are none.
func (g *grouped) printUnder(w io.Writer, title string, wide bool) error {
	if len(g.groups) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\n"+escape(title))
	return g.print(w, wide)
}

// impactHeading says in words what moving a workload disturbs.
func impactHeading(item *sidecars.Item) string {
	switch text := impact(item); {
	case text == "" || text == string(sidecars.NoImpact):
		return "no impact: a pod is ready at every moment"
	case item.Impact == sidecars.NoImpact:
		return "no impact; " + item.Reason
	default:
		return text
	}
}

func impactStyle(i sidecars.Impact) live.Style {
	switch i {
	case sidecars.Outage, sidecars.Refused:
		return live.Bad
	case sidecars.AtRisk:
		return live.Warn
	}
	return live.Good
}

// impactCounts sums up what moving disturbs; empty where nothing moves.
func impactCounts(p *sidecars.Plan) string {
	counts := map[sidecars.Impact]int{}
	for _, item := range p.Moving() {
		counts[item.Impact]++
	}
	parts := []string{}
	for _, i := range []sidecars.Impact{sidecars.Outage, sidecars.Refused, sidecars.AtRisk, sidecars.NoImpact} {
		if counts[i] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[i], i))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Impact of moving: " + strings.Join(parts, ", ")
}

// planHead names the step, the cluster and the scope: the wrong cluster is the
// classic mistake.
func planHead(step string, id cluster.Identity, scope string) string {
	return escape(fmt.Sprintf("Plan for %s: context %s, server %s, %s", step, id.Context, id.Server, scope))
}

func sidecarCounts(p *sidecars.Plan) string {
	counts := p.Count()
	var parts []string
	for _, v := range sidecars.Verdicts {
		if n := counts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	if len(parts) == 0 {
		return "No workload has a proxy or should have one."
	}
	return fmt.Sprintf("%s: %s; %d move", plural(len(p.Items), "workload"), strings.Join(parts, ", "), len(p.Moving()))
}

// expected gives "30s", empty where nobody knows.
func expected(item *sidecars.Item) string {
	if item.ExpectedSeconds == 0 {
		return ""
	}
	return seconds(item.ExpectedSeconds)
}

func seconds(n int) string { return (time.Duration(n) * time.Second).String() }

func pods(item *sidecars.Item) string { return fmt.Sprintf("%d/%d", item.Ready, item.Pods) }

// fromTo gives "1.30.2 → 1.31.0", with the form where that changes.
func fromTo(item *sidecars.Item) string {
	from := "none"
	if len(item.Proxies) > 0 {
		from = proxyName(item.Proxies[0].ProxyForm)
		if n := len(item.Proxies) - 1; n > 0 {
			from += fmt.Sprintf(" (+%d)", n)
		}
	}
	if item.To == nil {
		return from
	}
	to := proxyName(*item.To)
	if len(item.Proxies) > 0 && item.Proxies[0].Native != item.To.Native {
		form := map[bool]string{true: "native", false: "classic"}
		to += " " + form[item.To.Native]
		from += " " + form[!item.To.Native]
	}
	if from == to {
		return from
	}
	return from + " → " + to
}

// proxyName gives a proxy's version, or the end of its image where the tag is
// no version.
func proxyName(f sidecars.ProxyForm) string {
	if f.Version != "" {
		return f.Version
	}
	name := f.Image[strings.LastIndex(f.Image, "/")+1:]
	if i := strings.Index(name, "@sha256:"); i >= 0 && len(name) > i+15 {
		return name[i+1 : i+15]
	}
	return name
}

func impact(item *sidecars.Item) string {
	text := string(item.Impact)
	if item.ImpactReason != "" {
		text += ": " + item.ImpactReason
	}
	switch {
	case item.Reason == "":
		return text
	case text == "":
		return item.Reason
	}
	return text + "; " + item.Reason
}

func why(item *sidecars.Item) string {
	if item.Held != "" {
		return item.Held
	}
	return item.Reason
}
