package plugin

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

// grouped is a table whose rows stand in groups, all aligned alike, each under a
// heading that says what its rows have in common.
type grouped struct {
	table  *table
	groups []group
}

type group struct {
	heading string
	style   live.Style
	rows    [][]any
}

func newGrouped(columns ...string) *grouped { return &grouped{table: newTable(columns...)} }

// row adds a row to the group with this heading, which is made where there is
// none yet.
func (g *grouped) row(heading string, style live.Style, cells ...any) {
	for i := range g.groups {
		if g.groups[i].heading == heading {
			g.groups[i].rows = append(g.groups[i].rows, cells)
			return
		}
	}
	g.groups = append(g.groups, group{heading, style, [][]any{cells}})
}

// print prints the groups in the order in which they were made.
func (g *grouped) print(w io.Writer, wide bool) error {
	if len(g.groups) == 0 {
		return nil
	}
	for _, group := range g.groups {
		for _, cells := range group.rows {
			g.table.row(cells...)
		}
	}
	var b bytes.Buffer
	if err := g.table.print(&b, wide); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	fmt.Fprintln(w, "  "+strings.TrimRight(lines[0], " "))
	lines = lines[1:]
	for _, group := range g.groups {
		for _, line := range wrap(w, escape(fmt.Sprintf("%s (%d)", group.heading, len(group.rows)))) {
			if colours(w) {
				line = styled(line, group.style)
			}
			fmt.Fprintln(w, line)
		}
		for _, line := range lines[:len(group.rows)] {
			if _, err := fmt.Fprintln(w, "  "+strings.TrimRight(line, " ")); err != nil {
				return err
			}
		}
		lines = lines[len(group.rows):]
	}
	return nil
}

// mark is a text in a row of a table and its style.
type mark struct {
	text  string
	style live.Style
}

// printMarked prints a wide table with a mark in each of its rows, where w may
// be given colours.
func (t *table) printMarked(w io.Writer, marks []mark) error {
	if !colours(w) {
		return t.print(w, true)
	}
	var b bytes.Buffer
	if err := t.print(&b, true); err != nil {
		return err
	}
	head, rows, _ := strings.Cut(b.String(), "\n")
	if _, err := io.WriteString(w, head+"\n"+marked(rows, marks)); err != nil {
		return err
	}
	return nil
}

// marked gives lines with the last text of each that is its mark in its style.
func marked(rows string, marks []mark) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(rows) {
		if n < len(marks) && marks[n].text != "" {
			if i := strings.LastIndex(line, marks[n].text); i >= 0 {
				line = line[:i] + styled(marks[n].text, marks[n].style) + line[i+len(marks[n].text):]
			}
		}
		n++
		b.WriteString(line)
	}
	return b.String()
}

// wrap breaks text between words where it is wider than the terminal; what is
// read by other programs stays on one line.
func wrap(w io.Writer, text string) []string {
	f := file(w)
	if f == nil {
		return []string{text}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < leastWrap {
		return []string{text}
	}
	return strings.Split(ansi.Wordwrap(text, width-1, " "), "\n")
}

// leastWrap is the width of a terminal below which wrapping helps nobody.
const leastWrap = 40

// warn prints a plan's warnings.
func warn(w io.Writer, warnings []string) {
	for _, text := range warnings {
		line := "‼ " + escape(text)
		if colours(w) {
			line = styled("‼", live.Warn) + " " + escape(text)
		}
		fmt.Fprintln(w, line)
	}
}
