package plugin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// namespaceState sums up a namespace in which workloads have a proxy or should
// have one.
type namespaceState struct {
	Name string `json:"name"`
	// Revisions serve its workloads.
	Revisions []string `json:"revisions"`
	Workloads int      `json:"workloads"`
	// Proxies are the pods that run one.
	Proxies  int            `json:"proxies"`
	Verdicts []verdictCount `json:"verdicts"`
}

// verdictCount is how many workloads have a verdict, and how many proxies run in
// their pods.
type verdictCount struct {
	Verdict   sidecars.Verdict `json:"verdict"`
	Workloads int              `json:"workloads"`
	Proxies   int              `json:"proxies"`
}

// namespaceStates sums workloads up by namespace, in the order of their names.
func namespaceStates(items []sidecars.Item) []namespaceState {
	states := []namespaceState{}
	index := map[string]int{}
	for i := range items {
		item := &items[i]
		at, known := index[item.Namespace]
		if !known {
			at = len(states)
			index[item.Namespace] = at
			states = append(states, namespaceState{Name: item.Namespace, Revisions: []string{}, Verdicts: []verdictCount{}})
		}
		states[at].add(item)
	}
	for i := range states {
		slices.Sort(states[i].Revisions)
		slices.SortFunc(states[i].Verdicts, func(a, b verdictCount) int {
			return cmp.Compare(slices.Index(sidecars.Verdicts, a.Verdict), slices.Index(sidecars.Verdicts, b.Verdict))
		})
	}
	slices.SortFunc(states, func(a, b namespaceState) int { return cmp.Compare(a.Name, b.Name) })
	return states
}

func (n *namespaceState) add(item *sidecars.Item) {
	proxies := 0
	for _, p := range item.Proxies {
		proxies += int(p.Pods)
	}
	n.Workloads++
	n.Proxies += proxies
	if item.Revision != "" && !slices.Contains(n.Revisions, item.Revision) {
		n.Revisions = append(n.Revisions, item.Revision)
	}
	at := slices.IndexFunc(n.Verdicts, func(v verdictCount) bool { return v.Verdict == item.Verdict })
	if at < 0 {
		at = len(n.Verdicts)
		n.Verdicts = append(n.Verdicts, verdictCount{Verdict: item.Verdict})
	}
	n.Verdicts[at].Workloads++
	n.Verdicts[at].Proxies += proxies
}

func namespaceTable(states []namespaceState) *table {
	t := newTable("NAMESPACE", "REVISION", "WORKLOADS", "PROXIES", "PROXIES BY VERDICT")
	for _, n := range states {
		counts := make([]string, len(n.Verdicts))
		for i, v := range n.Verdicts {
			counts[i] = fmt.Sprintf("%d %s", v.Proxies, v.Verdict)
		}
		t.row(n.Name, strings.Join(n.Revisions, ","), n.Workloads, n.Proxies, strings.Join(counts, ", "))
	}
	return t
}
