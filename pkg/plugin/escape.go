package plugin

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// longestLine and longestCell bound what one object of the cluster can fill
	// the screen with, in characters.
	longestLine = 4000
	longestCell = 300
)

// escape makes text from the cluster harmless for a terminal, on one line: what
// could drive the terminal, start a line of its own, or turn or hide what stands
// beside it becomes visible, and what is too long is cut.
func escape(text string) string {
	return clip(visible(strings.ReplaceAll(text, "\n", " ")), longestLine)
}

// visible shows control characters (as kubectl does: ESC is ^[) and what has no
// shape of its own: marks of writing direction, zero-width characters and
// separators of lines. Line breaks and tabs stay.
func visible(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\x1b':
			b.WriteString("^[")
		case r == '\r':
			b.WriteString(`\r`)
		case hidden(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r) // what is not valid UTF-8 has become U+FFFD
		}
	}
	return b.String()
}

// hidden says whether a character is not seen as itself.
func hidden(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp))
}

// clip cuts text that is longer than so many characters, and says that it did.
func clip(text string, longest int) string {
	if len(text) <= longest {
		return text
	}
	n := utf8.RuneCountInString(text)
	if n <= longest {
		return text
	}
	return string([]rune(text)[:longest]) + fmt.Sprintf("… (%d more characters)", n-longest)
}

// cell makes a table's cell of text from the cluster.
func cell(text string) string {
	return clip(visible(strings.NewReplacer("\n", " ", "\t", " ").Replace(text)), longestCell)
}

// harmlessJSON gives JSON text with what visible would show written as \u
// escapes, which mean the same.
func harmlessJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case hidden(r) && r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// discreet passes klog's records on without the bodies of requests and answers,
// which client-go logs from -v=8 on: Secrets, tokens and the values of Helm
// releases are among them. klog writes a record at a time.
type discreet struct{ w io.Writer }

func (d discreet) Write(record []byte) (int, error) {
	text := string(record)
	for _, body := range []string{`"Request Body"`, `"Response Body"`} {
		if before, _, found := strings.Cut(text, body); found && !strings.Contains(before, "\n") {
			text = before + body + " (not shown: it may hold secrets)\n"
			break
		}
	}
	if _, err := io.WriteString(d.w, visible(text)); err != nil {
		return 0, err
	}
	return len(record), nil
}
