package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

func TestExitCode(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	other, cancelOther := context.WithCancelCause(t.Context())
	cancelOther(errors.New("the API server is away"))
	for _, tc := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"done", nil, nil, 0},
		{"done just before the signal", interrupted, nil, 0},
		{"failed", nil, errors.New("no"), 1},
		{"bad input", nil, gate.BadInputf("no such tag"), 1},
		{"usage", nil, usagef("no such flag"), 2},
		{"a refusal", nil, &gate.Error{Step: "crds"}, 3},
		{"stopped", nil, &gate.Stopped{Reason: "not confirmed"}, 3},
		{"timeout", nil, &gate.Timeout{Reason: "no progress"}, 124},
		{"interrupted", interrupted, context.Canceled, 130},
		{"interrupted, whatever came of it", interrupted, &gate.Stopped{Reason: "no"}, 130},
		{"cancelled by something else", other, context.Canceled, 1},
		{"a refusal deep inside", nil, fmt.Errorf("all: %w", errors.Join(io.EOF, &gate.Error{})), 3},
		{"usage deep inside", nil, fmt.Errorf("all: %w", usagef("no")), 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			if got := ExitCode(ctx, tc.err); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

var unreadOutput = &fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.EPIPE}

// A plan that could not be shown is not applied, not even with --yes.
func TestPlanThatNobodyReads(t *testing.T) {
	for _, output := range []string{"table", "name"} {
		streams, _, _, _ := genericiooptions.NewTestIOStreams()
		streams.Out = writerFunc(func([]byte) (int, error) { return 0, unreadOutput })
		a := action{
			step: "sidecars", names: []string{"deployment/web"},
			show: func(w io.Writer, _ bool) error { fmt.Fprintln(w, "the plan"); return nil },
			apply: func(context.Context, progress.Emitter) (any, error) {
				t.Errorf("-o %s: applied", output)
				return nil, nil
			},
		}
		flags := changeFlags{yes: true, dryRun: dryRunNone, output: outputFlag{output}}
		err := flags.run(t.Context(), &session{IOStreams: streams}, cluster.Identity{}, a)
		if code := ExitCode(t.Context(), err); code != exitStopped || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("-o %s: exit %d, %v", output, code, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"nothing", nil, ""},
		{"one line", errors.New("no such chart"), "error: no such chart\n"},
		{"several", errors.New("crds refused for 2 reasons:\n  - a\n  - b"), "error: crds refused for 2 reasons:\n  - a\n  - b\n"},
		{"usage points to the help", usagef("no such flag"), "error: no such flag\nSee 'kubectl istio-upgrade --help'\n"},
		{"usage of a command points to its own", usageError{usagef("no such flag"), "kubectl istio-upgrade crds"}, "error: no such flag\nSee 'kubectl istio-upgrade crds --help'\n"},
		{"whoever read it has left", fmt.Errorf("write: %w", unreadOutput), ""},
		{"whoever was to read the plan has left", fmt.Errorf("%w (%w)", &gate.Stopped{Reason: "nothing was changed"}, unreadOutput), "error: nothing was changed (write /dev/stdout: broken pipe)\n"},
		{"interrupted", errInterrupted, "error: interrupted\n"},
		{"what could drive the terminal", errors.New("webhook says \x1b[2Jgone\rnothing"), "error: webhook says ^[[2Jgone\\rnothing\n"},
	} {
		var b strings.Builder
		report(&b, tc.err)
		if d := cmp.Diff(tc.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	c := &cluster.Cluster{Config: &rest.Config{Host: "https://127.0.0.1:6443"}}
	for _, tc := range []struct {
		err  error
		away bool
	}{
		{fmt.Errorf("list pods: %w", &url.Error{Op: "Get", URL: "https://127.0.0.1:6443/api/v1/pods", Err: refused}), true},
		{fmt.Errorf("read the charts: %w", &url.Error{Op: "Get", URL: "https://charts.example.com/index.yaml", Err: refused}), false},
		{fmt.Errorf("cannot read web.yaml: %w", syscall.ENOENT), false}, // a system's error number counts as one of the network
		{fmt.Errorf("cannot read a manifest: %w", refused), false},
		{&url.Error{Op: "Get", URL: "https://127.0.0.1:6443/api/v1/pods", Err: context.Canceled}, false},
	} {
		words := plainWords(c.Mark(tc.err))
		if strings.Contains(words, "the API server does not answer") != tc.away || !strings.Contains(words, tc.err.Error()) {
			t.Errorf("%v: %q", tc.err, words)
		}
	}
	if got := plainWords(apierrors.NewUnauthorized("expired")); !strings.Contains(got, "credentials") {
		t.Errorf("got %q", got)
	}
}

// TestPromptNeedsATerminal: without one nothing is applied unless --yes says
// so, and a dry run needs no answer.
func TestPromptNeedsATerminal(t *testing.T) {
	soft := gate.Refusal{Reason: "it is pending", Forceable: true}
	for _, tc := range []struct {
		name    string
		flags   changeFlags
		change  func(*action)
		applied bool
		code    int
		errOut  string
	}{
		{name: "nobody to ask", code: exitUsage},
		{name: "--yes", flags: changeFlags{yes: true}, applied: true},
		{name: "a dry run", flags: changeFlags{dryRun: dryRunServer}},
		{name: "a dry run with --yes", flags: changeFlags{dryRun: dryRunClient, yes: true}},
		{name: "nothing to do", change: func(a *action) { a.empty, a.nothing = true, "nothing to do" }, errOut: "nothing to do\n"},
		{name: "a refusal before the question", change: func(a *action) { a.refusals = []gate.Refusal{soft} }, flags: changeFlags{yes: true}, code: exitStopped},
		{
			name: "--force", change: func(a *action) { a.refusals = []gate.Refusal{soft} }, flags: changeFlags{yes: true, force: true}, applied: true,
			errOut: "warning: --force overrides: it is pending (--force overrides this)\n",
		},
		{name: "--force is no answer", change: func(a *action) { a.refusals = []gate.Refusal{soft} }, flags: changeFlags{force: true}, code: exitUsage, errOut: "warning: --force overrides: it is pending (--force overrides this)\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			streams, in, out, errOut := genericiooptions.NewTestIOStreams()
			in.WriteString("yes\n") // what is piped in is no person
			applied := false
			a := action{
				step: "sidecars", prompt: "Move 1 workload?",
				show: func(w io.Writer, _ bool) error { _, err := io.WriteString(w, "the plan\n"); return err },
				apply: func(context.Context, progress.Emitter) (any, error) {
					applied = true
					return nil, nil
				},
			}
			if tc.change != nil {
				tc.change(&a)
			}
			if tc.flags.dryRun == "" {
				tc.flags.dryRun = dryRunNone
			}
			err := tc.flags.run(t.Context(), &session{IOStreams: streams}, cluster.Identity{}, a)
			if code := ExitCode(t.Context(), err); code != tc.code || applied != tc.applied {
				t.Errorf("exit %d, applied %v (%v); want %d, %v", code, applied, err, tc.code, tc.applied)
			}
			if out.String() != "the plan\n" {
				t.Errorf("the plan is shown in every case; stdout %q", out)
			}
			if errOut.String() != tc.errOut {
				t.Errorf("stderr %q, want %q", errOut, tc.errOut)
			}
		})
	}
}

// What is wrong with a file or an address that the user gave is said of it, and
// not of the API server.
func TestFilesAreNotTheServer(t *testing.T) {
	useKubeconfig(t, "http://127.0.0.1:1")
	for _, tc := range []struct{ line, want string }{
		{"uninject -f nofile", "cannot read the manifests: stat nofile: no such file or directory"},
		{"uninject -f http://127.0.0.1:1/web.yaml", "cannot read http://127.0.0.1:1/web.yaml: dial tcp 127.0.0.1:1: connect: connection refused; can it be reached from here?"},
		{"sidecars -f nofile", "cannot read the manifests: stat nofile: no such file or directory"},
		{"sidecars --inject-config nofile", "cannot read --inject-config: open nofile: no such file or directory"},
		{"status --kubeconfig nofile", "stat nofile: no such file or directory"},
	} {
		code, _, errOut := runMain(t, strings.Fields(tc.line)...)
		if code == 0 || !strings.Contains(errOut, tc.want) || strings.Contains(errOut, "does not answer") || strings.Count(errOut, "cannot read") > 1 {
			t.Errorf("%s: exit %d, want %q in %s", tc.line, code, tc.want, errOut)
		}
	}
}
