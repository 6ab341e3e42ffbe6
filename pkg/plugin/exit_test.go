package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"

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
		{"interrupted", errInterrupted, "error: interrupted\n"},
		{"what could drive the terminal", errors.New("webhook says \x1b[2Jgone\rnothing"), "error: webhook says ^[[2Jgone\\rnothing\n"},
	} {
		var b strings.Builder
		report(&b, tc.err)
		if d := cmp.Diff(tc.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
	away := plainWords(fmt.Errorf("list pods: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}))
	if !strings.Contains(away, "does not answer") || !strings.Contains(away, "connection refused") {
		t.Errorf("got %q", away)
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
