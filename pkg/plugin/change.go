package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/lock"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// changeFlags are the flags of every command that changes something.
type changeFlags struct {
	output       outputFlag
	dryRun       string
	yes          bool
	wait         bool
	timeout      time.Duration
	fieldManager string
	force        bool
	takeOver     bool
	listen       listenFlags

	// locks are those of the whole run, where it has several steps; nil for one.
	locks *lock.Set
}

const defaultTimeout = 10 * time.Minute

const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

func (c *changeFlags) add(flags *pflag.FlagSet) {
	c.output.add(flags)
	c.listen.add(flags)
	flags.StringVar(&c.dryRun, "dry-run", dryRunNone, "Show the plan and change nothing: none, client or server")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.BoolVarP(&c.yes, "yes", "y", false, "Go ahead without asking")
	flags.BoolVar(&c.wait, "wait", true, "Wait until what was changed is ready, and verify it; crds always does")
	flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "How long one workload or release may be without progress")
	flags.StringVar(&c.fieldManager, "field-manager", sidecars.DefaultFieldManager, "Name of the manager that workloads, and definitions of no release, are written as; releases are as Helm's")
	flags.BoolVar(&c.force, "force", false, "Go ahead in spite of refusals that say that --force overrides them")
	flags.BoolVar(&c.takeOver, "take-over", false, "Take the lock of a run that has died without waiting for its lease to expire; refused while that run lives")
}

// validate checks what the flags' types do not.
func (c *changeFlags) validate() error {
	if !slices.Contains([]string{dryRunNone, dryRunClient, dryRunServer}, c.dryRun) {
		return usagef("--dry-run is none, client or server, not %q", c.dryRun)
	}
	if c.timeout <= 0 {
		return usagef("--timeout must be more than 0")
	}
	if c.fieldManager == "" {
		return usagef("--field-manager must not be empty")
	}
	if err := c.listen.validate(); err != nil {
		return err
	}
	return c.output.validate()
}

// action is a step's plan together with what shows and applies it.
type action struct {
	step string // crds, control-plane, sidecars, rollback
	plan any    // for JSON
	// refusals keep the plan from being applied.
	refusals []gate.Refusal
	warnings []string
	// empty plans are shown and not applied; nothing says why.
	empty   bool
	nothing string
	// prompt asks for the confirmation, as in "Move 12 workloads?".
	prompt string
	show   func(w io.Writer, wide bool) error
	// names are the objects that would change, for -o name.
	names []string
	apply func(context.Context, progress.Emitter) (any, error)
	// try has the API server judge the plan without storing anything; nil where
	// that was done for the plan already.
	try func(context.Context, progress.Emitter) error
	// locks are held while it is applied; none for a plan that writes nothing.
	locks   []lock.Key
	cluster *cluster.Cluster
	// left is what stays with a person, for JSON; leftAfter what does so after
	// apply has given its result, where that is more.
	left      any
	leftAfter func(result any) any
}

// document is what a command prints as JSON or YAML: the plan, and what came of
// it. Fields are added, never renamed or removed, within a version.
type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Step       string `json:"step"`
	DryRun     bool   `json:"dryRun"`
	Plan       any    `json:"plan,omitempty"`
	// Steps are the documents of the steps, where a command has several.
	Steps  []document `json:"steps,omitzero"`
	Result any        `json:"result,omitempty"`
	Left   any        `json:"left,omitempty"`
	// Refusals are why nothing was applied.
	Refusals []gate.Refusal `json:"refusals,omitempty"`
	Error    string         `json:"error,omitempty"`
}

// run shows an action's plan, asks, and applies it.
func (c *changeFlags) run(ctx context.Context, s *session, id cluster.Identity, a action) error {
	doc := c.document(a)
	err := c.carryOut(ctx, s, id, a, &doc)
	if err == nil {
		err = c.judged(ctx, s, a)
	}
	err = c.listen.finish(a.step, s.mark(err))
	doc.endWith(err)
	if c.output.structured() {
		if printErr := c.output.print(s.Out, doc); printErr != nil {
			return errors.Join(err, printErr)
		}
	}
	return err
}

// document gives what -o json prints of an action, before anything came of it.
func (c *changeFlags) document(a action) document {
	return document{APIVersion: documentVersion, Kind: "Report", Step: a.step, DryRun: c.dryRun != dryRunNone, Plan: a.plan, Left: a.left}
}

// endWith notes what a command ended with.
func (d *document) endWith(err error) {
	if err == nil {
		return
	}
	d.Error = err.Error()
	if refused, ok := errors.AsType[*gate.Error](err); ok {
		d.Refusals = refused.Refusals
	}
}

// judged has the API server judge a plan where --dry-run=server asks for it. The
// error says what it refuses.
func (c *changeFlags) judged(ctx context.Context, s *session, a action) error {
	if c.dryRun != dryRunServer || a.empty || a.try == nil {
		return nil
	}
	return a.try(ctx, progress.Emitter{Step: a.step, To: c.listener(s)})
}

// present shows an action's plan, but for what is printed as one document. What
// nobody could read is not to be applied.
func (c *changeFlags) present(s *session, a action) error {
	show := func(w io.Writer) error { return a.show(w, c.output.wide()) }
	switch {
	case c.output.structured():
		return nil
	case c.output.name():
		show = func(w io.Writer) error {
			for _, name := range a.names {
				fmt.Fprintln(w, name)
			}
			return nil
		}
	}
	return c.toReader(s, show)
}

// toReader prints what has to be read before anything is applied.
func (c *changeFlags) toReader(s *session, show func(io.Writer) error) error {
	out := &watchedWriter{Writer: s.Out}
	err := show(out)
	if err == nil {
		err = out.failed
	}
	if err != nil && c.dryRun == dryRunNone {
		return fmt.Errorf("%w (%w)", &gate.Stopped{Reason: "the plan could not be shown, so nothing was changed"}, err)
	}
	return err
}

// watchedWriter remembers the first write that failed.
type watchedWriter struct {
	io.Writer
	failed error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.failed == nil {
		w.failed = err
	}
	return n, err
}

func (c *changeFlags) carryOut(ctx context.Context, s *session, id cluster.Identity, a action, doc *document) error {
	if err := c.present(s, a); err != nil {
		return err
	}
	if err := gate.Check(a.step, a.refusals, c.force); err != nil {
		return err
	}
	s.tellForced(a.refusals)
	if c.dryRun != dryRunNone {
		return nil
	}
	if err := c.listen.open(s, id); err != nil {
		return err
	}
	c.listen.expect(a)
	if a.empty {
		if a.nothing != "" && !c.output.name() {
			fmt.Fprintln(s.ErrOut, a.nothing)
		}
		return nil
	}
	if err := c.confirm(ctx, s, id, a); err != nil {
		return err
	}
	result, err := c.perform(ctx, s, c.underLock(a))
	doc.Result = result
	if a.leftAfter != nil {
		doc.Left = a.leftAfter(result)
	}
	return err
}

// tellForced names what --force overrides.
func (s *session) tellForced(refusals []gate.Refusal) {
	if s.quiet {
		return
	}
	for _, r := range refusals {
		fmt.Fprintln(s.ErrOut, "warning: --force overrides: "+escape(r.String()))
	}
}

// confirm asks for the go-ahead. Without a terminal to ask at, --yes is needed. A
// signal is an answer too.
func (c *changeFlags) confirm(ctx context.Context, s *session, id cluster.Identity, a action) error {
	if c.yes {
		return nil
	}
	in, ok := s.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("no terminal to ask at: give --yes to go ahead, or --dry-run to see the plan alone")
	}
	if c.output.structured() {
		if err := a.show(s.ErrOut, c.output.wide()); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.ErrOut, "\nContext %s, server %s\n%s [y/N] ", escape(id.Context), escape(id.Server), a.prompt)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // none, at the end of the input, is a no
		answer <- line
	}()
	select {
	case <-ctx.Done(): // the read stays behind: it ends with the process
		fmt.Fprintln(s.ErrOut)
		return fmt.Errorf("%w at the prompt: %s has changed nothing", context.Cause(ctx), a.step)
	case line := <-answer:
		if !strings.HasSuffix(line, "\n") {
			fmt.Fprintln(s.ErrOut)
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	}
	return &gate.Stopped{Reason: fmt.Sprintf("not confirmed: %s has changed nothing", a.step)}
}
