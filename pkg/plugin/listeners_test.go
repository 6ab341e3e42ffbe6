package plugin

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

// What others write while a view is up stands above it, in whole lines.
func TestStderrDiverted(t *testing.T) {
	var stream strings.Builder
	s := newStderr(&stream)
	write := func(text string) {
		if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	var above []string
	write("before\n")
	s.divert(func(line string) { above = append(above, line) })
	write("War")
	write("ning: one\nWarning: two\nunfin")
	s.divert(nil)
	write("after\n")
	if want := []string{"Warning: one", "Warning: two"}; !slices.Equal(above, want) {
		t.Errorf("above the view: %q, want %q", above, want)
	}
	if want := "before\nunfin\nafter\n"; stream.String() != want {
		t.Errorf("on the stream: %q, want %q", &stream, want)
	}
}

// A line that goes away by itself stands in the way of nothing.
func TestStderrHint(t *testing.T) {
	var stream strings.Builder
	s := newStderr(&stream)
	s.showHint("reading…")
	if _, err := s.Write([]byte("Warning: one\n")); err != nil {
		t.Fatal(err)
	}
	s.hideHint()
	s.showHint("reading…")
	s.hideHint()
	if want := "reading…\r\x1b[KWarning: one\nreading…\r\x1b[K"; stream.String() != want {
		t.Errorf("%q, want %q", &stream, want)
	}
}

func TestHarmlessEvents(t *testing.T) {
	var got progress.Event
	harmless(progress.Func(func(e progress.Event) { got = e })).Notify(progress.Event{
		Object:  progress.Object{Kind: "Deployment", Namespace: "shop", Name: "web\x1b[2J"},
		Message: " admission webhook denied:\n  ✓ deployment/other: done\r",
	})
	for _, text := range []string{got.Object.Name, got.Message} {
		if strings.ContainsAny(text, "\x1b\n\r") {
			t.Errorf("%q drives a terminal", text)
		}
	}
}

func TestEventFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	at := time.Date(2026, 9, 1, 14, 0, 0, 0, time.FixedZone("", 7200))
	run := func(end error) {
		var warnings strings.Builder
		f, err := openEvents(path, &warnings)
		if err != nil {
			t.Fatal(err)
		}
		f.begin("sidecars")
		f.Notify(progress.Event{Time: at, Step: "sidecars", Kind: progress.Done, Object: progress.Object{Kind: "Deployment", Name: "<web>"}})
		f.begin("sidecars") // the next step of the same run
		if err := f.close("sidecars", end); err != nil || warnings.Len() > 0 {
			t.Fatalf("%v %s", err, &warnings)
		}
	}
	run(nil)
	run(errors.New("1 failure of 2"))
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kinds, errs []string
	for line := range strings.Lines(string(text)) {
		var e eventLine
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if e.APIVersion != "istio-upgrade/v1" || e.Step != "sidecars" {
			t.Errorf("%+v", e)
		}
		kinds, errs = append(kinds, string(e.Kind)), append(errs, e.Error)
	}
	if want := []string{"run-started", "done", "run-finished", "run-started", "done", "run-finished"}; !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	if errs[2] != "" || errs[5] != "1 failure of 2" {
		t.Errorf("errors %q", errs)
	}
	if !strings.Contains(string(text), `"time":"2026-09-01T12:00:00Z"`) {
		t.Errorf("times are in UTC:\n%s", text)
	}
}

// A file that cannot be written any more is told of once, and is an error in the
// end.
func TestEventFileThatFails(t *testing.T) {
	var warnings strings.Builder
	f, err := openEvents(filepath.Join(t.TempDir(), "events.jsonl"), &warnings)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.Notify(progress.Event{Kind: progress.Done})
	}
	if n := strings.Count(warnings.String(), "\n"); n != 1 {
		t.Errorf("%d warnings: %s", n, &warnings)
	}
	if err := f.close("sidecars", nil); err == nil || !strings.Contains(err.Error(), "--events") {
		t.Errorf("error in the end: %v", err)
	}
}

func TestKeysOfTheView(t *testing.T) {
	var toggled, interrupted int
	s := screen{model: &live.Model{}, drawn: new([]int), toggle: func() { toggled++ }, interrupt: func() { interrupted++ }}
	for _, key := range []tea.KeyPressMsg{
		{Code: 'p', Text: "p"}, {Code: tea.KeySpace, Text: " "}, {Code: 'c', Mod: tea.ModCtrl}, {Code: 'q', Text: "q"}, {Code: tea.KeyEnter},
	} {
		if _, cmd := s.Update(key); cmd != nil {
			cmd()
		}
	}
	if toggled != 2 || interrupted != 1 {
		t.Errorf("p and space pause, ctrl-c stops, others do nothing: %d, %d", toggled, interrupted)
	}
}

// In a narrower terminal lines wrap: 70 cells are two lines of 50.
func TestWrappedLinesOfTheView(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("XTERM_VERSION", "")
	s := screen{width: 80, drawn: &[]int{70, 50, 10, 0, 79}}
	for width, want := range map[int]int{80: 0, 100: 0, 79: 0, 75: 1, 50: 2, 20: 3 + 2 + 3} {
		if got := s.wrapped(width); got != want {
			t.Errorf("at %d columns %d more lines, want %d", width, got, want)
		}
	}
}

func TestListenFlags(t *testing.T) {
	for _, f := range []listenFlags{{events: "-"}, {report: "-"}} {
		if err := f.validate(); err == nil {
			t.Errorf("%+v: standard output holds results alone", f)
		}
	}
	f := listenFlags{events: filepath.Join(t.TempDir(), "a", "b")}
	failed := errors.New("first")
	if err := f.finish("sidecars", failed); !errors.Is(err, failed) {
		t.Errorf("the command's own error is lost: %v", err)
	}
}
