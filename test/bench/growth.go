package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// userAgent is what the plugin's requests bear.
const userAgent = "kubectl-istio-upgrade/"

// grown is what whole runs over so many workloads took, round by round.
type grown struct {
	workloads  int
	took       series
	goroutines []float64
	requests   []map[string]int
	moving     time.Time // when the last run began to write
}

// What a run over the most workloads may hold, 50 moving at a time. Neither grows
// with the number of workloads: 50 moves, 32 questions, and for each watch a few
// goroutines of client-go's; a watch for each kind of workload and a few besides,
// which may have been opened anew.
const (
	growParallel   = 50
	mostGoroutines = 300.0
	mostWatches    = 10.0
)

// growth moves more and more workloads, and looks at the API server's health
// while it moves the most, in turns with kubectl.
func (b *bench) growth(ctx context.Context) error {
	kubeconfig, err := b.asUser(ctx, operator, "cluster-admin")
	if err != nil {
		return err
	}
	b.kubeconfig = kubeconfig
	defer func() { b.kubeconfig = "" }()
	client, err := b.bystander(ctx)
	if err != nil {
		return err
	}
	var all []*grown
	idle, meanwhile, restarted := &latency{}, &latency{}, &latency{}
	var last []*contender
	for i, n := range b.workloads {
		f := fleet{namespace: "grow-" + strconv.Itoa(n), count: n, replicas: 1}
		b.say("creating %d Deployments", n)
		if err := b.launch(ctx, f); err != nil {
			return err
		}
		g := &grown{workloads: n}
		all = append(all, g)
		contenders := []*contender{{name: fmt.Sprintf("sidecars over %d workloads", n), do: func(ctx context.Context) (sample, error) {
			if i < len(b.workloads)-1 || b.profiles != "" {
				return b.grow(ctx, f, g)
			}
			return meanwhile.of(ctx, client, func() (sample, error) {
				s, err := b.grow(ctx, f, g)
				meanwhile.parted = append(meanwhile.parted, g.moving)
				return s, err
			})
		}}}
		if i == len(b.workloads)-1 && b.profiles == "" {
			contenders = append(contenders,
				&contender{name: "kubectl rollout restart", do: func(ctx context.Context) (sample, error) {
					return restarted.of(ctx, client, func() (sample, error) {
						began := time.Now()
						s, _, err := b.child(ctx, "", b.parts.Bin("kubectl"), "-n", f.namespace, "rollout", "restart", "deployment")
						err = errors.Join(err, b.rest(ctx, f))
						s.Wall = time.Since(began)
						return s, err
					})
				}},
				&contender{name: "nothing", do: func(ctx context.Context) (sample, error) {
					return idle.of(ctx, client, func() (sample, error) {
						select {
						case <-ctx.Done():
							return sample{}, context.Cause(ctx)
						case <-time.After(idleFor):
							return sample{Wall: idleFor}, nil
						}
					})
				}})
		}
		if err := b.takeTurns(ctx, b.makespans, contenders, func(ctx context.Context) error {
			if err := b.rest(ctx, f); err != nil {
				return err
			}
			return b.inject(ctx)
		}); err != nil {
			return err
		}
		g.took, last = contenders[0].took, contenders
	}
	if b.profiles != "" {
		return nil
	}
	b.growthTables(all)
	most := all[len(all)-1].workloads
	b.health(most, idle, meanwhile, restarted)
	b.report.tables = append(b.report.tables, whoHadTheCores(fmt.Sprintf("Who had the cores while %d workloads were moved", most), last...))
	return nil
}

// grow moves a fleet inside the probe, which counts goroutines.
func (b *bench) grow(ctx context.Context, f fleet, g *grown) (sample, error) {
	file := filepath.Join(b.scratch, "goroutines")
	args := []string{filepath.Join(b.tools, "probe"), "-goroutines", file}
	if b.profiles != "" {
		args = append(args, "-profile", filepath.Join(b.profiles, "sidecars-"+f.namespace))
	}
	began := time.Now()
	s, text, err := b.child(ctx, "", append(args, "run", "sidecars", "-n", f.namespace, "--yes", "--max-parallel", fmt.Sprint(growParallel), "-o", "json")...)
	if err != nil {
		return s, err
	}
	d, err := parse(text, "done", f.count)
	if err != nil {
		return s, err
	}
	g.moving, _ = d.span()
	raw, err := os.ReadFile(file)
	if err != nil {
		return s, err
	}
	goroutines, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return s, err
	}
	requests, err := b.requests(ctx, userAgent, began)
	g.goroutines, g.requests = append(g.goroutines, float64(goroutines)), append(g.requests, requests)
	return s, err
}

// counts gives how many of the requests were watches, and how many there were,
// round by round.
func (g *grown) counts() (watches, total []float64) {
	for _, requests := range g.requests {
		w, t := 0, 0
		for name, n := range requests {
			t += n
			if strings.HasPrefix(name, "watch ") {
				w += n
			}
		}
		watches, total = append(watches, float64(w)), append(total, float64(t))
	}
	return watches, total
}

func (b *bench) growthTables(all []*grown) {
	last := all[len(all)-1]
	watches, _ := last.counts()
	b.say("%s", b.report.bounded(fmt.Sprintf("most goroutines of a run over %d workloads, %d at a time", last.workloads, growParallel), "", last.goroutines, mostGoroutines))
	b.say("%s", b.report.bounded(fmt.Sprintf("watches of a run over %d workloads", last.workloads), "", watches, mostWatches))
	t := table{
		title: fmt.Sprintf("Whole runs: `sidecars`, %d workloads at a time, watched to their end", growParallel),
		head:  []string{"workloads", "wall", "a workload", "CPU", "peak memory", "most goroutines", "watches", "requests"},
	}
	verbs := map[string]bool{}
	for _, g := range all {
		for _, requests := range g.requests {
			for name := range requests {
				verbs[name] = true
			}
		}
		watches, total := g.counts()
		took := spreadOf(g.took.of(wall))
		t.rows = append(t.rows, []string{
			fmt.Sprint(g.workloads), took.text("s"), fmt.Sprintf("%.0f ms", took.Median*1000/float64(g.workloads)),
			spreadOf(g.took.of(cpu)).text("s"), spreadOf(g.took.of(peak)).text("MiB"),
			spreadOf(g.goroutines).whole(), spreadOf(watches).whole(), spreadOf(total).whole(),
		})
	}
	r := table{
		title: "Requests of these runs, from the API server's audit log",
		text:  "What does not grow with the number of workloads is read in pages or watched; a dry run, a patch and an Event is one a workload; nothing is asked for a pod, and nothing polls.",
		head:  []string{"request"},
	}
	for _, g := range all {
		r.head = append(r.head, fmt.Sprintf("%d workloads", g.workloads))
	}
	for _, name := range slices.Sorted(maps.Keys(verbs)) {
		row := []string{name}
		for _, g := range all {
			var counts []float64
			for _, requests := range g.requests {
				counts = append(counts, float64(requests[name]))
			}
			row = append(row, spreadOf(counts).whole())
		}
		r.rows = append(r.rows, row)
	}
	b.report.tables = append(b.report.tables, t, r)
}
