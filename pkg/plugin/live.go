package plugin

import (
	"context"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
	"k8s.io/klog/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

const (
	// beatTime is how often the view is drawn anew; events in between are drawn
	// together.
	beatTime = 125 * time.Millisecond
	// farewellTime is how long the view may take to put the terminal right.
	farewellTime = 500 * time.Millisecond
	keysHint     = "p pause · ctrl-c stop"
	pausedHint   = "p go on · ctrl-c stop"
	stopHint     = "ctrl-c stop"
)

// watchHelp is how to watch a run that moves workloads.
const watchHelp = `On a terminal a live view shows how it goes: the key p holds back what has not
begun, and lets it go on again. With -v there are plain lines instead.`

// canLive says whether a live view can be shown: stderr is a terminal that can
// move its cursor, and it is ours to draw on. With -v lines are wanted, because
// what client-go logs stands between them.
func canLive(s *session) bool {
	if _, ours := s.ErrOut.(*stderr); !ours {
		return false
	}
	f := file(s.ErrOut)
	name := os.Getenv("TERM")
	return f != nil && term.IsTerminal(int(f.Fd())) && name != "dumb" && (name != "" || os.PathSeparator == '\\') &&
		inForeground(f) && !bool(klog.V(1).Enabled())
}

// canKeys says whether the view may read keys. Behind a pipe the terminal's
// keyboard may be a pager's.
func canKeys(s *session) bool {
	in, ok := s.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return false
	}
	out, ok := s.Out.(*os.File)
	if !ok {
		return false
	}
	info, err := out.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe == 0
}

// view is a live view on the terminal.
type view struct {
	errOut  *stderr
	tty     *os.File
	model   *live.Model
	program *tea.Program
	done    chan struct{}
	restore func() // puts the terminal right whatever state the view is in
	release func() // ends the guard
	forget  func() // the process's end is no affair of the view any more
}

// startView shows the model on the terminal until stop is called, which leaves a
// summary behind. Toggle is called for each press of the key that pauses.
func startView(ctx context.Context, s *session, model *live.Model, toggle func()) (stop func()) {
	errOut, _ := s.ErrOut.(*stderr)
	v := &view{errOut: errOut, tty: file(errOut), model: model, done: make(chan struct{}), release: func() {}}
	screen := screen{model: model, hint: stopHint, colours: colours(errOut), toggle: toggle, interrupt: interruptOf(ctx), drawn: new([]int)}
	screen.width, screen.height, _ = term.GetSize(int(v.tty.Fd()))
	options := []tea.ProgramOption{tea.WithOutput(v.tty), tea.WithoutSignalHandler(), tea.WithFPS(30)}
	if !screen.colours {
		options = append(options, tea.WithColorProfile(colorprofile.NoTTY))
	}
	var in io.Reader
	v.restore = func() { showCursor(v.tty) }
	if canKeys(s) {
		keyboard := s.In.(*os.File)
		screen.hint, in = keysHint, keyboard
		v.release = guard(ctx, v.tty, keyboard)
		if state, err := term.GetState(int(keyboard.Fd())); err == nil {
			v.restore = func() {
				_ = term.Restore(int(keyboard.Fd()), state)
				showCursor(v.tty)
			}
		}
	}
	options = append(options, tea.WithInput(in))
	v.program = tea.NewProgram(screen, options...)
	onExit(ctx, v.abandon)
	v.forget = func() { onExit(ctx, nil) }
	go func() {
		defer close(v.done)
		_, _ = v.program.Run() // a terminal that is gone is no reason to stop
	}()
	errOut.divert(func(line string) { v.program.Println(line) })
	return v.stop
}

// stop takes the view away and leaves its summary behind.
func (v *view) stop() {
	summary := v.model.Summary(time.Now())
	v.errOut.divert(nil)
	v.program.Quit()
	v.await()
	v.forget()
	v.release()
	for _, line := range summary {
		_, _ = io.WriteString(v.tty, paint(line, colours(v.errOut))+"\n")
	}
}

// abandon puts the terminal right at once, as when the process is to end.
func (v *view) abandon() {
	v.program.Kill()
	v.await()
	v.restore()
	v.release()
}

func (v *view) await() {
	select {
	case <-v.done:
	case <-time.After(farewellTime):
		v.restore()
	}
}

// showCursor undoes what the view may have switched: the hidden cursor and
// bracketed paste.
func showCursor(tty *os.File) { _, _ = tty.WriteString("\x1b[?25h\x1b[?2004l") }

// screen is the view as bubbletea wants it.
type screen struct {
	model         *live.Model
	width, height int
	hint          string
	colours       bool
	toggle        func()
	interrupt     func()
	drawn         *[]int // how wide the lines are that the terminal shows
}

type beat struct{}

func nextBeat() tea.Cmd {
	return tea.Tick(beatTime, func(time.Time) tea.Msg { return beat{} })
}

// Init starts the beat.
func (s screen) Init() tea.Cmd { return nextBeat() }

// Update takes in the beat, the terminal's size and the keys.
func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case beat:
		return s, nextBeat()
	case tea.WindowSizeMsg:
		wrapped := s.wrapped(msg.Width)
		s.width, s.height = msg.Width, msg.Height
		if wrapped > 0 {
			return s, tea.Raw(ansi.CursorUp(wrapped))
		}
	case tea.KeyPressMsg:
		switch msg.String() {
		case "p", "P", "space":
			return s, func() tea.Msg { s.toggle(); return nil }
		case "ctrl+c":
			// In raw mode the key sends no signal.
			return s, func() tea.Msg { s.interrupt(); return nil }
		case "ctrl+z":
			return s, tea.Suspend
		}
	}
	return s, nil
}

// wrapped says by how many lines the view has grown in a terminal that became
// narrower: most terminals wrap long lines then, which bubbletea does not know
// when it goes up to draw anew. The Linux console and xterm cut them instead.
func (s screen) wrapped(width int) int {
	if width >= s.width || width < 1 || os.Getenv("TERM") == "linux" || os.Getenv("XTERM_VERSION") != "" {
		return 0
	}
	n := 0
	for _, w := range *s.drawn {
		n += max(0, w-1) / width
	}
	return n
}

// View draws the model as it is now.
func (s screen) View() tea.View {
	var text []byte
	*s.drawn = (*s.drawn)[:0]
	hint := s.hint
	if hint == keysHint && s.model.Paused() {
		hint = pausedHint
	}
	for i, line := range s.model.Lines(s.width, s.height, time.Now(), hint) {
		if i > 0 {
			text = append(text, '\n')
		}
		text = append(text, paint(line, s.colours)...)
		*s.drawn = append(*s.drawn, ansi.StringWidth(line.String()))
	}
	return tea.NewView(string(text))
}
