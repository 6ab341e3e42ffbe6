package plugin

import (
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// sidecarsTable gives what shows the plan of the workloads.
func sidecarsTable(p *sidecars.Plan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead("sidecars", p.Cluster, p.Scope))
		fmt.Fprintln(w, sidecarCounts(p))
		moving := newTable("NAMESPACE", "WORKLOAD", "PODS", "PROXY", "HOW", "IMPACT", "+REVISION")
		for _, item := range p.Moving() {
			moving.row(item.Namespace, item.String(), pods(&item), fromTo(&item), string(item.How), impact(&item), item.Revision)
		}
		staying := newTable("NAMESPACE", "WORKLOAD", "PROXY", "VERDICT", "WHY IT STAYS")
		for _, item := range p.Staying() {
			staying.row(item.Namespace, item.String(), fromTo(&item), string(item.Verdict), why(&item))
		}
		for _, part := range []struct {
			title string
			table *table
		}{{"Moves:", moving}, {"Stays, and lags:", staying}} {
			if len(part.table.Rows) == 0 {
				continue
			}
			fmt.Fprintln(w, "\n"+part.title)
			if err := part.table.print(w, wide); err != nil {
				return err
			}
		}
		byHandLines(w, p, wide)
		for _, text := range p.Warnings {
			fmt.Fprintln(w, "‼ "+escape(text))
		}
		return nil
	}
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
