package live

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// Style says what a piece of text means; what it looks like is the terminal's
// affair.
type Style int

// The styles.
const (
	Plain Style = iota
	Strong
	Faint
	Good
	Bad
	Warn
	Busy
)

// Span is text in one style.
type Span struct {
	Text  string
	Style Style
}

// Line is one line of the view.
type Line []Span

// String gives a line without its styles.
func (l Line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return b.String()
}

// cut shortens a line to a width in cells.
func (l Line) cut(width int) Line {
	for i, s := range l {
		w := ansi.StringWidth(s.Text)
		if w > width {
			l[i].Text = ansi.Truncate(s.Text, max(0, width), "…")
			return l[:i+1]
		}
		width -= w
	}
	return l
}

const (
	leastWidth  = 20
	mostRows    = 30 // a view that fills a tall terminal is no easier to read
	mostColumns = 120
	leastHeight = 4
)

// Lines gives the view at a time, in a terminal of this size. There are always
// fewer lines than the terminal has, none wider than it. Hint names the keys.
func (m *Model) Lines(width, height int, now time.Time, hint string) []Line {
	m.mu.Lock()
	defer m.mu.Unlock()
	width, height = min(max(width, leastWidth), mostColumns), min(max(height, leastHeight), mostRows)
	s := m.top()
	if s == nil || m.ended {
		return nil
	}
	// A terminal's last column and line make some terminals scroll.
	width--
	lines := []Line{m.bar(s, width, now), m.counts(s, width, hint)}
	room := height - 1 - len(lines)
	next := s.next(width)
	if next != nil {
		room--
	}
	failed := s.causes(width, max(1, room/3))
	waits := s.waits(width)
	room -= len(failed) + len(waits)
	lines = append(lines, s.rows(width, room, now)...)
	lines = append(lines, waits...)
	lines = append(lines, failed...)
	if next != nil {
		lines = append(lines, next)
	}
	lines = lines[:min(len(lines), height-1)]
	for i := range lines {
		lines[i] = lines[i].cut(width)
	}
	return lines
}

// bar is the line of the overall progress.
func (m *Model) bar(s *step, width int, now time.Time) Line {
	name := s.name
	if m.Stages > 1 {
		name = fmt.Sprintf("%s (%d of %d)", name, m.Stage, m.Stages)
	}
	if namespace := s.namespace(); namespace != "" {
		name += " in " + middle(namespace, leastWidth)
	}
	tail := span(now.Sub(s.began))
	if left, known := s.left(now); known {
		tail += ", " + about(left) + " left"
	}
	if s.total == 0 {
		return Line{{name + "  ", Strong}, {s.message + "  ", Plain}, {tail, Faint}}
	}
	numbers := fmt.Sprintf(" %d/%d  %d%%  ", s.finished, s.total, s.finished*100/s.total)
	cells := min(40, width-ansi.StringWidth(name+numbers+tail)-2)
	if cells < 5 {
		return Line{{name, Strong}, {" " + numbers, Plain}, {tail, Faint}}
	}
	full := min(cells, cells*s.finished/s.total)
	style := Good
	if s.failures > 0 {
		style = Bad
	}
	return Line{
		{name + "  ", Strong},
		{strings.Repeat("█", full), style},
		{strings.Repeat("░", cells-full), Faint},
		{numbers, Plain},
		{tail, Faint},
	}
}

// counts is the line of how many objects there are in each state.
func (m *Model) counts(s *step, width int, hint string) Line {
	parts := []string{}
	add := func(n int, word string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	add(len(s.moving), "moving")
	add(len(s.waiting), "waiting")
	add(s.failures, "failed")
	add(len(s.skipped), "skipped")
	add(max(0, len(s.coming)-len(s.waiting)), "to come")
	line := Line{{"  " + strings.Join(parts, " · "), Plain}}
	switch {
	case m.paused:
		line = Line{{"  paused: nothing new starts", Warn}, {" · " + strings.Join(parts, " · "), Plain}}
	case s.note != "":
		line = append(line, Span{"  … " + s.note, Warn})
	}
	if gap := width - ansi.StringWidth(line.String()) - ansi.StringWidth(hint); hint != "" && gap >= 2 {
		line = append(line, Span{strings.Repeat(" ", gap) + hint, Faint})
	}
	return line
}

// rows are the objects that move, those that moved first on top.
func (s *step) rows(width, room int, now time.Time) []Line {
	shown := s.moving
	if room <= 0 || len(shown) == 0 {
		return nil
	}
	more := 0
	if len(shown) > room {
		more = len(shown) - room + 1
		shown = shown[:room-1]
	}
	names := 0
	for _, it := range shown {
		names = max(names, ansi.StringWidth(s.title(it.Object)))
	}
	names = min(names, max(leastWidth, width-42)) // the rest is for the pods and the time
	lines := make([]Line, 0, room)
	for _, it := range shown {
		lines = append(lines, it.row(s.title(it.Object), names, now))
	}
	if more > 0 {
		lines = append(lines, Line{{fmt.Sprintf("  and %d more", more), Faint}})
	}
	return lines
}

// row is an object that moves: its name, its pods, for how long.
func (it *item) row(name string, names int, now time.Time) Line {
	name = middle(name, names)
	line := Line{{"→ ", Busy}, {name + strings.Repeat(" ", max(0, names-ansi.StringWidth(name))) + "  ", Plain}}
	if it.child {
		line[0] = Span{"  ", Plain}
	}
	switch {
	case it.trouble:
		return append(line, Span{it.message, Warn})
	case it.desired > 0:
		style := Plain
		if it.ready < it.desired {
			style = Warn
		}
		ready := min(it.ready, it.desired) // without those of a surge
		line = append(line,
			Span{fmt.Sprintf("new %-7s ", fmt.Sprintf("%d/%d", it.updated, it.desired)), Plain},
			Span{fmt.Sprintf("ready %-7s ", fmt.Sprintf("%d/%d", ready, it.desired)), style},
			Span{span(now.Sub(it.since)), Faint})
	default:
		line = append(line, Span{span(now.Sub(it.since)) + " ", Faint}, Span{it.message, Plain})
	}
	return line
}

// waits are the objects that are not started for now, in one line.
func (s *step) waits(width int) []Line {
	if len(s.waiting) == 0 {
		return nil
	}
	it := s.waiting[0]
	text := s.title(it.Object) + ": " + it.message
	if n := len(s.waiting) - 1; n > 0 {
		tail := fmt.Sprintf(" (and %d more)", n)
		text = ansi.Truncate(text, max(0, width-2-ansi.StringWidth(tail)), "…") + tail
	}
	return []Line{{{"… ", Warn}, {text, Plain}}}
}

// causes are the objects that failed and why, the newest ones where there is
// no room for all.
func (s *step) causes(width, room int) []Line {
	shown, more := s.failed, 0
	if len(shown) > room {
		more = len(shown) - max(0, room-1)
		shown = shown[more:]
	}
	var lines []Line
	if more > 0 {
		lines = append(lines, Line{{fmt.Sprintf("× %d failed before", more), Bad}})
	}
	for _, it := range shown {
		lines = append(lines, failure(it, s.title(it.Object), width))
	}
	// What is left of the room goes to causes that are longer than a line.
	for i := len(lines) - 1; i >= 0 && len(lines) < room; i-- {
		if text := lines[i].String(); ansi.StringWidth(text) > width {
			parts := strings.SplitN(ansi.Wrap(text, width-2, " "), "\n", 2)
			rest := strings.ReplaceAll(parts[len(parts)-1], "\n", " ")
			lines[i] = Line{{parts[0], Bad}}
			lines = slices.Insert(lines, i+1, Line{{"  " + rest, Bad}})
		}
	}
	return lines
}

// failure names an object and its cause; a long name leaves room for the cause.
func failure(it *item, name string, width int) Line {
	if it.Object == (progress.Object{}) {
		return Line{{"× " + it.message, Bad}}
	}
	return Line{{"× " + middle(name, max(leastWidth, width/2)) + ": " + it.message, Bad}}
}

// next names what comes next, as many as fit.
func (s *step) next(width int) Line {
	const head = "  next: "
	waits := map[progress.Object]bool{}
	for _, it := range s.waiting {
		waits[it.Object] = true
	}
	coming := slices.DeleteFunc(slices.Clone(s.coming), func(o progress.Object) bool { return waits[o] })
	if len(coming) == 0 {
		return nil
	}
	text := head
	for i, o := range coming {
		piece := s.title(o)
		if i > 0 {
			piece = ", " + piece
		}
		tail := ""
		if rest := len(coming) - i - 1; rest > 0 {
			tail = fmt.Sprintf(" and %d more", rest)
		}
		if i > 0 && ansi.StringWidth(text+piece+tail) > width {
			return Line{{text + fmt.Sprintf(" and %d more", len(coming)-i), Faint}}
		}
		text += piece
	}
	return Line{{text, Faint}}
}

// namespace gives the namespace that all planned objects of the step are in;
// empty where there are several, or none is planned.
func (s *step) namespace() string {
	if len(s.namespaces) == 1 {
		for namespace := range s.namespaces {
			return namespace
		}
	}
	return ""
}

// title names an object of the step, without the namespace where all are in one.
func (s *step) title(o progress.Object) string {
	if o.Namespace == s.namespace() {
		o.Namespace = ""
	}
	return title(o)
}

// title names an object as the plain log does.
func title(o progress.Object) string {
	text := strings.ToLower(o.Kind) + "/" + o.Name
	if o.Namespace != "" {
		text += " in " + o.Namespace
	}
	return text
}

// middle shortens text to a width by its middle: names differ at their ends.
func middle(text string, width int) string {
	w := ansi.StringWidth(text)
	if w <= width || width < 5 {
		return ansi.Truncate(text, width, "…")
	}
	head := (width - 1) / 2
	return ansi.Truncate(text, head, "") + "…" + ansi.TruncateLeft(text, w-(width-1-head), "")
}
