package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// The exit codes.
const (
	exitDone        = 0   // done, or nothing to do
	exitFailed      = 1   // failed, or everything was tried and some of it failed
	exitUsage       = 2   // usage
	exitStopped     = 3   // stopped on purpose with work left
	exitTimeout     = 124 // timeout
	exitInterrupted = 130 // interrupted
)

// usageError is a mistake in the command line itself.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errInterrupted is the cause of a context that a signal has cancelled.
var errInterrupted = errors.New("interrupted")

// Signals gives a context that the first SIGINT or SIGTERM cancels. The second
// one ends the process at once. A closed terminal (SIGHUP) counts as the first.
func Signals() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		cancel(errInterrupted)
		if _, ok := <-signals; ok {
			os.Exit(exitInterrupted)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// ExitCode gives the exit code for the error that a command ended with: 0
// without one, 2 for wrong usage, 3 for what was stopped on purpose with work
// left, 124 for a timeout, 130 after a signal, else 1.
func ExitCode(ctx context.Context, err error) int {
	var usage usageError
	var refused *gate.Error
	var stopped *gate.Stopped
	var timeout *gate.Timeout
	switch {
	case err == nil:
		return exitDone
	case errors.Is(context.Cause(ctx), errInterrupted):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refused), errors.As(err, &stopped):
		return exitStopped
	case errors.As(err, &timeout):
		return exitTimeout
	}
	return exitFailed
}

// report prints an error, with nothing in it that could drive the terminal.
func report(w io.Writer, err error) {
	if err == nil {
		return
	}
	lines := strings.Split(plainWords(err), "\n")
	for i, line := range lines {
		if i == 0 {
			line = "error: " + line
		}
		_ = printers.WriteEscaped(w, line)
		_, _ = io.WriteString(w, "\n")
	}
}

// plainWords says in a user's words what client-go says in a programmer's.
func plainWords(err error) string {
	var network net.Error
	var usage usageError
	switch {
	case clientcmd.IsEmptyConfig(err):
		return "no kubeconfig: set KUBECONFIG, or give --kubeconfig or --context"
	case errors.Is(err, errInterrupted) && err.Error() == errInterrupted.Error():
		return "interrupted"
	case errors.As(err, &usage):
		return err.Error() + "\nSee '" + commandPath("--help") + "'"
	case apierrors.IsUnauthorized(err):
		return "the API server does not accept the credentials of this context: " + err.Error()
	case errors.As(err, &network) && !errors.As(err, new(apierrors.APIStatus)):
		return "the API server does not answer: " + err.Error() + "; look at --context and --server, and whether it can be reached from here"
	}
	return err.Error()
}
