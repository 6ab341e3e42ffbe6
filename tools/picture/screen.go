package main

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// style is how a cell is drawn.
type style struct {
	color, back      string // "" is the terminal's own
	bold, dim, under bool
	reverse          bool
}

type cell struct {
	r rune
	style
}

// screen is a terminal that keeps all lines: nothing scrolls out of it.
type screen struct {
	columns  int
	lines    [][]cell
	row, col int
	now      style
	rest     []byte // the beginning of a sequence that is not complete yet
}

func newScreen(columns int) *screen { return &screen{columns: columns, lines: [][]cell{{}}} }

// write takes what the command printed.
func (s *screen) write(data []byte) {
	data = append(s.rest, data...)
	s.rest = nil
	for len(data) > 0 {
		if data[0] == 0x1b {
			n := s.escape(data)
			if n == 0 {
				s.rest = append([]byte(nil), data...)
				return
			}
			data = data[n:]
			continue
		}
		if !utf8.FullRune(data) {
			s.rest = append([]byte(nil), data...)
			return
		}
		r, n := utf8.DecodeRune(data)
		data = data[n:]
		switch r {
		case '\n':
			s.move(s.row+1, s.col)
		case '\r':
			s.col = 0
		case '\b':
			s.col = max(0, s.col-1)
		case '\t':
			s.col = (s.col/8 + 1) * 8
		default:
			if r >= ' ' {
				s.put(r)
			}
		}
	}
}

func (s *screen) move(row, col int) {
	s.row, s.col = max(0, row), max(0, col)
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
}

func (s *screen) put(r rune) {
	if s.col >= s.columns {
		s.move(s.row+1, 0)
	}
	line := s.lines[s.row]
	for len(line) <= s.col {
		line = append(line, cell{r: ' '})
	}
	line[s.col] = cell{r, s.now}
	s.lines[s.row] = line
	s.col++
}

// escape obeys the sequence that data begins with, and gives its length; 0 where
// it is not complete.
func (s *screen) escape(data []byte) int {
	if len(data) < 2 {
		return 0
	}
	switch data[1] {
	case '[':
		for i := 2; i < len(data); i++ {
			if data[i] >= 0x40 && data[i] <= 0x7e {
				s.control(string(data[2:i]), data[i])
				return i + 1
			}
		}
		return 0
	case ']', 'P', '_': // to a bell or ESC \
		for i := 2; i < len(data); i++ {
			if data[i] == 0x07 {
				return i + 1
			}
			if data[i] == 0x1b && i+1 < len(data) && data[i+1] == '\\' {
				return i + 2
			}
		}
		return 0
	case 'M': // reverse index: up a line
		s.move(s.row-1, s.col)
	}
	return 2
}

// control obeys a control sequence (ECMA-48).
func (s *screen) control(parameters string, final byte) {
	if final == 'm' {
		s.now = s.now.with(parameters)
		return
	}
	if strings.ContainsAny(parameters, "?>=<") {
		return // modes
	}
	first, second, _ := strings.Cut(parameters, ";")
	n, err := strconv.Atoi(first)
	if err != nil || n == 0 {
		n = 1
	}
	switch final {
	case 'A':
		s.move(s.row-n, s.col)
	case 'B':
		s.move(s.row+n, s.col)
	case 'C', 'a':
		s.col += n
	case 'D':
		s.col = max(0, s.col-n)
	case 'E':
		s.move(s.row+n, 0)
	case 'F':
		s.move(s.row-n, 0)
	case 'G', '`':
		s.col = n - 1
	case 'I':
		s.col = (s.col/8 + n) * 8
	case 'Z':
		s.col = max(0, (s.col+7)/8-n) * 8
	case 'b':
		if line := s.lines[s.row]; s.col > 0 && s.col <= len(line) {
			for last := line[s.col-1].r; n > 0; n-- {
				s.put(last)
			}
		}
	case 'd':
		s.move(n-1, s.col)
	case 'H', 'f':
		m, _ := strconv.Atoi(second)
		s.move(n-1, max(m, 1)-1)
	case 'J':
		s.eraseLine(first)
		if first == "" || first == "0" {
			s.lines = s.lines[:s.row+1]
		}
	case 'K':
		s.eraseLine(first)
	case 'X':
		for i := s.col; i < s.col+n && i < len(s.lines[s.row]); i++ {
			s.lines[s.row][i] = cell{r: ' '}
		}
	case 'L':
		s.lines = append(s.lines[:s.row], append(make([][]cell, n), s.lines[s.row:]...)...)
	case 'M':
		s.lines = append(s.lines[:s.row], s.lines[min(len(s.lines), s.row+n):]...)
		s.move(s.row, s.col)
	}
}

func (s *screen) eraseLine(mode string) {
	line := s.lines[s.row]
	switch mode {
	case "", "0":
		s.lines[s.row] = line[:min(len(line), s.col)]
	case "1":
		for i := range min(len(line), s.col+1) {
			line[i] = cell{r: ' '}
		}
	case "2":
		s.lines[s.row] = nil
	}
}

// text gives what the screen shows, without colours.
func (s *screen) text() string {
	var b strings.Builder
	for _, line := range s.lines {
		for _, c := range line {
			b.WriteRune(c.r)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
