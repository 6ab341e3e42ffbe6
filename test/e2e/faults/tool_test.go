package faults

import (
	"bytes"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// What happens to the plugin itself.
var toolFaults = []fault{
	{name: "interrupted once", objects: web("a", "b", "c"), test: func(s *scene) { s.stopped(syscall.SIGINT) }},
	{name: "terminated", objects: web("a", "b", "c"), test: func(s *scene) { s.stopped(syscall.SIGTERM) }},
	// The shell sends one, and the kernel another.
	{name: "terminal closed", objects: web("a", "b", "c"), test: func(s *scene) { s.stopped(syscall.SIGHUP) }},
	{name: "interrupted twice", objects: web("a", "b", "c"), test: interruptedTwice},
	{name: "killed", objects: web("a", "b", "c"), test: killed},
	{name: "killed, and run again at once", objects: []manifest{{Kind: "Deployment", Name: "a", Replicas: 1}}, test: againAtOnce},
	{name: "pager quit before the plan was read", objects: web("a", "b"), test: pagerQuit},
	{name: "pager quit meanwhile", objects: web("a", "b", "c"), test: pagerQuitMeanwhile},
	{name: "timeout of a workload", objects: web("a", "b"), test: func(s *scene) {
		recover := s.failing(lab.FailNeverReady)
		s.fails(124, s.sidecars("--timeout", "3s", "--on-failure", "undo"), "no progress for 3s", "its template was put back")
		s.WantProxies(s.ns, "", map[string]int{older: 4})
		s.watch.Never(s.World, 2)
		recover()
		s.finishes(s.sidecars("--timeout", "1m", "--on-failure", "undo"))
	}},
}

// moving starts a run whose first workload is in the middle of its rollout.
func (s *scene) moving() (p *process, run []string, release func()) {
	s.T.Helper()
	release = s.failing(lab.FailNeverReady)
	run = s.sidecars("--max-parallel", "1")
	p = start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	return p, run, release
}

// stopped: what is half done is said, the rollout that moves is left to its
// controller, nothing else is touched, and the same command goes on.
func (s *scene) stopped(signal os.Signal) {
	p, run, release := s.moving()
	p.signal(signal)
	if signal == syscall.SIGHUP { // as many as come until it has ended
		for p.cmd.Process.Signal(signal) == nil {
			select {
			case <-p.done:
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	o := p.must(130, "interrupted", "deployment/a in "+s.ns, "its controller goes on with it", "2 not started")
	if o.Took > time.Minute {
		s.T.Errorf("it ended after %s", o.Took)
	}
	release()
	s.WantProxies(s.ns, "a", map[string]int{newer: 2})
	s.WantProxies(s.ns, "b", map[string]int{older: 2})
	s.finishes(run)
}

// interruptedTwice: the second one ends it at once, whatever it does.
func interruptedTwice(s *scene) {
	p, run, release := s.moving()
	p.signal(syscall.SIGSTOP) // so that both are there before it sees one
	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
	if o := p.must(130, "interrupted twice: ended at once"); strings.Contains(o.Stderr, "Half done") {
		s.T.Errorf("it did not end at once: %s", o)
	}
	release()
	s.finishes(run)
}

func killed(s *scene) {
	p, run, release := s.moving()
	p.signal(syscall.SIGKILL)
	if o := p.wait(); o.Code != -1 {
		s.T.Errorf("it was not killed: %s", o)
	}
	release()
	s.WantProxies(s.ns, "a", map[string]int{newer: 2})
	s.WantProxies(s.ns, "b", map[string]int{older: 2})
	s.finishes(run)
}

// againAtOnce: the old pod still serves and the new one starts when the same
// command comes again; it follows what the killed one began, to the end.
func againAtOnce(s *scene) {
	release := s.failing(lab.FailNeverReady)
	words := "deployment/a in " + s.ns + ": 1 of 1 new"
	p := start(s.World, s.sidecars()...)
	p.until(words)
	p.signal(syscall.SIGKILL)
	p.wait()
	p = start(s.World, s.sidecars()...)
	p.until(words)
	release()
	p.must(0, "its restart is not complete: the run goes on with it", "1 done")
	s.isWhole()
}

// pagerQuit: nobody has read the plan, so nothing changes.
func pagerQuit(s *scene) {
	reader, writer, err := os.Pipe()
	s.Check(err)
	s.Check(reader.Close())
	cmd := s.Command(s.T.Context(), s.sidecars()...)
	cmd.Stdout = writer
	p := startCommand(s.World, cmd)
	s.Check(writer.Close())
	p.must(3, "the plan could not be shown, so nothing was changed", "broken pipe")
	s.WantProxies(s.ns, "", map[string]int{older: 4})
	s.finishes(s.sidecars())
}

// pagerQuitMeanwhile: both streams led to a pager, which is gone.
func pagerQuitMeanwhile(s *scene) {
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	cmd := s.Command(s.T.Context(), run...)
	reader, writer, err := os.Pipe()
	s.Check(err)
	cmd.Stdout, cmd.Stderr = writer, writer
	s.Check(cmd.Start())
	s.Check(writer.Close())
	s.readUntil(reader, "deployment/a in "+s.ns+": 1 of 2 new")
	s.Check(reader.Close())
	release()
	s.Check(cmd.Wait()) // what has begun goes on to its end
	s.WantProxies(s.ns, "", map[string]int{newer: 6})
	s.finishes(run)
}

// readUntil reads until a text has come.
func (s *scene) readUntil(r io.Reader, text string) {
	s.T.Helper()
	var seen []byte
	buffer := make([]byte, 4096)
	for !bytes.Contains(seen, []byte(text)) {
		n, err := r.Read(buffer)
		seen = append(seen, buffer[:n]...)
		if err != nil {
			s.T.Fatalf("it ended before it said %q: %s", text, seen)
		}
	}
}
