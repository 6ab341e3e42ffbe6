//go:build unix

package plugin

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// inForeground says whether the terminal is ours: a job in the background that
// changes a terminal's settings is stopped.
func inForeground(tty *os.File) bool {
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// watchdog waits for word from its standard input and, where that ends without
// any, puts back the terminal's settings (of 3) and shows the cursor (on 4).
const watchdog = `trap '' INT QUIT TERM HUP TSTP TTIN TTOU
saved=$(stty -g <&3) || exit 1
echo ready
IFS= read -r word && exit 0
stty "$saved" <&3
printf '\033[?25h\033[?2004l\r\n' >&4`

// guard has the terminal put right by another process where this one ends
// without doing so, as by a panic or when it is killed. It returns once the
// terminal's settings are noted; release ends the guard. Without a shell there
// is none.
func guard(ctx context.Context, tty, keyboard *os.File) (release func()) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", watchdog)
	cmd.ExtraFiles = []*os.File{keyboard, tty}
	in, err := cmd.StdinPipe()
	if err != nil {
		return func() {}
	}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return func() {}
	}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		_, _ = bufio.NewReader(out).ReadString('\n')
	}()
	select {
	case <-ready:
	case <-time.After(farewellTime):
		// It would note the settings of the view.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return func() {}
	}
	return func() {
		_, _ = io.WriteString(in, "done\n")
		_ = in.Close()
		_ = cmd.Wait() // its only failure is to be there no more
	}
}
