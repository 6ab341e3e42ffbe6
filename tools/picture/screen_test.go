package main

import (
	"strings"
	"testing"
)

func TestScreen(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"lines", "a\r\nb\r\n", "a\nb\n\n"},
		{"carriage return", "abc\rX", "Xbc\n"},
		{"up and erase", "one\r\ntwo\r\x1b[1A\x1b[KONE", "ONE\ntwo\n"},
		{"erase below", "one\r\ntwo\r\nthree\x1b[2A\r\x1b[J", "\n"},
		{"colour is no text", "\x1b[1;32mok\x1b[0m", "ok\n"},
		{"a title is no text", "\x1b]0;title\x07x", "x\n"},
		{"modes are no text", "\x1b[?25lx\x1b[?25h", "x\n"},
		{"reverse index", "one\r\ntwo\r\x1bMONE", "ONE\ntwo\n"},
		{"repeated", "a-\x1b[3bb", "a----b\n"},
		{"to a column, and tabs", "\x1b[3`x\x1b[Zy\x1b[Iz", "y x     z\n"},
		{"wrap", "12345678901", "1234567890\n1\n"},
	} {
		s := newScreen(10)
		for _, b := range []byte(tc.in) { // sequences may come in pieces
			s.write([]byte{b})
		}
		if got := s.text(); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestSVG(t *testing.T) {
	s := newScreen(20)
	s.write([]byte("\x1b[32m✓\x1b[0m <web> \x1b[38;5;196mred\x1b[0m\r\n"))
	got := s.svg("title & more", 0)
	for _, want := range []string{`fill="#3fb950">✓<`, "&lt;web&gt;", `fill="#ff0000"`, "title &amp; more"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
}
