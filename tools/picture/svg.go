package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// palette are the 16 colours of a dark terminal.
var palette = [16]string{
	"#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
	"#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#f0f6fc",
}

const (
	background, foreground = "#0d1117", "#c9d1d9"
	cellWidth, lineHeight  = 8.4, 19.0
	margin, bar            = 16.0, 34.0
)

// with gives the style after a sequence that selects graphic rendition.
func (st style) with(parameters string) style {
	codes := []int{}
	for part := range strings.SplitSeq(strings.ReplaceAll(parameters, ":", ";"), ";") {
		n, _ := strconv.Atoi(part) // empty means 0
		codes = append(codes, n)
	}
	for i := 0; i < len(codes); i++ {
		switch c := codes[i]; {
		case c == 0:
			st = style{}
		case c == 1:
			st.bold = true
		case c == 2:
			st.dim = true
		case c == 4:
			st.under = true
		case c == 7:
			st.reverse = true
		case c == 22:
			st.bold, st.dim = false, false
		case c == 24:
			st.under = false
		case c == 27:
			st.reverse = false
		case c >= 30 && c <= 37:
			st.color = palette[c-30]
		case c >= 90 && c <= 97:
			st.color = palette[c-82]
		case c == 39:
			st.color = ""
		case c >= 40 && c <= 47:
			st.back = palette[c-40]
		case c >= 100 && c <= 107:
			st.back = palette[c-92]
		case c == 49:
			st.back = ""
		case c == 38 || c == 48:
			color, used := extended(codes[i+1:])
			if c == 38 {
				st.color = color
			} else {
				st.back = color
			}
			i += used
		}
	}
	return st
}

// extended reads a colour of the 256, or one of red, green and blue.
func extended(codes []int) (color string, used int) {
	switch {
	case len(codes) >= 4 && codes[0] == 2:
		return fmt.Sprintf("#%02x%02x%02x", codes[1]&255, codes[2]&255, codes[3]&255), 4
	case len(codes) >= 2 && codes[0] == 5:
		n := codes[1] & 255
		switch {
		case n < 16:
			return palette[n], 2
		case n >= 232:
			grey := 8 + (n-232)*10
			return fmt.Sprintf("#%02x%02x%02x", grey, grey, grey), 2
		}
		level := func(v int) int {
			if v == 0 {
				return 0
			}
			return 55 + v*40
		}
		n -= 16
		return fmt.Sprintf("#%02x%02x%02x", level(n/36), level(n/6%6), level(n%6)), 2
	}
	return "", 0
}

// svg draws the screen as a window. It needs no font and no file of its own.
func (s *screen) svg(title string, last int) string {
	lines := s.lines
	for len(lines) > 0 && strings.TrimSpace(string(runes(lines[len(lines)-1]))) == "" {
		lines = lines[:len(lines)-1]
	}
	if last > 0 && len(lines) > last {
		lines = lines[len(lines)-last:]
	}
	width := float64(s.columns)*cellWidth + 2*margin
	height := float64(len(lines))*lineHeight + bar + margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">`+"\n",
		width, height, width, height, html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", background)
	for i, color := range []string{"#ff5f56", "#ffbd2e", "#27c93f"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="17" r="6" fill="%s"/>`+"\n", 20+20*i, color)
	}
	fmt.Fprintf(&b, `<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="%s" xml:space="preserve">`+"\n", foreground)
	fmt.Fprintf(&b, `<text x="%.0f" y="22" text-anchor="middle" fill="#8b949e" font-size="13">%s</text>`+"\n", width/2, html.EscapeString(title))
	for i, line := range lines {
		drawLine(&b, line, bar+float64(i+1)*lineHeight-5)
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// drawLine draws runs of cells of one style.
func drawLine(b *strings.Builder, line []cell, y float64) {
	for from := 0; from < len(line); {
		to := from
		for to < len(line) && line[to].style == line[from].style {
			to++
		}
		text := string(runes(line[from:to]))
		st := line[from].style
		if st.reverse {
			st.color, st.back = orElse(st.back, background), orElse(st.color, foreground)
		}
		x, width := margin+float64(from)*cellWidth, float64(to-from)*cellWidth
		if st.back != "" {
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y-14, width, lineHeight, st.back)
		}
		if strings.TrimSpace(text) != "" {
			lead := len([]rune(text)) - len([]rune(strings.TrimLeft(text, " ")))
			text = strings.ReplaceAll(strings.Trim(text, " "), " ", "\u00a0") // others are drawn as one
			fmt.Fprintf(b, `<text x="%.1f" y="%.1f" textLength="%.1f"%s>%s</text>`+"\n",
				x+float64(lead)*cellWidth, y, float64(len([]rune(text)))*cellWidth, attributes(st), html.EscapeString(text))
		}
		from = to
	}
}

func attributes(st style) string {
	text := ""
	if st.color != "" {
		text += ` fill="` + st.color + `"`
	}
	if st.bold {
		text += ` font-weight="bold"`
	}
	if st.dim {
		text += ` opacity="0.65"`
	}
	if st.under {
		text += ` text-decoration="underline"`
	}
	return text
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

func runes(line []cell) []rune {
	out := make([]rune, len(line))
	for i, c := range line {
		out[i] = c.r
	}
	return out
}
