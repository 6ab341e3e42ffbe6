package rollout

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

var applied = Change{Patch: []byte("applied"), Undo: []byte("{}"), StampKey: "status", Stamp: "new", Image: newImage}

func applies(change Change, generation int64, err error) func(context.Context) (Change, int64, error) {
	return func(context.Context) (Change, int64, error) { return change, generation, err }
}

// A move that writes by itself: what it wrote is what the watch looks for, and
// what undo takes back.
func TestSendRemembersWhatApplyWrote(t *testing.T) {
	e := &Engine{}
	r := &run{Move: Move{Apply: applies(applied, 7, nil)}}
	if err := e.send(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	if s := r.start; s.Generation != 7 || s.StampKey != "status" || s.Stamp != "new" || s.Image != newImage {
		t.Errorf("start is %+v", s)
	}
	if string(r.undo.Undo) != "{}" {
		t.Errorf("undo is %+v", r.undo)
	}
}

// What Apply takes the place of is never sent.
func TestApplyTakesThePlaceOfChange(t *testing.T) {
	e := &Engine{}
	r := &run{Move: Move{
		Apply:  applies(applied, 7, nil),
		Change: func(*workload.Workload) (Change, error) { return Change{}, errors.New("asked for all the same") },
	}}
	if err := e.send(t.Context(), r, nil); err != nil {
		t.Error(err)
	}
}

func TestApplyWithoutWatching(t *testing.T) {
	gone := apierrors.NewNotFound(schema.GroupResource{Group: "apps", Resource: "deployments"}, "web")
	for _, tc := range []struct {
		name    string
		apply   func(context.Context) (Change, int64, error)
		want    Outcome
		sent    bool
		message string
	}{
		{"written", applies(applied, 7, nil), Sent, true, ""},
		{"nothing was left to write", applies(Change{}, 7, nil), Sent, false, ""},
		{"refused", applies(Change{}, 0, errors.New("the API server said no")), Failed, false, "said no"},
		{"gone meanwhile", applies(Change{}, 0, gone), Skipped, false, "deleted"},
	} {
		e := &Engine{Options: Options{MaxParallel: 1, MaxFailures: 1}, Emit: func(progress.Event) {}}
		results, err := e.Run(t.Context(), []Move{{Ref: workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"}, Apply: tc.apply}})
		if err != nil || len(results) != 1 {
			t.Fatalf("%s: %v, %v", tc.name, results, err)
		}
		if r := results[0]; r.Outcome != tc.want || r.Sent != tc.sent || !strings.Contains(r.Message, tc.message) {
			t.Errorf("%s: %+v", tc.name, r)
		}
	}
}

// A workload without pods to be watched is done once it is written.
func TestUnwatchedIsDoneOnceWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want Outcome
		sent bool
	}{
		"written": {nil, Done, true},
		"refused": {errors.New("no"), Failed, false},
	} {
		e := &Engine{Options: Options{MaxFailures: 1}, Emit: func(progress.Event) {}}
		r := &run{Move: Move{Unwatched: true}, err: tc.err}
		if tc.err == nil {
			r.undo = applied
		}
		e.afterSending(t.Context(), r)
		if r.phase != ended || r.result.Outcome != tc.want || r.result.Sent != tc.sent {
			t.Errorf("%s: phase %v, %+v", name, r.phase, r.result)
		}
	}
}

// What could not be started is not sent to either, though nobody watches.
func TestWithoutWatchingObstaclesHold(t *testing.T) {
	for _, tc := range []struct {
		name string
		seen *workload.Workload
		move Move
		want Outcome
		says string
	}{
		{"ready", deployment(), Move{}, Sent, ""},
		{"paused", deployment(func(w *workload.Workload) { w.Paused = true }), Move{}, Skipped, "it is paused"},
		{"scaled to zero", deployment(func(w *workload.Workload) { w.Desired = 0 }), Move{}, Skipped, "scaled to zero"},
		{"in the middle of a rollout", deployment(halfway), Move{}, Skipped, "in the middle of a rollout"},
		{"unhealthy", deployment(func(w *workload.Workload) { w.Status.Available, w.Status.Ready = 1, 1 }), Move{}, Skipped, "unhealthy already: 1 of 2"},
		{"restarted by us and under way", deployment(halfway), Move{Resume: true}, Skipped, "was sent before"},
		{"restarted by us and stuck", deployment(halfway, func(w *workload.Workload) { w.Status.DeadlineExceeded = true }), Move{Resume: true}, Sent, ""},
		{"evicted", deployment(), Move{Evict: true}, Skipped, "needs --wait"},
	} {
		e := &Engine{Options: Options{MaxParallel: 1, MaxFailures: 1}, Emit: func(progress.Event) {}}
		tc.move.Ref, tc.move.Seen = tc.seen.Ref, tc.seen
		if !tc.move.Evict {
			tc.move.Apply = applies(applied, 7, nil)
		}
		results, err := e.Run(t.Context(), []Move{tc.move})
		if err != nil || results[0].Outcome != tc.want || results[0].Sent != (tc.want == Sent) || !strings.Contains(results[0].Message, tc.says) {
			t.Errorf("%s: %+v, %v", tc.name, results, err)
		}
	}
}

// After so many refusals as make an end nothing more is sent.
func TestWithoutWatchingFailuresEndTheRun(t *testing.T) {
	for _, tc := range []struct {
		name   string
		o      Options
		sent   int
		halted bool
	}{
		{"the first ends it", Options{MaxParallel: 1, MaxFailures: 1, OnFailure: Halt}, 1, true},
		{"the second ends it", Options{MaxParallel: 1, MaxFailures: 2, OnFailure: Halt}, 2, true},
		{"all are tried", Options{MaxParallel: 1, MaxFailures: 1, OnFailure: Continue}, 5, false},
	} {
		calls := 0
		var moves []Move
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			m := move(name)
			m.Apply = func(context.Context) (Change, int64, error) {
				calls++
				return Change{}, 0, errors.New("no")
			}
			moves = append(moves, m)
		}
		e := &Engine{Options: tc.o, Emit: func(progress.Event) {}}
		results, err := e.Run(t.Context(), moves)
		if err != nil || calls != tc.sent || e.Halted() != tc.halted {
			t.Errorf("%s: %d sent, halted %v, %v", tc.name, calls, e.Halted(), err)
		}
		for i, r := range results {
			if want := map[bool]Outcome{true: Failed, false: NotStarted}[i < tc.sent]; r.Outcome != want {
				t.Errorf("%s: %s is %q, want %q", tc.name, r.Name, r.Outcome, want)
			}
		}
	}
}

func TestWithoutWatchingAnInterruptIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first, second := move("a"), move("b")
	first.Apply = func(context.Context) (Change, int64, error) {
		cancel()
		return Change{}, 0, context.Canceled
	}
	second.Apply = applies(applied, 7, nil)
	e := &Engine{Options: Options{MaxParallel: 1, MaxFailures: 1}, Emit: func(progress.Event) {}}
	results, err := e.Run(ctx, []Move{first, second})
	if !errors.Is(err, context.Canceled) || results[0].Outcome != InFlight || results[1].Outcome != NotStarted {
		t.Errorf("%+v, %v", results, err)
	}
}

// What puts a change back by itself is asked instead of a patch, and what it
// says is told.
func TestTakeBackByItself(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want Outcome
		says string
	}{
		"put back": {nil, Undone, "its template was put back"},
		"refused":  {errors.New("someone changed it"), Failed, "could not be put back: someone changed it"},
	} {
		e := &Engine{Options: Options{MaxFailures: 1, OnFailure: Undo}, Emit: func(progress.Event) {}, takenBack: make(chan *run, 1), group: &errgroup.Group{}}
		r := &run{Move: move("a")}
		r.undo.TakeBack = func(context.Context) error { return tc.err }
		e.end(t.Context(), r, Failed, "it crashes")
		e.afterUndoing(<-e.takenBack)
		if r.result.Outcome != tc.want || !strings.Contains(r.result.Message, tc.says) {
			t.Errorf("%s: %+v", name, r.result)
		}
	}
}
