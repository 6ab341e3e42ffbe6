// Command bench measures the plugin on the lab beside the limit and its peers,
// in one run, and writes the ratios. A second on this machine says little; the
// ratio is what counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// sizes say how much is measured.
type sizes struct {
	rounds, deployments, manual   int
	makespan, parallel, makespans int
	podStart                      time.Duration
	pods, workloads               []int
	starts                        int
}

var (
	full = sizes{
		rounds: 3, deployments: 200, manual: 100, makespan: 200, parallel: 20, makespans: 2, podStart: 3 * time.Second,
		pods: []int{1000, 10000, 50000}, workloads: []int{10, 100, 1000}, starts: 21,
	}
	quick = sizes{
		rounds: 1, deployments: 20, manual: 5, makespan: 20, parallel: 5, makespans: 1, podStart: 3 * time.Second,
		pods: []int{200, 2000}, workloads: []int{5, 20}, starts: 5,
	}
)

// bench is what the lines share.
type bench struct {
	sizes
	plugin   string
	tools    string // where measure and probe are
	scratch  string
	profiles string // where profiles go; "" is none
	report   report
	began    time.Time
	parts    lab.Parts

	*lab.Cluster // of the line under way
	labOptions   lab.Options
	kubeconfig   string // of another user than the administrator
	tag          int
}

// line is a part of the bench that can be run alone.
type line struct {
	name, what string
	lab        *lab.Options // nil where it needs none
	run        func(*bench, context.Context) error
}

var (
	plain   = &lab.Options{Nodes: 5}
	audited = &lab.Options{Nodes: 5, AuditLog: true}
)

var lines = []line{
	{"start", "start-up and size", nil, (*bench).start},
	{"patch", "stale Deployments up to the last patch", plain, (*bench).patch},
	{"reinject", "workloads injected by hand", plain, (*bench).reinject},
	{"makespan", "workloads that take their time", plain, (*bench).makespanOf},
	{"workloads", "whole runs over more and more workloads", audited, (*bench).growth},
	{"throttle", "an API server that refuses with 429", audited, (*bench).throttle},
	{"pods", "inventory, plan and status over more and more pods", &lab.Options{Nodes: 4}, (*bench).inventory},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	names := make([]string, 0, len(lines))
	for _, l := range lines {
		names = append(names, l.name)
	}
	plugin := flag.String("plugin", "", "The plugin's binary")
	only := flag.String("lines", "", "Which lines, separated by commas: "+strings.Join(names, ", ")+" (default all)")
	small := flag.Bool("quick", false, "Small sizes and one round: whether it works, not how fast it is")
	document := flag.String("o", "", "The document whose figures are replaced; only after a full run of all lines")
	profiles := flag.String("profile", "", "Folder for profiles of the plugin's runs, instead of comparing")
	flag.Parse()
	b := &bench{sizes: full, profiles: *profiles, began: time.Now()}
	if *small {
		b.sizes = quick
	}
	if b.plugin, err = filepath.Abs(*plugin); err != nil || *plugin == "" {
		return errors.Join(errors.New("-plugin names the plugin's binary"), err)
	}
	if b.profiles != "" {
		if b.profiles, err = filepath.Abs(b.profiles); err != nil {
			return err
		}
		b.rounds, b.makespans, b.starts = 1, 1, 1
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return err
		}
	}
	wanted := lines
	if *only != "" {
		wanted = nil
		for name := range strings.SplitSeq(*only, ",") {
			i := slices.Index(names, name)
			if i < 0 {
				return fmt.Errorf("no line %q: there are %s", name, strings.Join(names, ", "))
			}
			wanted = append(wanted, lines[i])
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.tools = filepath.Dir(self)
	if b.scratch, err = os.MkdirTemp("", "istio-upgrade-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop(), os.RemoveAll(b.scratch)) }()
	if b.parts, err = lab.Build(ctx, os.Stderr); err != nil {
		return err
	}
	if err := b.machine(ctx); err != nil {
		return err
	}
	failed := false
	for i, l := range wanted {
		b.say("line %d of %d: %s (%s)", i+1, len(wanted), l.name, l.what)
		if err := b.one(ctx, l); err != nil {
			if ctx.Err() != nil {
				fmt.Println(b.report.markdown()) // what is measured is not lost
				return err
			}
			// The other lines are worth having all the same.
			failed = true
			b.say("line %s FAILED: %v", l.name, err)
			b.report.tables = append(b.report.tables, table{title: "Line " + l.name, text: "Failed: " + err.Error()})
		}
	}
	b.say("done")
	fmt.Println(b.report.markdown())
	if *document != "" && !failed && !*small && *only == "" && b.profiles == "" {
		if err := b.report.writeInto(*document); err != nil {
			return err
		}
		b.say("written to %s", *document)
	}
	if failed {
		return errors.New("a line failed: see above")
	}
	return nil
}

// one runs a line on the lab that it wants.
func (b *bench) one(ctx context.Context, l line) error {
	if l.lab == nil {
		return l.run(b, ctx)
	}
	if b.Cluster == nil || b.labOptions != *l.lab {
		if err := b.stop(); err != nil {
			return err
		}
		if err := b.startLab(ctx, *l.lab); err != nil {
			return err
		}
	}
	return l.run(b, ctx)
}

// say tells how far it is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %5.0fs %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}
