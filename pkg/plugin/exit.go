package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
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
type usageError struct {
	error
	command string // whose help tells more; empty for that of the plugin
}

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error {
	return usageError{error: fmt.Errorf(format, args...)}
}

// errInterrupted is the cause of a context that a signal has cancelled.
var errInterrupted = errors.New("interrupted")

// interrupts are the signals that end a run, and what is to be done before the
// process ends at once.
type interrupts struct {
	signals chan os.Signal
	mu      sync.Mutex
	before  func()
}

type interruptsKey struct{}

// Signals gives a context that the first SIGINT or SIGTERM cancels. The second
// one ends the process at once. A closed terminal (SIGHUP) counts as the first
// alone: the shell and the kernel send one each. What was ignored when the process
// began stays ignored. A write to a pipe that nobody reads any more is an error,
// not the end of the process.
func Signals() (context.Context, func()) {
	i := &interrupts{signals: make(chan os.Signal, 2)}
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), interruptsKey{}, i))
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // as under nohup, or in the background of a script
			signal.Notify(i.signals, s)
		}
	}
	// Not ignored, which the programs that are started would inherit.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		select {
		case <-i.signals:
			cancel(errInterrupted)
		case <-done:
			return
		}
		for {
			select {
			case s := <-i.signals:
				if s != syscall.SIGHUP {
					i.exit()
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(i.signals)
		signal.Stop(broken)
		close(done)
		cancel(nil)
	}
}

func (i *interrupts) exit() {
	i.mu.Lock()
	before := i.before
	i.mu.Unlock()
	if before != nil {
		before()
	}
	fmt.Fprintln(os.Stderr, "error: interrupted twice: ended at once; the same command goes on from here, and a lock that was held expires by itself")
	os.Exit(exitInterrupted)
}

// onExit has f called before a second signal ends the process; nil for nothing.
func onExit(ctx context.Context, f func()) {
	if i, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		i.mu.Lock()
		i.before = f
		i.mu.Unlock()
	}
}

// interruptOf gives what counts as a signal: in raw mode a terminal sends none.
func interruptOf(ctx context.Context) func() {
	i, ok := ctx.Value(interruptsKey{}).(*interrupts)
	if !ok {
		return func() {}
	}
	return func() {
		select {
		case i.signals <- os.Interrupt:
		default: // two are on their way already
		}
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

// withCause says that a signal ended what failed only since its context was
// cancelled.
func withCause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errInterrupted) && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", errInterrupted, err)
	}
	return err
}

// report prints an error, with nothing in it that could drive the terminal.
func report(w io.Writer, err error) {
	if err == nil || unread(err) {
		return
	}
	lines := strings.Split(plainWords(err), "\n")
	for i, line := range lines {
		if i == 0 {
			line = "error: " + line
		}
		_, _ = io.WriteString(w, escape(line)+"\n")
	}
}

// unread says whether a command ended because nobody reads what it prints, as
// after "| head": whoever left need not be told.
func unread(err error) bool {
	var file *fs.PathError
	return errors.As(err, &file) && file.Path == os.Stdout.Name() && errors.Is(file.Err, syscall.EPIPE) &&
		!errors.As(err, new(*gate.Stopped))
}

// plainWords says in a user's words what client-go says in a programmer's.
func plainWords(err error) string {
	var usage usageError
	var file *fs.PathError // such as a certificate that the connection needs
	switch {
	case errors.As(err, &file):
		return err.Error()
	case clientcmd.IsEmptyConfig(err):
		return "no kubeconfig: set KUBECONFIG, or give --kubeconfig or --context"
	case errors.Is(err, errInterrupted) && err.Error() == errInterrupted.Error():
		return "interrupted"
	case errors.As(err, &usage):
		return err.Error() + "\nSee '" + cmp.Or(usage.command, commandPath()) + " --help'"
	case apierrors.IsUnauthorized(err):
		return "the API server does not accept the credentials of this context: " + err.Error() + "; log in again as for kubectl"
	case apierrors.IsForbidden(err):
		return err.Error() + "; ask for the right, docs/rbac.md lists those of each command"
	case errors.As(err, new(*cluster.Unreachable)) && !errors.As(err, new(apierrors.APIStatus)):
		return "the API server does not answer: " + err.Error() + "; look at --context and --server, and whether it can be reached from here"
	}
	return err.Error()
}
