package sidecars

import (
	"cmp"
	"slices"
)

// order puts what moves before what stays, the harmless first, gateways last.
// Of equally harmless ones, the slow go first once the canaries are through: one
// that is started last would keep the run waiting alone. So many workloads as
// are to be canaries stand in the order of their names, and so does what stays.
func (p *Plan) order(canaries int) {
	slices.SortFunc(p.Items, func(a, b Item) int { return cmp.Or(byHarm(&a, &b), a.Compare(b.Ref)) })
	moving := len(p.Moving())
	slices.SortStableFunc(p.Items[min(canaries, moving):moving], func(a, b Item) int {
		return cmp.Or(byHarm(&a, &b), cmp.Compare(b.ExpectedSeconds, a.ExpectedSeconds))
	})
}

// harm says which impacts are worse than others.
var harm = map[Impact]int{NoImpact: 0, AtRisk: 1, Outage: 2}

func byHarm(a, b *Item) int {
	return cmp.Or(
		cmp.Compare(btoi(a.How == Nothing), btoi(b.How == Nothing)),
		cmp.Compare(btoi(a.Gateway), btoi(b.Gateway)),
		cmp.Compare(harm[a.Impact], harm[b.Impact]))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// expected is how many seconds moving all takes where so many move at a time,
// each as long as is expected of it; 0 where of none is known how long it takes.
func (p *Plan) expected(parallel int) int {
	moving := p.Moving()
	lanes := make([]int, max(1, min(parallel, len(moving))))
	for _, item := range moving {
		free := slices.Index(lanes, slices.Min(lanes))
		lanes[free] += item.ExpectedSeconds
	}
	return slices.Max(lanes)
}
