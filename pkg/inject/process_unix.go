//go:build unix

package inject

import (
	"os/exec"
	"syscall"
)

// killTogether puts a command into a process group of its own and ends the whole
// group with it, so that nothing that it started stays behind.
func killTogether(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
