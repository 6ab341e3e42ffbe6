package rollout

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// engine makes an Engine of moves that nothing stands in the way of.
func engine(o Options, moves ...Move) (*Engine, *[]progress.Event) {
	events := &[]progress.Event{}
	e := &Engine{Options: o, Emit: func(ev progress.Event) { *events = append(*events, ev) }}
	for i, m := range moves {
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

// finish ends workloads that move, well.
func finish(t *testing.T, e *Engine, names ...string) {
	t.Helper()
	finishAs(t, e, Done, names...)
}

func finishAs(t *testing.T, e *Engine, outcome Outcome, names ...string) {
	t.Helper()
	for _, r := range e.runs {
		if slices.Contains(names, r.Ref.Name) {
			r.result.Started = noon
			e.end(t.Context(), r, outcome, "")
		}
	}
}

// A canary proves something where its pods were replaced and came up. One that
// was skipped, was new already or has no pods proves nothing: the next one takes
// its place.
func TestOnlyWhatMovedIsACanary(t *testing.T) {
	for name, passOver := range map[string]func(*Engine, *run){
		"skipped":         func(e *Engine, r *run) { e.end(t.Context(), r, Skipped, "it was paused in the middle") },
		"new already":     func(e *Engine, r *run) { e.end(t.Context(), r, Done, "its pods are new already") },
		"without any pod": func(e *Engine, r *run) { r.Unwatched = true; finish(t, e, "a") },
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := engine(Options{MaxParallel: 10, Canary: 1}, move("a"), move("b"), move("c"), move("d"))
			begin(e)
			passOver(e, e.runs[0])
			if d := cmp.Diff([]string{"b"}, begin(e)); d != "" {
				t.Errorf("the next canary (-want +got):\n%s", d)
			}
			finish(t, e, "b")
			if d := cmp.Diff([]string{"c", "d"}, begin(e)); d != "" {
				t.Errorf("the rest (-want +got):\n%s", d)
			}
		})
	}
}

// Whatever else may fail: a canary may not.
func TestAFailedCanaryEndsTheRun(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Options
		stop bool
	}{
		{"one failure is allowed", Options{Canary: 2, MaxFailures: 5, OnFailure: Halt}, true},
		{"undo halts too", Options{Canary: 2, MaxFailures: 5, OnFailure: Undo}, true},
		{"whoever wants all tried", Options{Canary: 2, MaxFailures: 5, OnFailure: Continue}, false},
	} {
		tc.o.MaxParallel = 10
		e, _ := engine(tc.o, move("a"), move("b"), move("c"))
		begin(e)
		finish(t, e, "a")
		finishAs(t, e, Failed, "b")
		if e.stopped() != tc.stop {
			t.Errorf("%s: stopped %v", tc.name, e.stopped())
		}
		if got := begin(e); !tc.stop && len(got) != 1 {
			t.Errorf("%s: %v started", tc.name, got)
		}
	}
	e, _ := engine(Options{MaxParallel: 10, Canary: 1, MaxFailures: 2, OnFailure: Halt}, move("a"), move("b"), move("c"))
	begin(e)
	finish(t, e, "a")
	begin(e)
	if finishAs(t, e, Failed, "b"); e.stopped() {
		t.Error("a failure after the canary counts as one of it")
	}
}

// Where a quota has no room for a surge, more of them in that namespace would
// only take each other's.
func TestNothingStartsWhereAQuotaIsFull(t *testing.T) {
	elsewhere := move("d")
	elsewhere.Ref.Namespace = "other"
	e, events := engine(Options{MaxParallel: 3}, move("a"), move("b"), move("c"), elsewhere)
	e.runs[0].phase, e.runs[0].starved = underway, true
	if d := cmp.Diff([]string{"d"}, begin(e)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(*events) == 0 || (*events)[0].Kind != progress.Waiting {
		t.Errorf("it is not told: %+v", *events)
	}
	e.runs[0].starved = false
	if d := cmp.Diff([]string{"b"}, begin(e)); d != "" {
		t.Errorf("with room again (-want +got):\n%s", d)
	}
}

// A rollout that a quota lets through pod by pod is not given up between two of
// them, however long its controller takes to try again; the timeout ends it.
func TestRoomOfItsOwn(t *testing.T) {
	for _, tc := range []struct {
		name             string
		starved          bool
		updated          int32 // of pods, when the workload got on; it was 1
		others           bool
		freeing, extends bool
	}{
		{"refused from the start", true, 1, false, false, false},
		{"a pod was made all the same", true, 2, false, true, false},
		{"a pod was made before it was refused", false, 2, false, false, false},
		{"others move", true, 1, true, true, true},
	} {
		r := &run{starved: tc.starved, print: fingerprint{Updated: 1, Ready: 4}, progress: noon}
		if r.gotOn(fingerprint{Updated: tc.updated, Ready: 5}, noon.Add(time.Second)); !r.progress.After(noon) {
			t.Errorf("%s: it did not get on", tc.name)
		}
		r.starved = true
		later := noon.Add(time.Minute)
		r.room(tc.others, later)
		if r.freeing.Equal(later) != tc.freeing || r.progress.Equal(later) != tc.extends {
			t.Errorf("%s: room at %s, progress at %s", tc.name, r.freeing, r.progress)
		}
	}
}

// Progress is that fewer pods are left than ever: a readiness that comes and goes, or
// a node that does, is none, and the timeout holds.
func TestProgressIsNewGround(t *testing.T) {
	r, now := &run{}, noon
	of := func(updated, ready, available, desired int32, observed int64) fingerprint {
		return fingerprint{Updated: updated, Ready: ready, Rolled: updated, Available: available, Desired: desired, Observed: observed}
	}
	for _, tc := range []struct {
		name string
		then fingerprint
		on   bool
		anew int64 // the generation of another template, given at this moment
	}{
		{"begun", of(0, 0, 10, 10, 1), true, 0},
		{"seen by its controller", of(0, 0, 10, 10, 2), false, 0},
		{"one is made", of(1, 0, 9, 10, 2), true, 0},
		{"it is ready", of(1, 1, 9, 10, 2), true, 0},
		{"and not any more", of(1, 0, 8, 10, 2), false, 0},
		{"and is again", of(1, 1, 9, 10, 2), false, 0},
		{"more of them", of(6, 6, 10, 10, 2), true, 0},
		{"scaled down, by new ones too", of(2, 2, 5, 5, 3), true, 0}, // 3 are left, 4 were
		{"one of these", of(3, 2, 5, 5, 3), true, 0},
		{"scaled up", of(3, 2, 5, 6, 3), false, 0},
		{"which its controller sees", of(3, 2, 5, 6, 4), false, 0},
		{"and down", of(3, 2, 5, 5, 4), false, 0},
		{"which it sees", of(3, 2, 5, 5, 5), false, 0},
		{"somebody deploys another", of(3, 2, 5, 5, 5), false, 6},
		{"which it sees, too", of(0, 0, 5, 5, 6), true, 0},
		{"which gets on", of(1, 0, 5, 5, 6), true, 0},
		{"nothing", of(1, 0, 5, 5, 6), false, 0},
	} {
		now = now.Add(time.Second)
		r.anew = max(r.anew, tc.anew)
		if r.gotOn(tc.then, now); r.progress.Equal(now) != tc.on {
			t.Errorf("%s: counts as progress: %v, want %v", tc.name, !tc.on, tc.on)
		}
	}
}

// Only another template begins a rollout once more, not another number of replicas
// nor an annotation.
func TestWatchTemplate(t *testing.T) {
	r := &run{}
	w := deployment()
	w.Generation = 1
	for i, tc := range []struct {
		change func()
		anew   int64
	}{
		{func() {}, 0},
		{func() { w.Generation, w.Desired = 2, 9 }, 0},
		{func() {
			w.Generation = 3
			w.Template.Spec.Containers = append(w.Template.Spec.Containers, corev1.Container{Name: "more"})
		}, 3},
		{func() {}, 3},
	} {
		tc.change()
		if r.watchTemplate(w); r.anew != tc.anew {
			t.Errorf("%d: begins anew with %d, want %d", i, r.anew, tc.anew)
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
				finish(t, e, names...)
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
	finish(t, e, "a")
	if got := begin(e); len(got) > 0 {
		t.Errorf("%v started while b still moves", got)
	}
	finish(t, e, "b")
	if d := cmp.Diff([]string{"g"}, begin(e)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSoak(t *testing.T) {
	e, events := engine(Options{MaxParallel: 10, Canary: 1, Soak: time.Hour}, move("a"), move("b"))
	begin(e)
	finish(t, e, "a")
	if got := append(begin(e), begin(e)...); len(got) > 0 {
		t.Errorf("%v started while the canary soaks", got)
	}
	told := 0
	for _, ev := range *events {
		if ev.Kind == progress.Waiting {
			told++
		}
	}
	if told != 1 {
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
