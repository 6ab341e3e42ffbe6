package lab_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// alive is an error when no process has the id.
func alive(pid int) error { return syscall.Kill(pid, 0) }

func kill(t *testing.T, pid int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
}

// TestKilledParent starts a cluster from another process, kills that process, and looks that no part outlives it.
func TestKilledParent(t *testing.T) {
	if os.Getenv("LAB_TEST_PARENT") != "" {
		parent(t)
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledParent$")
	cmd.Env = append(os.Environ(), "LAB_TEST_PARENT="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, err := strconv.Atoi(rest)
			must(t, err)
			pids = append(pids, pid)
		}
		if lines.Text() == "up" {
			break
		}
	}
	if len(pids) != 5 {
		t.Errorf("the other process started %v, want five parts", pids)
	}
	kill(t, cmd.Process.Pid)
	_ = cmd.Wait() // it was killed
	for _, pid := range pids {
		eventually(t, "the part "+strconv.Itoa(pid)+" ends", func(context.Context) (bool, error) {
			return alive(pid) != nil, nil
		})
	}
}

func parent(t *testing.T) {
	t.Helper()
	c, err := lab.Start(t.Context(), lab.Options{Dir: os.Getenv("LAB_TEST_PARENT"), Nodes: 1})
	must(t, err)
	for _, pid := range processes(t, c) {
		_, _ = os.Stdout.WriteString("pid " + strconv.Itoa(pid) + "\n")
	}
	_, _ = os.Stdout.WriteString("up\n")
	<-t.Context().Done() // until it is killed
}
