//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// terminal is a real pseudo-terminal with the plugin in it, and what a person in
// front of it would see.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	tty    *os.File // kept open, so that its settings can be read in the end
	before unix.Termios
	done   chan error

	mu     sync.Mutex
	screen *vt.SafeEmulator
	raw    strings.Builder
}

// inTerminal starts the plugin in a terminal of this size.
func (w *world) inTerminal(width, height int, env []string, args ...string) *terminal {
	w.T.Helper()
	master, tty, err := pty.Open()
	w.Check(err)
	w.Check(pty.Setsize(master, &pty.Winsize{Rows: uint16(height), Cols: uint16(width)}))
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	w.Check(err)
	term := &terminal{
		t: w.T, master: master, tty: tty, before: *before, done: make(chan error, 1),
		screen: vt.NewSafeEmulator(width, height), cmd: w.Command(w.T.Context(), args...),
	}
	term.cmd.Env = append(append(term.cmd.Env, "TERM=xterm-256color"), env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = tty, tty, tty
	term.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	w.Check(term.cmd.Start())
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			_, _ = term.screen.Write(buffer[:n])
			term.mu.Lock()
			term.raw.Write(buffer[:n])
			term.mu.Unlock()
		}
	}()
	// A terminal answers what a program asks of it.
	go func() { _, _ = io.Copy(master, term.screen) }()
	go func() { term.done <- term.cmd.Wait() }()
	w.T.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		_ = tty.Close()
		_ = master.Close()
	})
	return term
}

// rows gives the lines of the screen without the blanks at their ends.
func (term *terminal) rows() []string {
	lines := strings.Split(term.screen.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func (term *terminal) shown() string { return strings.TrimRight(strings.Join(term.rows(), "\n"), "\n") }

// all gives all that was written to the terminal.
func (term *terminal) all() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.raw.String()
}

// until waits for the screen to fulfil a condition.
func (term *terminal) until(what string, fulfilled func(shown string) bool) {
	term.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !fulfilled(term.shown()) {
		select {
		case err := <-term.done:
			term.done <- err
			if fulfilled(term.shown()) {
				return
			}
			term.t.Fatalf("%s: the plugin has ended (%v):\n%s", what, err, term.shown())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("%s: not seen in a minute:\n%s", what, term.shown())
		}
	}
}

func (term *terminal) untilShown(text string) {
	term.t.Helper()
	term.until(fmt.Sprintf("%q", text), func(shown string) bool { return strings.Contains(shown, text) })
}

func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// wait waits for the plugin to end and gives its exit code.
func (term *terminal) wait() int {
	term.t.Helper()
	select {
	case err := <-term.done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			term.t.Fatal(err)
		}
		term.drain()
		return term.cmd.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		term.t.Fatalf("the plugin does not end:\n%s", term.shown())
		return 0
	}
}

// drain waits until all that was written to the terminal is on the screen: what goes
// in last comes out last.
func (term *terminal) drain() {
	term.t.Helper()
	mark := fmt.Sprintf("\x1b]2;%d\a", time.Now().UnixNano()) // a title, which the screen does not show
	if _, err := term.tty.WriteString(mark); err != nil {
		term.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(term.all(), mark) {
		if time.Now().After(deadline) {
			term.t.Fatalf("what was written does not come to the screen:\n%s", term.shown())
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // asked again
	}
	term.mu.Lock()
	defer term.mu.Unlock()
	written := strings.Replace(term.raw.String(), mark, "", 1) // of the test's own
	term.raw.Reset()
	term.raw.WriteString(written)
}

// wantRestored fails the test where the terminal is not as it was.
func (term *terminal) wantRestored() {
	term.t.Helper()
	after, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	if after.Lflag != term.before.Lflag || after.Iflag != term.before.Iflag || after.Oflag != term.before.Oflag {
		term.t.Errorf("the terminal's settings are left changed: before %+v, after %+v", term.before, *after)
	}
	all := term.all()
	if strings.LastIndex(all, "\x1b[?25l") > strings.LastIndex(all, "\x1b[?25h") {
		term.t.Error("the cursor is left hidden")
	}
	if strings.LastIndex(all, "\x1b[?1049h") > strings.LastIndex(all, "\x1b[?1049l") {
		term.t.Error("the other screen is left on")
	}
}

// many makes Deployments whose proxies are stale.
func (w *world) many(ns string, n int) {
	w.T.Helper()
	w.Inject(older)
	w.InjectedNamespace(ns)
	manifests := make([]string, n)
	for i := range n {
		manifests[i] = manifest{Kind: "Deployment", Name: fmt.Sprintf("web-%02d", i), Namespace: ns, Replicas: 2}.String()
	}
	w.Apply(manifests...)
	w.AwaitReady(ns, 2*n)
	w.Inject(newer)
}

func TestLiveView(t *testing.T) {
	w := sharedCluster(t)
	w.many("live", 24)
	w.podsTake(500 * time.Millisecond)
	term := w.inTerminal(80, 24, nil, "sidecars", "-n", "live", "--yes", "--max-parallel", "2")

	// How far it is, what moves, what comes, and the key that is named.
	term.until("the view", func(shown string) bool {
		return strings.Contains(shown, "/24 ") && strings.Contains(shown, "moving") && strings.Contains(shown, "→ deployment/web-") &&
			strings.Contains(shown, "next: deployment/web-") && strings.Contains(shown, "p pause")
	})
	term.until("an estimate", func(shown string) bool { return strings.Contains(shown, "left") })

	// Paused, what moves comes to its end and nothing new starts.
	term.press("p")
	term.until("the pause and its end", func(shown string) bool {
		return strings.Contains(shown, "paused: nothing new starts") && strings.Contains(shown, "p go on")
	})
	term.until("an end of what moved", func(shown string) bool { return !strings.Contains(shown, "→ ") })
	finished := regexp.MustCompile(`(\d+)/24 `).FindString(term.shown())
	held := time.NewTimer(2 * time.Second)
	<-held.C
	if shown := term.shown(); !strings.Contains(shown, finished) || strings.Contains(shown, "→ ") {
		t.Errorf("something started while it was paused:\n%s", shown)
	}

	// A smaller window shows less, not a heap of lines.
	if err := pty.Setsize(term.master, &pty.Winsize{Rows: 12, Cols: 50}); err != nil {
		t.Fatal(err)
	}
	term.screen.Resize(50, 12)
	term.press(" ")
	term.until("what moves in the small window", func(shown string) bool {
		return strings.Contains(shown, "→ ") && !strings.Contains(shown, "paused: nothing")
	})
	if n := strings.Count(term.shown(), "/24 "); n != 1 {
		t.Errorf("%d bars in the small window:\n%s", n, term.shown())
	}

	if code := term.wait(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, term.shown())
	}
	shown := term.shown()
	if !strings.Contains(shown, "✓ sidecars: 24 done in ") || strings.Contains(shown, "→ ") || strings.Contains(shown, "░") {
		t.Errorf("what is left behind is no clean summary:\n%s", shown)
	}
	if !strings.Contains(term.all(), "\x1b[32m") {
		t.Error("no colour in a terminal that has them")
	}
	term.wantRestored()
	w.WantProxies("live", "", map[string]int{newer: 48})
}

// Ctrl-C once: what moves is left to its controllers, and named; the terminal is
// as it was.
func TestLiveViewInterrupted(t *testing.T) {
	w := sharedCluster(t)
	w.many("liveint", 8)
	w.podsTake(500 * time.Millisecond)
	args := []string{"sidecars", "-n", "liveint", "--yes", "--max-parallel", "1"}
	term := w.inTerminal(80, 24, []string{"NO_COLOR=1"}, args...)
	term.untilShown("→ deployment/web-")
	term.press("\x03")
	if code := term.wait(); code != 130 {
		t.Errorf("exit code %d, want 130:\n%s", code, term.shown())
	}
	term.wantRestored()
	shown := term.shown()
	for _, want := range []string{"Half done", "  deployment/web-0", "1 still moving", "error: interrupted"} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	if regexp.MustCompile(`\x1b\[[0-9;]*[1-9][0-9]*m`).MatchString(term.all()) {
		t.Errorf("colours or bold in spite of NO_COLOR: %q", term.all())
	}

	// Killed, it leaves a terminal that can be used: the guard sees to it.
	term = w.inTerminal(80, 24, nil, args...)
	term.untilShown("→ deployment/web-")
	if err := term.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	term.wait()
	w.Eventually("the terminal's settings", func() string {
		after, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
		w.Check(err)
		if after.Lflag != term.before.Lflag {
			return "still those of the view"
		}
		if all := term.all(); strings.LastIndex(all, "\x1b[?25l") > strings.LastIndex(all, "\x1b[?25h") {
			return "the cursor is hidden" // which the guard shows last
		}
		return ""
	})
	term.wantRestored()
	w.Must(0, args...)
}

// Ctrl-C is an answer to the question, and changes nothing.
func TestPromptInterrupted(t *testing.T) {
	w := sharedCluster(t)
	w.many("liveprompt", 1)
	before := w.Writes()
	term := w.inTerminal(80, 24, nil, "sidecars", "-n", "liveprompt")
	term.untilShown("[y/N]")
	term.press("\x03")
	if code := term.wait(); code != 130 {
		t.Errorf("exit code %d, want 130:\n%s", code, term.shown())
	}
	if shown := term.shown(); !strings.Contains(shown, "error: interrupted at the prompt: sidecars has changed nothing") {
		t.Errorf("it does not say what it has done:\n%s", shown)
	}
	term.wantRestored()
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("it wrote: %v", after[len(before):])
	}

	// And what was ignored from the start, as under nohup, is no interruption.
	cmd := w.Command(t.Context(), "sidecars", "-n", "liveprompt", "--yes")
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "nohup", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	w.podsTake(3 * time.Second)
	w.Check(cmd.Start())
	w.WantProxies("liveprompt", "", map[string]int{older: 2, newer: 1})
	w.Check(cmd.Process.Signal(unix.SIGHUP))
	if err := cmd.Wait(); err != nil || !strings.Contains(text.String(), "✓ deployment/web-00") {
		t.Errorf("it did not outlive its terminal: %v\n%s", err, text.String())
	}
}

// Where no live view can be, there are lines, one for each event.
func TestPlainLinesElsewhere(t *testing.T) {
	w := sharedCluster(t)
	w.many("liveplain", 3)
	args := []string{"sidecars", "-n", "liveplain", "--yes"}
	term := w.inTerminal(80, 24, []string{"TERM=dumb"}, args...)
	if code := term.wait(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, term.shown())
	}
	if all := term.all(); strings.Contains(all, "\x1b") || !strings.Contains(all, "✓ deployment/web-00 in liveplain") {
		t.Errorf("a dumb terminal got %q", all)
	}

	w.Inject(older)
	o := w.RunWith(context.WithoutCancel(t.Context()), nil, append(args, "-v=1")...)
	stamp := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d ✓ deployment/web-00 in liveplain`)
	if o.Code != 0 || !stamp.MatchString(o.Stderr) || strings.Contains(o.Stderr, "\x1b") {
		t.Errorf("lines under -v have the time: %s", o)
	}
	w.Inject(newer)
	if o := w.Must(0, append(args, "-o", "name")...); o.Stderr != "" || strings.Count(o.Stdout, "\n") != 3 {
		t.Errorf("-o name is silent but for the names: %s", o)
	}
}
