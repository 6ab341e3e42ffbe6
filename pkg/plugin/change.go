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
}

const defaultTimeout = 10 * time.Minute

const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

func (c *changeFlags) add(flags *pflag.FlagSet) {
	c.output.add(flags)
	flags.StringVar(&c.dryRun, "dry-run", dryRunNone, "none, client or server: show the plan and change nothing")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.BoolVarP(&c.yes, "yes", "y", false, "Go ahead without asking")
	flags.BoolVar(&c.wait, "wait", true, "Wait until what was changed is ready, and verify it")
	flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "How long one workload or release may be without progress")
	flags.StringVar(&c.fieldManager, "field-manager", sidecars.DefaultFieldManager, "Name of the manager that fields are written as")
	flags.BoolVar(&c.force, "force", false, "Go ahead in spite of refusals that say that --force overrides them")
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
	// left is what stays with a person, for JSON.
	left any
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
	Steps  []document `json:"steps,omitempty"`
	Result any        `json:"result,omitempty"`
	Left   any        `json:"left,omitempty"`
	Error  string     `json:"error,omitempty"`
}

const documentVersion = "istio-upgrade/v1"

// run shows an action's plan, asks, and applies it.
func (c *changeFlags) run(ctx context.Context, s *session, id cluster.Identity, a action) error {
	doc := c.document(a)
	err := c.carryOut(ctx, s, id, a, &doc)
	if err != nil {
		doc.Error = err.Error()
	}
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

func (c *changeFlags) carryOut(ctx context.Context, s *session, id cluster.Identity, a action, doc *document) error {
	switch {
	case c.output.name():
		for _, name := range a.names {
			if _, err := fmt.Fprintln(s.Out, name); err != nil {
				return err
			}
		}
	case !c.output.structured():
		if err := a.show(s.Out, c.output.wide()); err != nil {
			return err
		}
	}
	if err := gate.Check(a.step, a.refusals, c.force); err != nil {
		return err
	}
	for _, r := range a.refusals {
		fmt.Fprintln(s.ErrOut, "warning: --force overrides: "+escape(r.String()))
	}
	if c.dryRun != dryRunNone {
		return nil
	}
	if a.empty {
		if a.nothing != "" && !c.output.name() {
			fmt.Fprintln(s.ErrOut, a.nothing)
		}
		return nil
	}
	if err := c.confirm(s, id, a); err != nil {
		return err
	}
	result, err := a.apply(ctx, progress.Emitter{Step: a.step, To: c.listener(s)})
	doc.Result = result
	return err
}

// listener prints events as plain lines, or nothing for -o name.
func (c *changeFlags) listener(s *session) progress.Listener {
	if c.output.name() {
		return progress.Discard
	}
	return newLog(s.ErrOut)
}

// confirm asks for the go-ahead. Without a terminal to ask at, --yes is needed.
func (c *changeFlags) confirm(s *session, id cluster.Identity, a action) error {
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
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(s.ErrOut)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return &gate.Stopped{Reason: "not confirmed: nothing was changed"}
}
