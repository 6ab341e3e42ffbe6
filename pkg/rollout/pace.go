package rollout

import "time"

// pace is how many workloads may move at a time: Options.MaxParallel while the
// API server answers promptly, fewer while it does not. It is busy then with the
// rollouts that are under way; more of them end little earlier, and make everybody
// else's requests wait (docs/performance.md).
type pace struct {
	window  int           // how many may move now; 0 before the first
	fastest time.Duration // the promptest answer so far
}

const (
	// unhurried is how many may move at a time however slow the answers are: the
	// default of --max-parallel.
	unhurried = 10
	// An answer is slow that takes longer than this, and so many times as long as
	// the promptest: an API server far away, or one with slow webhooks, is not busy
	// for that.
	slowAnswer = 50 * time.Millisecond
	slowTimes  = 5
)

// limit is how many may move now, of at most so many.
func (p *pace) limit(most int) int {
	most = max(1, most)
	return min(most, max(unhurried, p.window))
}

// answered notes how long the API server took for the change of one workload.
// Each prompt answer lets one more move at a time, so that as many as may move
// do within a few; each slow one takes one away.
func (p *pace) answered(took time.Duration, most int) {
	if p.fastest == 0 || took < p.fastest {
		p.fastest = took
	}
	if took > max(slowAnswer, slowTimes*p.fastest) {
		p.window = p.limit(most) - 1
		return
	}
	p.window = p.limit(most) + 1
}
