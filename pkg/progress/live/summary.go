package live

import (
	"fmt"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// mostListed is how many objects of one state the summary names.
const mostListed = 20

// Summary gives what a view leaves behind: how it ended, what failed and why,
// what was skipped, and what still moves where the run was cut short.
func (m *Model) Summary(now time.Time) []Line {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	var lines []Line
	for _, s := range m.steps {
		lines = append(lines, s.summary(now)...)
	}
	return lines
}

func (s *step) summary(now time.Time) []Line {
	head := Span{"✓ ", Good}
	text := s.message
	if !s.over {
		text = "ended early"
		if s.total > 0 {
			text += fmt.Sprintf(" after %d of %d", s.finished, s.total)
		}
	}
	if s.failures > 0 || !s.over {
		head = Span{"× ", Bad}
	}
	lines := []Line{{head, {s.name + ": " + text, Strong}, {" in " + span(now.Sub(s.began)), Faint}}}
	if len(s.failed) > 1 { // a single one is what the command's error tells of
		lines = append(lines, listed(s.failed, "× ", Bad, "failed")...)
	}
	lines = append(lines, listed(s.skipped, "- ", Plain, "skipped")...)
	lines = append(lines, listed(s.warnings, "‼ ", Warn, "warnings")...)
	return lines
}

// Moving names the objects that move now, those first that began first.
func (m *Model) Moving() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := []string{}
	for _, s := range m.steps {
		for _, it := range s.moving {
			names = append(names, title(it.Object))
		}
	}
	return names
}

func listed(items []*item, mark string, style Style, word string) []Line {
	var lines []Line
	for i, it := range items {
		if i == mostListed {
			return append(lines, Line{{fmt.Sprintf("%s%d more %s", mark, len(items)-i, word), style}})
		}
		text := it.message
		if it.Object != (progress.Object{}) {
			text = title(it.Object) + ": " + it.message
		}
		lines = append(lines, Line{{mark, style}, {text, Plain}})
	}
	return lines
}
