package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// engine makes an Engine of moves that nothing stands in the way of.
func engine(o Options, moves ...Move) (*Engine, *[]progress.Event) {
	events := &[]progress.Event{}
	e := &Engine{Options: o, Emit: func(ev progress.Event) { *events = append(*events, ev) }}
	for i, m := range moves {
		m.Unwatched, m.Seen = true, deployment()
		e.runs = append(e.runs, &run{Move: m, index: i})
	}
	return e, events
}

func move(name string, services ...string) Move {
	return Move{Ref: workload.Ref{Kind: workload.Deployment, Namespace: "shop", Name: name}, Services: services}
}

func gateway(name string) Move {
	m := move(name)
	m.Gateway = true
	return m
}

// begin starts all that may start now, and names it.
func begin(e *Engine) []string {
	names := []string{}
	for r := e.next(); r != nil; r = e.next() {
		r.phase = underway
		names = append(names, r.Ref.Name)
	}
	return names
}

// finish ends workloads that move.
func finish(e *Engine, names ...string) {
	for _, r := range e.runs {
		for _, name := range names {
			if r.Ref.Name == name {
				r.phase = ended
			}
		}
	}
}

// TestNext plays whole runs: each round ends all that moves, and names what
// starts next.
func TestNext(t *testing.T) {
	elsewhere := move("d", "web")
	elsewhere.Ref.Namespace = "other"
	for _, tc := range []struct {
		name   string
		o      Options
		moves  []Move
		rounds [][]string
	}{
		{"as many as may", Options{MaxParallel: 2}, []Move{move("a"), move("b"), move("c")}, [][]string{{"a", "b"}, {"c"}}},
		{"at least one", Options{}, []Move{move("a"), move("b")}, [][]string{{"a"}, {"b"}}},
		{"canaries first and alone", Options{MaxParallel: 10, Canary: 2}, []Move{move("a"), move("b"), move("c"), move("d")}, [][]string{{"a", "b"}, {"c", "d"}}},
		{"canaries obey the limit too", Options{MaxParallel: 1, Canary: 2}, []Move{move("a"), move("b"), move("c")}, [][]string{{"a"}, {"b"}, {"c"}}},
		{"more canaries than workloads", Options{MaxParallel: 10, Canary: 9}, []Move{move("a"), move("b")}, [][]string{{"a", "b"}}},
		{"gateways last", Options{MaxParallel: 10}, []Move{move("a"), move("b"), gateway("g"), gateway("h")}, [][]string{{"a", "b"}, {"g", "h"}}},
		{"gateways alone need not wait", Options{MaxParallel: 10}, []Move{gateway("g"), gateway("h")}, [][]string{{"g", "h"}}},
		{
			"another Service is the better choice",
			Options{MaxParallel: 2},
			[]Move{move("a", "web"), move("b", "web"), move("c", "api"), move("d")},
			[][]string{{"a", "c"}, {"b", "d"}},
		},
		{"one Service for all is no choice", Options{MaxParallel: 2}, []Move{move("a", "web"), move("b", "web")}, [][]string{{"a", "b"}}},
		{
			"a Service of the same name in another namespace",
			Options{MaxParallel: 2},
			[]Move{move("a", "web"), move("b", "web"), elsewhere},
			[][]string{{"a", "d"}, {"b"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, _ := engine(tc.o, tc.moves...)
			var rounds [][]string
			for names := begin(e); len(names) > 0; names = begin(e) {
				rounds = append(rounds, names)
				finish(e, names...)
			}
			if d := cmp.Diff(tc.rounds, rounds); d != "" {
				t.Errorf("rounds (-want +got):\n%s", d)
			}
		})
	}
}

func TestGatewaysWaitForTheLastSidecar(t *testing.T) {
	e, _ := engine(Options{MaxParallel: 10}, move("a"), move("b"), gateway("g"))
	begin(e)
	finish(e, "a")
	if got := begin(e); len(got) > 0 {
		t.Errorf("%v started while b still moves", got)
	}
	finish(e, "b")
	if d := cmp.Diff([]string{"g"}, begin(e)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSoak(t *testing.T) {
	e, events := engine(Options{MaxParallel: 10, Canary: 1, Soak: time.Hour}, move("a"), move("b"))
	begin(e)
	finish(e, "a")
	if got := append(begin(e), begin(e)...); len(got) > 0 {
		t.Errorf("%v started while the canary soaks", got)
	}
	if len(*events) != 1 || (*events)[0].Kind != progress.Waiting {
		t.Errorf("the soak is to be told once, got %+v", *events)
	}
	e.soakUntil = time.Now().Add(-time.Second)
	if d := cmp.Diff([]string{"b"}, begin(e)); d != "" {
		t.Errorf("after the soak (-want +got):\n%s", d)
	}
}

func TestStopped(t *testing.T) {
	for _, tc := range []struct {
		name     string
		o        Options
		failures int
		want     bool
	}{
		{"none failed", Options{OnFailure: Halt, MaxFailures: 1}, 0, false},
		{"the first one stops", Options{OnFailure: Halt, MaxFailures: 1}, 1, true},
		{"zero means one", Options{OnFailure: Halt}, 1, true},
		{"below the limit", Options{OnFailure: Undo, MaxFailures: 3}, 2, false},
		{"at the limit", Options{OnFailure: Undo, MaxFailures: 3}, 3, true},
		{"go on whatever happens", Options{OnFailure: Continue, MaxFailures: 1}, 9, false},
	} {
		e := &Engine{Options: tc.o, failures: tc.failures}
		if got := e.stopped(); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
