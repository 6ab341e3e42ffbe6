package main

import (
	"context"
	"fmt"
	"time"
)

// makespanOf rolls workloads that take their time, some at once, and compares
// with the least that any schedule can take.
func (b *bench) makespanOf(ctx context.Context) error {
	even := func(int) time.Duration { return b.podStart }
	if err := b.schedule(ctx, "even", b.makespans, even); err != nil {
		return err
	}
	// One in twenty takes 30 s, four in twenty take 5 s, the others 1 s.
	mixed := func(i int) time.Duration {
		switch i % 20 {
		case 7:
			return 10 * b.podStart
		case 1, 5, 11, 16:
			return 5 * time.Second
		}
		return time.Second
	}
	return b.schedule(ctx, "mixed", b.makespans, mixed)
}

func (b *bench) schedule(ctx context.Context, name string, rounds int, start func(int) time.Duration) error {
	f := fleet{namespace: name, count: b.makespan, replicas: 1, start: start}
	b.say("creating %d Deployments that take their time", f.count)
	if err := b.launch(ctx, f); err != nil {
		return err
	}
	var inside series
	ours := &contender{name: "sidecars", do: func(ctx context.Context) (sample, error) {
		s, text, err := b.ours(ctx, "sidecars-"+name, "sidecars", "-n", f.namespace, "--yes", "--max-parallel", fmt.Sprint(b.parallel), "-o", "json")
		if err != nil {
			return s, err
		}
		d, err := parse(text, "done", f.count)
		if err != nil {
			return s, err
		}
		var sum, longest time.Duration
		for _, w := range d.Result.Workloads {
			sum, longest = sum+w.Ended.Sub(w.Started), max(longest, w.Ended.Sub(w.Started))
		}
		first, last := d.span()
		inside = append(inside, sample{Wall: last.Sub(first), CPU: max(sum/time.Duration(b.parallel), longest)})
		return s, nil
	}}
	bare := &contender{name: "a bare program", do: func(ctx context.Context) (sample, error) { return b.roll(ctx, f, b.parallel) }}
	contenders := []*contender{ours, bare}
	if b.profiles != "" {
		contenders = contenders[:1]
	}
	if err := b.takeTurns(ctx, rounds, contenders, func(ctx context.Context) error {
		if err := b.rest(ctx, f); err != nil {
			return err
		}
		return b.inject(ctx)
	}); err != nil || b.profiles != "" {
		return err
	}
	took := ours.took
	least, waves := f.bounds(b.parallel)
	need := map[string]string{"even": b.podStart.String() + " each", "mixed": fmt.Sprintf("1 s to %s", 10*b.podStart)}[name]
	b.say("%s", b.report.atMost(
		fmt.Sprintf("roll %d workloads that need %s, %d at a time", f.count, need, b.parallel),
		"the schedule's own lower bound", "s", took.of(wall), same(least.Seconds(), len(took)), 1.15))
	b.report.tables = append(b.report.tables, table{
		title: fmt.Sprintf("Schedule: %d workloads, %s, %d at a time", f.count, map[string]string{
			"even":  "all of " + b.podStart.String(),
			"mixed": fmt.Sprintf("of 1 s (15 in 20), 5 s (4 in 20) and %s (1 in 20)", 10*b.podStart),
		}[name], b.parallel),
		head: []string{"", "s", "ours is"},
		rows: [][]string{
			{"`sidecars`, the whole process", spreadOf(took.of(wall)).text("s"), ""},
			{"no schedule can be shorter than", fmt.Sprintf("%.1f s", least.Seconds()), ratio(took.of(wall), same(least.Seconds(), len(took))).text("×")},
			{"a bare program: one watch, one PATCH each, the slow first, nothing planned and nothing proven", spreadOf(bare.took.of(wall)).text("s"), ratio(took.of(wall), bare.took.of(wall)).text("×")},
			{"that bound for what each workload really took, the controllers' own time with it", spreadOf(inside.of(cpu)).text("s"), ratio(inside.of(wall), inside.of(cpu)).text("×")},
			{"wave by wave, each wave as long as its slowest", fmt.Sprintf("%.1f s", waves.Seconds()), ratio(took.of(wall), same(waves.Seconds(), len(took))).text("×")},
		},
	}, whoHadTheCores("Who had the cores while the "+name+" workloads were rolled", contenders...))
	return nil
}

func same(figure float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = figure
	}
	return out
}

// bounds gives what no schedule can undercut, and what one takes that starts the
// next wave when the last of a wave is done.
func (f fleet) bounds(parallel int) (least, waves time.Duration) {
	var sum, longest, wave time.Duration
	for i := range f.count {
		d := f.start(i)
		sum, longest, wave = sum+d, max(longest, d), max(wave, d)
		if (i+1)%parallel == 0 || i+1 == f.count {
			waves, wave = waves+wave, 0
		}
	}
	return max(sum/time.Duration(parallel), longest), waves
}
