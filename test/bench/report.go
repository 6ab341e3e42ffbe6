package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// report gathers what was measured.
type report struct {
	goals  []goal
	tables []table
	facts  []string
}

// goal is a line of the speed table.
type goal struct {
	work, peer     string
	ours, theirs   string
	goal, measured string
	met            bool
	// note says of a line that is not met what its floor is and why; of others
	// what a reader has to know of the figure.
	note string
}

// table is a further table, or a text alone where it has no rows.
type table struct {
	title, text string
	head        []string
	rows        [][]string
}

// atMost adds a line whose measure is ours against the peer's.
func (r *report) atMost(work, peer, unit string, ours, theirs []float64, bound float64) goal {
	got := ratio(ours, theirs)
	return r.add(goal{
		work: work, peer: peer, ours: spreadOf(ours).text(unit), theirs: spreadOf(theirs).text(unit),
		goal: fmt.Sprintf("≤ %v ×", bound), measured: got.text("×"), met: got.Median <= bound,
	})
}

// faster adds a line whose measure is how many times the peer takes what ours
// takes.
func (r *report) faster(work, peer, unit string, ours, theirs []float64, bound float64) goal {
	got := ratio(theirs, ours)
	return r.add(goal{
		work: work, peer: peer, ours: spreadOf(ours).text(unit), theirs: spreadOf(theirs).text(unit),
		goal: fmt.Sprintf("≥ %v × faster", bound), measured: got.text("×"), met: got.Median >= bound,
	})
}

// bounded adds a line whose measure is held against a figure of its own: none of
// the rounds may be above it.
func (r *report) bounded(work, unit string, ours []float64, bound float64) goal {
	got := spreadOf(ours)
	text := func(figure string) string { return strings.TrimSpace(figure + " " + unit) }
	return r.add(goal{
		work: work, ours: text(got.whole()), goal: text(fmt.Sprintf("≤ %.0f", bound)),
		measured: text(fmt.Sprintf("%.0f", got.Most)), met: got.Most <= bound,
	})
}

func (r *report) add(g goal) goal {
	if g.note == "" {
		g.note = notes[g.work]
	}
	r.goals = append(r.goals, g)
	return g
}

// notes say of lines of the table, by their work, what their floor is and why.
// One whose goal is not met needs a note, with the profile that shows it in
// docs/performance.md; there are none that a run has not called for.
var notes = map[string]string{
	"roll 200 workloads that need 3s each, 20 at a time":                                      scheduleNote,
	"roll 200 workloads that need 1 s to 30s, 20 at a time":                                   scheduleNote,
	"re-inject 100 manual workloads":                                                          reinjectNote,
	"the same from their original files (`-f`)":                                               reinjectNote,
	"size of the binary":                                                                      sizeNote,
	"an unrelated client's slowest requests (99th percentile) while 1000 workloads are moved": healthNote,
}

const (
	scheduleNote = "the bound counts the pods' own start alone, and a rollout is more than that: its controllers, the scheduler, kwok, istiod and the API server " +
		"share two cores, more than half of which are busy in the mean (the tables *Who had the cores*). What each workload really took makes the bound " +
		"of the table *Schedule* which the plugin keeps within a tenth. A bare program that sends a PATCH each and follows one watch, without a plan, a question or " +
		"a proof, does not meet the goal either: its figure stands there too, and it is the floor on such a machine. The plugin's plan takes 2 s more, and beyond ten at a time only prompt answers let " +
		"more start (*How it is done*)."
	reinjectNote = "the API server is the floor: bare PATCHes of one annotation of the same workloads take 3.2 s, with its cores busy to 98 % (the table *Who had the cores*; " +
		"profiled, it spends 30 ms on each object of 20 KB, above all on managed fields), and one istioctl takes 1.4 s. Together that is 16 × faster than the peer, before anything is " +
		"read, asked or compared. The rest is a dry run for each workload (0.5 s) and the plugin's own work; see *What profiles have shown*."
	healthNote = "the cores are the floor: they are busy to 99 % throughout (the table *Who had the cores*), under kubectl's restart of the same workloads as well, whose 99th percentile this " +
		"one equals. The API server has half of that time, the plugin a twentieth; a workload costs a dry run, a patch and an Event (the table of requests). Beyond ten at a time only " +
		"prompt answers let more start (*How it is done*); with ten and fewer the cores are as busy. No request failed, and none took a second. `--max-parallel` is 10 unless given."
	sizeNote = "what it does that Helm does not is the floor. Of the machine code (`go tool nm`, both unstripped: 31.8 MB, Helm's 29.2 MB; tables and names add " +
		"as much again) 2.3 MB more are the API server's validation of stored objects with its CEL, 1.6 MB are the plugin's own code, 0.4 MB its live view; " +
		"1.7 MB of Helm's, its plugins and their WebAssembly above all, are not linked here. Objects can be judged by the target's schema only with the API server's code."
)

func (g goal) String() string {
	if g.peer == "" {
		return fmt.Sprintf("%s: %s, goal %s: %s", g.work, g.measured, g.goal, g.word())
	}
	return fmt.Sprintf("%s, against %s: %s, goal %s: %s", g.work, g.peer, g.measured, g.goal, g.word())
}

func (g goal) word() string {
	if g.met {
		return "met"
	}
	return "**not met**"
}

// markdown is what make bench prints and writes.
func (r *report) markdown() string {
	var b strings.Builder
	for _, f := range r.facts {
		fmt.Fprintln(&b, f)
	}
	t := table{head: []string{"work", "ours", "peer", "peer's", "goal", "measured", ""}}
	for _, g := range r.goals {
		t.rows = append(t.rows, []string{g.work, g.ours, g.peer, g.theirs, g.goal, g.measured, g.word()})
	}
	if len(t.rows) > 0 {
		fmt.Fprintln(&b)
		t.write(&b)
	}
	first, said := true, map[string]bool{}
	for _, g := range r.goals {
		text := g.note
		if text == "" && !g.met {
			text = "**no note yet: a line that is not met wants one (`notes` in test/bench/report.go), with a profile.**"
		}
		if text == "" || said[g.work+text] {
			continue
		}
		said[g.work+text] = true
		if first {
			fmt.Fprintln(&b)
		}
		first = false
		fmt.Fprintf(&b, "- %s: %s\n", g.work, text)
	}
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n### %s\n\n", t.title)
		if t.text != "" {
			fmt.Fprintln(&b, t.text)
		}
		if len(t.rows) > 0 {
			if t.text != "" {
				fmt.Fprintln(&b)
			}
			t.write(&b)
		}
	}
	return b.String()
}

func (t *table) write(b *strings.Builder) {
	line := func(cells []string) {
		escaped := make([]string, len(cells))
		for i, cell := range cells {
			escaped[i] = strings.ReplaceAll(cell, "|", `\|`)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(escaped, " | "))
	}
	line(t.head)
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		line(row)
	}
}

// The figures stand between these lines of the document; the rest is written by
// hand.
const (
	figuresBegin = "<!-- figures: written by make bench -->"
	figuresEnd   = "<!-- end of figures -->"
)

var errNoMarks = errors.New("the document has no place for figures: " + figuresBegin + " and " + figuresEnd)

// writeInto replaces the figures of a document.
func (r *report) writeInto(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(figuresBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(figuresEnd))
	if !ok || !ok2 {
		return fmt.Errorf("%s: %w", path, errNoMarks)
	}
	var b bytes.Buffer
	b.Write(before)
	fmt.Fprintf(&b, "%s\n\n%s\n%s", figuresBegin, strings.TrimSpace(r.markdown()), figuresEnd)
	b.Write(after)
	return os.WriteFile(path, b.Bytes(), 0o644)
}
