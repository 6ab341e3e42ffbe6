//go:build !linux

package lab

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func processAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}

func spawner() (spawn func(func()), stop func()) {
	return func(f func()) { f() }, func() {}
}

// runs says whether the process exists and runs the program at path.
func runs(pid int, path string) bool {
	//nolint:noctx // ps answers at once, and stopping must work when every context has ended
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), path)
}
