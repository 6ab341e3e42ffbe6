package lab

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes: a detached process gets a session of its own; another one a process group of its own, so that
// Ctrl-C reaches this program alone, and the kernel's promise to end it when its parent dies.
func processAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// spawner returns a function that runs what it is given on one thread which lives until stop is called:
// Pdeathsig goes by the parent's thread, not by its process (prctl(2)).
func spawner() (spawn func(func()), stop func()) {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range work {
			f()
		}
	}()
	spawn = func(f func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); f() }
		<-done
	}
	return spawn, func() { close(work) }
}

// runs says whether the process exists, is no zombie, and runs the program at path.
func runs(pid int, path string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	argv0, _, _ := strings.Cut(string(b), "\x00")
	return argv0 == path
}
