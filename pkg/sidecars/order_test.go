package sidecars

import (
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

func TestOrder(t *testing.T) {
	item := func(name string, how How, impact Impact, seconds int) Item {
		return Item{Ref: workload.Ref{Name: name}, How: how, Impact: impact, ExpectedSeconds: seconds}
	}
	gateway := item("edge", Restart, NoImpact, 90)
	gateway.Gateway = true
	items := []Item{
		item("alone", Restart, Outage, 60), item("held", Nothing, Outage, 50), item("asleep", Nothing, Outage, 0), gateway,
		item("c", Restart, NoImpact, 30), item("b", Restart, NoImpact, 5), item("a", Restart, NoImpact, 1),
		item("d", Restart, NoImpact, 5), item("tight", Restart, AtRisk, 40),
	}
	for _, tc := range []struct {
		name     string
		canaries int
		want     string
	}{
		{"the slow first, gateways and what stays last", 0, "c b d a tight alone edge asleep held"},
		{"canaries by their names, then the slow", 2, "a b c d tight alone edge asleep held"},
		{"more canaries than workloads", 20, "a b c d tight alone edge asleep held"},
	} {
		p := &Plan{Items: append([]Item{}, items...)}
		p.order(tc.canaries)
		var names []string
		for i := range p.Items {
			names = append(names, p.Items[i].Name)
		}
		if got := strings.Join(names, " "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestExpected(t *testing.T) {
	p := &Plan{Items: []Item{
		{How: Restart, ExpectedSeconds: 30},
		{How: Restart, ExpectedSeconds: 20},
		{How: Restart, ExpectedSeconds: 10},
		{How: Restart},
		{How: Nothing, ExpectedSeconds: 600},
	}}
	for parallel, want := range map[int]int{1: 60, 2: 30, 10: 30, 1 << 30: 30} {
		if got := p.expected(parallel); got != want {
			t.Errorf("%d at a time: %d s, want %d", parallel, got, want)
		}
	}
	if got := (&Plan{}).expected(3); got != 0 {
		t.Errorf("nothing to move: %d", got)
	}
}
