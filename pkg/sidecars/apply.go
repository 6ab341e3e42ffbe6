package sidecars

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Result is what came of a plan.
type Result struct {
	Workloads []rollout.Result `json:"workloads"`
	Counts    map[string]int   `json:"counts"`
}

// Apply moves what the plan moves. Its error says how the run as a whole ended:
// nil where all went well, *gate.Stopped where failures ended it with work
// left, *gate.Timeout where only time ran out, the context's cause where it was
// interrupted, and else that some workloads failed. The result is there in
// every case.
func Apply(ctx context.Context, c *cluster.Cluster, p *Plan, o Options, emit progress.Emitter) (*Result, error) {
	moving := p.Moving()
	if err := keepRemade(p.BackupDir, moving, emit); err != nil {
		return &Result{Workloads: []rollout.Result{}, Counts: map[string]int{}}, err
	}
	if len(moving) > 0 {
		team := announce(ctx, c, moving)
		defer team.stop()
		emit.To = progress.Tee(emit.To, progress.Func(team.hear))
	}
	moves := make([]rollout.Move, 0, len(moving))
	for i := range moving {
		moves = append(moves, moveOf(c, p, &moving[i], &o))
	}
	return run(ctx, c, moves, o, emit)
}

// run moves workloads and gives what came of it.
func run(ctx context.Context, c *cluster.Cluster, moves []rollout.Move, o Options, emit progress.Emitter) (*Result, error) {
	emit.Emit(progress.Event{Kind: progress.StepStarted, Total: len(moves), Message: fmt.Sprintf("%d to move", len(moves))})
	for i := range moves {
		ref := moves[i].Ref
		emit.Emit(progress.Event{Kind: progress.Planned, Object: progress.Object{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}})
	}
	engine := &rollout.Engine{Cluster: c, Options: o.Rollout, Emit: emit.Emit, Paused: emit.Pause.Paused}
	results, err := engine.Run(ctx, moves)
	result := &Result{Workloads: results, Counts: map[string]int{}}
	for i := range results {
		result.Counts[string(results[i].Outcome)]++
	}
	emit.Emit(progress.Event{Kind: progress.StepFinished, Finished: result.Counts[string(rollout.Done)], Total: len(results), Message: result.summary()})
	if err != nil {
		return result, err
	}
	return result, result.verdict(engine.Halted())
}

// moveOf makes the move of an item.
func moveOf(c *cluster.Cluster, p *Plan, item *Item, o *Options) rollout.Move {
	m := rollout.Move{
		Ref: item.Ref, Seen: item.w, Promise: item.promise, Gateway: item.Gateway,
		Services: item.services, Evict: item.How == Evict || item.evict,
		Force: item.Verdict == Mixed, Resume: item.resume, Anew: item.anew, Unwatched: item.unwatched,
	}
	if !o.AllowDowntime && item.How != Watch && !item.unwatched {
		// Its replicas or its strategy may have changed since the plan was made.
		m.Holds = func(w *workload.Workload) string { return outage(w, item.way()) }
	}
	switch item.How {
	case Reinject, Webhook:
		m.Force, m.Apply = true, newRewrite(c, item, p, o).apply
	case Restart:
		m.Change = func(w *workload.Workload) (rollout.Change, error) {
			return restartPatch(w, o.RestartWith, item.resume || item.anew, stamp(o.now(), targetOf(item.promise), o.User), o.FieldManager)
		}
	}
	return m
}

// summary says in one line how the workloads fared.
func (r *Result) summary() string {
	bad := 0
	for i := range r.Workloads {
		if r.Workloads[i].Outcome.Bad() {
			bad++
		}
	}
	parts := []string{fmt.Sprintf("%d done", r.Counts[string(rollout.Done)]+r.Counts[string(rollout.Sent)])}
	for _, part := range []struct {
		n    int
		word string
	}{
		{bad, "failed"},
		{r.Counts[string(rollout.Skipped)], "skipped"},
		{r.Counts[string(rollout.InFlight)], "still moving"},
		{r.Counts[string(rollout.NotStarted)], "not started"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.word))
		}
	}
	return strings.Join(parts, ", ")
}

// verdict turns the workloads' outcomes into the run's error.
func (r *Result) verdict(halted bool) error {
	bad, timedOut := 0, 0
	first := ""
	for i := range r.Workloads {
		w := &r.Workloads[i]
		if !w.Outcome.Bad() {
			continue
		}
		bad++
		if w.OutOfTime {
			timedOut++
		}
		if first == "" {
			first = w.In() + " " + string(w.Outcome) + ": " + w.Message + "; " + wayOn(w)
		}
	}
	switch {
	case bad == 0:
		return nil
	case bad == timedOut:
		return &gate.Timeout{Reason: first}
	case halted:
		return &gate.Stopped{Reason: fmt.Sprintf("stopped after %s with %d not started; %s", failures(bad), r.Counts[string(rollout.NotStarted)], first)}
	}
	return fmt.Errorf("%s of %d; %s", failures(bad), len(r.Workloads), first)
}

// wayOn says what a person can do about a workload that failed: the way back to
// the pods it had, where something was written, and the way on.
func wayOn(w *rollout.Result) string {
	again := "once the cause is gone, the same command goes on from here"
	switch {
	case w.Outcome == rollout.Reverted, w.Outcome == rollout.Undone, !w.Sent:
		return again
	case w.Outcome == rollout.NotConverged:
		again = "once the cause is gone, the same command with --force restarts it again"
	}
	switch w.Kind {
	case workload.Deployment, workload.StatefulSet, workload.DaemonSet:
		return fmt.Sprintf("its template goes back by kubectl rollout undo %s/%s -n %s, or --on-failure undo from the start, and where a webhook injects the former proxy by kubectl istio-upgrade rollback; %s", strings.ToLower(w.Kind), w.Name, w.Namespace, again)
	}
	return again
}

func failures(n int) string {
	if n == 1 {
		return "1 failure"
	}
	return fmt.Sprintf("%d failures", n)
}

// DefaultPatience is how long pods that cannot be created are waited for: while
// istiod is being replaced injection can fail for a moment.
const DefaultPatience = 10 * time.Second
