package plugin

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"k8s.io/cli-runtime/pkg/printers"
)

// stderr is the stream for progress, prompts and warnings. While a live view is
// up, lines that others write stand above it instead of in it.
type stderr struct {
	stream io.Writer

	mu    sync.Mutex
	above func(line string)
	rest  []byte
	hint  bool // a line stands there that goes away by itself
}

func newStderr(stream io.Writer) *stderr { return &stderr{stream: stream} }

// Write writes to the stream, or line by line above the live view.
func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearHint()
	if s.above == nil {
		return s.stream.Write(p)
	}
	s.rest = append(s.rest, p...)
	for {
		line, rest, whole := bytes.Cut(s.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		s.above(string(line))
		s.rest = rest
	}
}

// showHint shows a line until the next one is written or hideHint is called.
func (s *stderr) showHint(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.above == nil {
		s.hint = true
		_, _ = io.WriteString(s.stream, text)
	}
}

func (s *stderr) hideHint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearHint()
}

func (s *stderr) clearHint() {
	if s.hint {
		s.hint = false
		_, _ = io.WriteString(s.stream, "\r\x1b[K")
	}
}

// hintAfter is how long reading may take before a person is told of it.
const hintAfter = time.Second

// reading tells a person at a terminal that the cluster is being read, where
// that takes long, until done is called.
func (s *session) reading() (done func()) {
	errOut, ok := s.ErrOut.(*stderr)
	if !ok || s.quiet || !canLive(s) {
		return func() {}
	}
	var mu sync.Mutex
	ended := false
	timer := time.AfterFunc(hintAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			errOut.showHint("reading the cluster…")
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		ended = true
		errOut.hideHint()
	}
}

// divert has lines go to above from now on, or, where that is nil, to the
// stream again.
func (s *stderr) divert(above func(line string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.above = above
	if above == nil && len(s.rest) > 0 {
		_, _ = s.stream.Write(append(s.rest, '\n'))
		s.rest = nil
	}
}

// file gives the file that a stream writes to; nil where it is none.
func file(w io.Writer) *os.File {
	switch s := w.(type) {
	case *stderr:
		w = s.stream
	case *watchedWriter:
		w = s.Writer
	}
	f, _ := w.(*os.File)
	return f
}

// colours says whether a stream may be given colours: it is a terminal that
// knows them, and NO_COLOR is not set.
func colours(w io.Writer) bool {
	f := file(w)
	return f != nil && printers.AllowsColorOutput(f)
}
