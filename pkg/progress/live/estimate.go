package live

import (
	"fmt"
	"time"
)

// An estimate is given once this much of the work is done, in items, and this
// much time has passed: before, it would jump.
const (
	leastDone = 0.5
	leastTime = 3 * time.Second
)

// left estimates the time that a step still needs, from the time in which
// anything moved: pauses and soaking do not count. Items under way count by
// their pods. The second value is false where nothing can be said yet.
func (s *step) left(now time.Time) (time.Duration, bool) {
	s.count(now)
	done := float64(s.finished)
	for _, it := range s.moving {
		done += it.share() * 0.9 // the last pods of a rollout take longest
	}
	rest := float64(s.total) - done
	if s.total == 0 || rest <= 0 || done < leastDone || s.active < leastTime {
		return 0, false
	}
	return time.Duration(float64(s.active) * rest / done), true
}

// share says how much of an item is done, from 0 to 1.
func (it *item) share() float64 {
	if it.desired == 0 || it.child {
		return 0
	}
	return min(1, float64(min(it.updated, it.ready))/float64(it.desired))
}

// about gives a duration as precisely as an estimate deserves.
func about(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return "a few seconds"
	case d < time.Minute:
		return fmt.Sprintf("about %ds", int(d.Round(5*time.Second).Seconds()))
	case d < 10*time.Minute:
		return "about " + span(d.Round(10*time.Second))
	case d < time.Hour:
		return fmt.Sprintf("about %dm", int(d.Round(time.Minute).Minutes()))
	}
	d = d.Round(5 * time.Minute)
	return fmt.Sprintf("about %dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// span gives a duration in hours, minutes and seconds.
func span(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case h > 0:
		return fmt.Sprintf("%dh%02dm", h, m)
	case m > 0:
		return fmt.Sprintf("%dm%02ds", m, s)
	}
	return fmt.Sprintf("%ds", s)
}
