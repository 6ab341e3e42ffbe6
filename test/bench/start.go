package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// start compares --help with kubectl version --client, and the sizes.
func (b *bench) start(ctx context.Context) error {
	var help, version series
	for round := range b.starts {
		both := []func() error{
			func() error {
				s, _, err := b.ours(ctx, "help", "--help")
				help = append(help, s)
				return err
			},
			func() error {
				s, _, err := b.child(ctx, "", b.parts.Bin("kubectl"), "version", "--client")
				version = append(version, s)
				return err
			},
		}
		for i := range both {
			if err := both[(i+round)%len(both)](); err != nil {
				return err
			}
		}
	}
	if b.profiles != "" {
		return nil
	}
	b.say("%s", b.report.atMost("start (`--help`)", "`kubectl version --client`", "s", help.of(wall), version.of(wall), 1.2))
	b.report.tables = append(b.report.tables, table{
		title: "Start-up", head: []string{"", "wall", "CPU", "peak memory"},
		rows: [][]string{help.row("`kubectl istio-upgrade --help`"), version.row("`kubectl version --client`")},
	})
	if err := b.initWork(ctx); err != nil {
		return err
	}
	sizes := make([]float64, 2)
	for i, path := range []string{b.plugin, b.parts.Bin("helm")} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		sizes[i] = float64(info.Size()) / (1 << 20)
	}
	b.say("%s", b.report.atMost("size of the binary", "Helm's own command line, built alike", "MiB", sizes[:1], sizes[1:], 1.0))
	return nil
}

// initWork compares what the packages of both programs do before main begins, as
// the Go runtime counts it: bytes allocated, which unlike its times do not depend
// on the machine.
func (b *bench) initWork(ctx context.Context) error {
	t := table{
		title: "Work of packages before `main` begins (`GODEBUG=inittrace=1`)",
		text:  "The most of it is of libraries: Helm's (schemas of values, registries), Kubernetes' (the types of its API). A command that needs them cannot do without, and one that does not pays this.",
		head:  []string{"", "allocated", "allocations", "of our own packages", "the largest"},
	}
	var allocated []float64
	for _, program := range [][]string{{b.plugin, "--help"}, {b.parts.Bin("kubectl"), "version", "--client"}} {
		cmd := exec.CommandContext(ctx, program[0], program[1:]...)
		cmd.Env = append(b.environment(), "GODEBUG=inittrace=1")
		var trace bytes.Buffer
		cmd.Stderr = &trace
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(program, " "), err, ending(trace.String()))
		}
		all := parseInits(trace.String())
		size, count, own := 0, 0, 0
		for _, i := range all {
			size, count = size+i.bytes, count+i.allocs
			if strings.HasPrefix(i.name, "github.com/kubectl-istio-upgrade/") {
				own += i.bytes
			}
		}
		slices.SortFunc(all, func(x, y initOf) int { return y.bytes - x.bytes })
		var largest []string
		for _, i := range all[:min(4, len(all))] {
			largest = append(largest, fmt.Sprintf("%s %.1f MiB", i.name, float64(i.bytes)/(1<<20)))
		}
		allocated = append(allocated, float64(size)/(1<<20))
		t.rows = append(t.rows, []string{
			"`" + filepath.Base(program[0]) + " " + strings.Join(program[1:], " ") + "`", fmt.Sprintf("%.1f MiB", float64(size)/(1<<20)),
			fmt.Sprint(count), fmt.Sprintf("%.2f MiB", float64(own)/(1<<20)), strings.Join(largest, ", "),
		})
	}
	b.say("%s", b.report.atMost("memory that packages allocate before `main` begins", "kubectl's own", "MiB", allocated[:1], allocated[1:], 1.0))
	b.report.tables = append(b.report.tables, t)
	return nil
}

// initOf is a line of the runtime's trace of package initialisation.
type initOf struct {
	name          string
	bytes, allocs int
}

// parseInits reads lines such as
// "init k8s.io/api @0.5 ms, 0.01 ms clock, 568 bytes, 4 allocs" and leaves out others.
func parseInits(trace string) []initOf {
	var all []initOf
	for line := range strings.Lines(trace) {
		var i initOf
		var at, clock float64
		if _, err := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &i.name, &at, &clock, &i.bytes, &i.allocs); err == nil {
			all = append(all, i)
		}
	}
	return all
}

// row is a contender's line of a table.
func (s series) row(name string) []string {
	row := []string{name, spreadOf(s.of(wall)).text("s")}
	if spreadOf(s.of(peak)).Most == 0 {
		return append(row, "", "")
	}
	return append(row, spreadOf(s.of(cpu)).text("s"), spreadOf(s.of(peak)).text("MiB"))
}
