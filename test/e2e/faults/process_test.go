package faults

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// process is a run of the plugin that is under way.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	began  time.Time
	stdout bytes.Buffer

	mu     sync.Mutex
	stderr strings.Builder
	told   chan struct{} // closed and made anew with every line
	done   chan struct{}
	err    error
}

// patience is how long a line or an end is waited for, on a busy machine.
const patience = 2 * time.Minute

// start runs the plugin in the background, without a terminal.
func start(w *clustertest.World, args ...string) *process {
	w.T.Helper()
	return startCommand(w, w.Command(w.T.Context(), args...))
}

func startCommand(w *clustertest.World, cmd *exec.Cmd) *process {
	w.T.Helper()
	p := &process{t: w.T, cmd: cmd, began: time.Now(), told: make(chan struct{}), done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.stdout
	}
	lines, err := cmd.StderrPipe()
	w.Check(err)
	w.Check(cmd.Start())
	go func() {
		p.read(lines)
		p.err = cmd.Wait()
		close(p.done)
	}()
	w.T.Cleanup(func() { _ = cmd.Process.Kill(); <-p.done })
	return p
}

func (p *process) read(from io.Reader) {
	reader := bufio.NewReader(from)
	for {
		line, err := reader.ReadString('\n')
		p.mu.Lock()
		p.stderr.WriteString(line)
		close(p.told)
		p.told = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for a text on standard error.
func (p *process) until(text string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		seen, told := p.stderr.String(), p.told
		p.mu.Unlock()
		if strings.Contains(seen, text) {
			return
		}
		select {
		case <-told:
		case <-p.done:
			p.mu.Lock()
			seen = p.stderr.String()
			p.mu.Unlock()
			if !strings.Contains(seen, text) {
				p.t.Fatalf("it ended before it said %q\n%s", text, p.outcome())
			}
			return
		case <-deadline:
			p.t.Fatalf("it did not say %q within %s; stderr so far:\n%s", text, patience, seen)
		}
	}
}

// signal sends one.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait gives what the run left.
func (p *process) wait() outcome {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("it did not end within %s; stderr so far:\n%s", patience, p.stderr.String())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatalf("run the plugin: %v", p.err)
	}
	return p.outcome()
}

// must ends the test where the exit code is another.
func (p *process) must(code int, words ...string) outcome {
	p.t.Helper()
	o := p.wait()
	if o.Code != code {
		p.t.Fatalf("want exit code %d\n%s", code, o)
	}
	for _, word := range words {
		if !strings.Contains(o.Stdout+o.Stderr, word) {
			p.t.Errorf("want %q in\n%s", word, o)
		}
	}
	return o
}

func (p *process) outcome() outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	return outcome{Stdout: p.stdout.String(), Stderr: p.stderr.String(), Code: p.cmd.ProcessState.ExitCode(), Took: time.Since(p.began)}
}
