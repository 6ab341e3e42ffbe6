package plugin

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

// styles are made of the terminal's own sixteen colours, which its user has
// chosen to be read on a light or a dark ground.
var styles = map[live.Style]ansi.Style{
	live.Strong: ansi.Style{}.Bold(),
	live.Faint:  ansi.Style{}.Faint(),
	live.Good:   ansi.Style{}.ForegroundColor(ansi.Green),
	live.Bad:    ansi.Style{}.ForegroundColor(ansi.Red),
	live.Warn:   ansi.Style{}.ForegroundColor(ansi.Yellow),
	live.Busy:   ansi.Style{}.ForegroundColor(ansi.Cyan),
}

// paint gives a line as the terminal shows it.
func paint(line live.Line, colours bool) string {
	if !colours {
		return line.String()
	}
	var b strings.Builder
	for _, span := range line {
		b.WriteString(styled(span.Text, span.Style))
	}
	return b.String()
}

// styled gives text in a style, whatever the terminal can do.
func styled(text string, style live.Style) string {
	if s, ok := styles[style]; ok {
		return s.Styled(text)
	}
	return text
}
