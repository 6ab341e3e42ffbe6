package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// started is what a part was started with. It is kept in the cluster's state.
type started struct {
	Name string   `json:"name"`
	Path string   `json:"path"`
	Args []string `json:"args"`
	Env  []string `json:"env"` // besides the parent's
	Log  string   `json:"log"`
	PID  int      `json:"pid"` // 0 when it was stopped
}

// process is one part, and its end.
type process struct {
	mu sync.Mutex
	started
	stopped bool          // on purpose
	ended   chan struct{} // closed when it is gone; nil where it is not our child
	err     error         // of its end
}

// start runs the process. Detached, it outlives this program; otherwise it ends with it (on Linux also when this
// program is killed). Its output goes to its log.
func (p *process) start(ctx context.Context, detached bool, spawn func(func())) error {
	logFile, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	defer func() { _ = logFile.Close() }()

	// A part lives until it is stopped, not until the caller's context ends.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Dir = filepath.Dir(p.Log)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = processAttributes(detached)
	spawn(func() { err = cmd.Start() })
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.PID, p.stopped, p.err, p.ended = cmd.Process.Pid, false, nil, make(chan struct{})
	ended := p.ended
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.stopped {
			p.err = p.died(err)
		}
		close(ended)
	}()
	return nil
}

// died describes an end that nobody asked for.
func (p *process) died(err error) error {
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended by itself (%w); its log %s ends with:\n%s", p.Name, err, p.Log, tail(p.Log, 15))
}

// snapshot is what the part was started with, and its process id now.
func (p *process) snapshot() started {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

// failure is the end that nobody asked for, or nil.
func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// stop ends the process by its id, SIGTERM first and SIGKILL after the grace, and waits for it to be gone.
// One that is gone already, or whose id belongs to another program now, is left alone.
func (p *process) stop(grace time.Duration) error {
	p.mu.Lock()
	p.stopped = true
	pid, ended := p.PID, p.ended
	p.mu.Unlock()
	if pid == 0 {
		return nil
	}
	gone := func() bool {
		if ended != nil {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		}
		return !runs(pid, p.Path)
	}
	if !gone() {
		for _, s := range []struct {
			signal syscall.Signal
			wait   time.Duration
		}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 10 * time.Second}} {
			if err := syscall.Kill(pid, s.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stopping %s (pid %d): %w", p.Name, pid, err)
			}
			if waitUntil(gone, s.wait) {
				break
			}
		}
	}
	if !gone() {
		return fmt.Errorf("stopping %s: pid %d does not end", p.Name, pid)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.PID = 0
	return nil
}

// waitUntil asks every 20 ms until the answer is yes or the time is over, and returns the last answer.
func waitUntil(done func() bool, limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			return done()
		case <-tick.C:
		}
	}
	return true
}

// tail returns the last lines of a file, or why there are none.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(b) > 1<<16 {
		b = b[len(b)-1<<16:]
	}
	return lastLines(strings.ToValidUTF8(string(b), "?"), lines)
}
