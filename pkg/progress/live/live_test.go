package live_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

const hint = "p pause · ctrl-c stop"

var began = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// run is a run of the sidecars step that a test drives second by second.
type run struct {
	live.Model
	now   time.Time
	total int
	done  int
}

func newRun(workloads ...string) *run {
	r := &run{now: began, total: len(workloads)}
	r.tell(progress.Event{Kind: progress.StepStarted, Total: r.total, Message: "to move"})
	for _, name := range workloads {
		r.tell(progress.Event{Kind: progress.Planned, Object: deployment(name)})
	}
	return r
}

func deployment(name string) progress.Object {
	return progress.Object{Kind: "Deployment", Namespace: "shop", Name: name}
}

func (r *run) tell(e progress.Event) {
	e.Step, e.Time = "sidecars", r.now
	r.Notify(e)
}

func (r *run) start(name string, pods int) {
	r.tell(progress.Event{Kind: progress.Started, Object: deployment(name), Desired: pods, Finished: r.done, Total: r.total})
}

func (r *run) end(kind progress.Kind, name, message string) {
	r.done++
	r.tell(progress.Event{Kind: kind, Object: deployment(name), Message: message, Finished: r.done, Total: r.total})
}

func (r *run) wait(d time.Duration) { r.now = r.now.Add(d) }

// view is the screen of a terminal of 24 lines.
func (r *run) view(width int) string {
	lines := []string{}
	for _, l := range r.Lines(width, 24, r.now, hint) {
		lines = append(lines, l.String())
	}
	return strings.Join(lines, "\n")
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("a-workload-with-a-rather-long-name-as-they-are-in-production-%03d", i)
	}
	return list
}

// 500 workloads, 100 of them on the move and 30 failed, with long names and
// causes: the view fits whatever the terminal's size.
func TestViewFitsEverySize(t *testing.T) {
	all := names(500)
	r := newRun(all...)
	for _, name := range all[:200] {
		r.start(name, 1200)
	}
	for i, name := range all[:100] {
		if i%3 == 0 {
			r.end(progress.Failed, name, "ImagePullBackOff: "+strings.Repeat("registry.example.com/proxy ", 20))
			continue
		}
		r.end(progress.Done, name, "")
	}
	for _, name := range all[100:110] {
		r.tell(progress.Event{Kind: progress.Waiting, Object: deployment(name), Message: "evict: " + strings.Repeat("no room ", 30)})
	}
	for _, name := range all[300:320] {
		r.tell(progress.Event{Kind: progress.Waiting, Object: deployment(name), Message: "it is in the middle of a rollout"})
	}
	r.wait(time.Minute)
	for _, width := range []int{1, 20, 40, 79, 80, 81, 120, 200} {
		for _, height := range []int{1, 4, 5, 10, 24, 50} {
			lines := r.Lines(width, height, r.now, hint)
			if len(lines) >= max(height, 4) {
				t.Errorf("%dx%d: %d lines", width, height, len(lines))
			}
			for _, l := range lines {
				if w := ansi.StringWidth(l.String()); w >= max(width, 20) {
					t.Errorf("%dx%d: a line is %d wide: %q", width, height, w, l)
				}
			}
		}
	}
	view := r.view(80)
	for _, want := range []string{"100/500  20%", "100 moving", "34 failed", "20 waiting", "280 to come", "failed before", "ImagePullBackOff", "next: deployment/", hint} {
		if !strings.Contains(view, want) {
			t.Errorf("no %q in\n%s", want, view)
		}
	}
	if n := strings.Count(view, "\n") + 1; n < 20 {
		t.Errorf("only %d of 23 lines are used while more moves than fits:\n%s", n, view)
	}
	shown, more := strings.Count(view, "→ "), 0
	for line := range strings.Lines(view) {
		if _, err := fmt.Sscanf(line, "  and %d more", &more); err == nil {
			break
		}
	}
	if shown+more != 100 {
		t.Errorf("%d are shown and %d more, of 100 that move:\n%s", shown, more, view)
	}
	// What tells names apart stands at their ends.
	if !strings.Contains(view, "-production-111 ") {
		t.Errorf("names lose their ends:\n%s", view)
	}
}

func TestViewFollowsAWorkload(t *testing.T) {
	r := newRun("web", "api", "job")
	steps := []struct {
		what string
		do   func()
		want []string
		not  []string
	}{
		{"planned", func() {}, []string{"0/3  0%", "3 to come", "sidecars in shop", "next: deployment/web, deployment/api"}, []string{"left"}},
		{"started", func() { r.start("web", 2) }, []string{"1 moving", "2 to come", "→ deployment/web ", "new 0/2", "next: deployment/api"}, nil},
		{"half way", func() {
			r.tell(progress.Event{Kind: progress.Updated, Object: deployment("web"), Updated: 1, Ready: 2, Desired: 2})
			r.wait(4 * time.Second)
		}, []string{"new 1/2", "ready 2/2", " 4s"}, nil},
		{"in trouble", func() {
			r.tell(progress.Event{Kind: progress.Waiting, Object: deployment("web"), Message: "a PodDisruptionBudget has no room"})
		}, []string{"a PodDisruptionBudget has no room"}, []string{"new 1/2"}},
		{"done", func() { r.end(progress.Done, "web", "") }, []string{"1/3  33%", "2 to come", ", a few seconds left"}, []string{"moving", "deployment/web"}},
		{"not yet", func() {
			r.tell(progress.Event{Kind: progress.Waiting, Object: deployment("job"), Message: "it is paused"})
		}, []string{"1 waiting", "1 to come", "… deployment/job: it is paused"}, []string{"next: deployment/api, "}},
		{"failed", func() { r.start("api", 1); r.end(progress.Failed, "api", "CrashLoopBackOff") }, []string{"2/3  66%", "1 failed", "× deployment/api: CrashLoopBackOff"}, nil},
		{"paused", func() { r.tell(progress.Event{Kind: progress.Paused}) }, []string{"paused: nothing new starts"}, nil},
		{"resumed", func() { r.tell(progress.Event{Kind: progress.Resumed}) }, nil, []string{"paused: nothing"}},
		{"skipped", func() { r.end(progress.Skipped, "job", "it is paused") }, []string{"3/3  100%", "1 skipped"}, []string{"waiting"}},
	}
	for _, step := range steps {
		step.do()
		view := r.view(100)
		for _, want := range step.want {
			if !strings.Contains(view, want) {
				t.Errorf("%s: no %q in\n%s", step.what, want, view)
			}
		}
		for _, not := range step.not {
			if strings.Contains(view, not) {
				t.Errorf("%s: %q in\n%s", step.what, not, view)
			}
		}
	}
}

func TestEstimate(t *testing.T) {
	left := func(r *run) string {
		_, text, found := strings.Cut(strings.SplitN(r.view(120), "\n", 2)[0], ", about ")
		if !found {
			return ""
		}
		return strings.TrimSuffix(text, " left")
	}
	t.Run("by what is done", func(t *testing.T) {
		r := newRun(names(100)...)
		for i, name := range names(100)[:20] {
			r.start(name, 2)
			r.wait(6 * time.Second)
			if i == 0 && left(r) != "" {
				t.Errorf("an estimate before anything is done: %s", left(r))
			}
			r.end(progress.Done, name, "")
		}
		if got := left(r); got != "8m00s" { // 80 more at 6 s each
			t.Errorf("about %s left", got)
		}
	})
	t.Run("pauses do not count", func(t *testing.T) {
		r := newRun(names(4)...)
		r.start(names(4)[0], 2)
		r.wait(20 * time.Second)
		r.end(progress.Done, names(4)[0], "")
		r.wait(time.Hour)
		if got := left(r); got != "1m00s" {
			t.Errorf("about %s left", got)
		}
	})
	t.Run("pods of what moves count", func(t *testing.T) {
		r := newRun("one", "two")
		for _, name := range []string{"one", "two"} {
			r.start(name, 10)
		}
		r.wait(50 * time.Second)
		for _, name := range []string{"one", "two"} {
			r.tell(progress.Event{Kind: progress.Updated, Object: deployment(name), Updated: 5, Ready: 10, Desired: 10})
		}
		if got := left(r); got != "1m00s" {
			t.Errorf("about %s left", got)
		}
	})
}

// Where objects are in several namespaces, each is named with its own.
func TestNamespacesAreNamedWhereThereAreSeveral(t *testing.T) {
	r := newRun("web")
	r.tell(progress.Event{Kind: progress.Planned, Object: progress.Object{Kind: "Deployment", Namespace: "bank", Name: "web"}})
	if view := r.view(80); !strings.Contains(view, "next: deployment/web in shop, deployment/web in bank") {
		t.Errorf("which is which?\n%s", view)
	}
}

// A release's workloads have no end of their own: they leave the view with it.
func TestPartsLeaveWithTheWhole(t *testing.T) {
	m := &live.Model{Stage: 2, Stages: 3}
	release := progress.Object{Kind: "release", Namespace: "istio-system", Name: "istiod"}
	tell := func(e progress.Event) { e.Step, e.Time = "control-plane", began; m.Notify(e) }
	tell(progress.Event{Kind: progress.StepStarted, Total: 1})
	tell(progress.Event{Kind: progress.Started, Object: release, Message: "1.30.2 to 1.31.0"})
	tell(progress.Event{Kind: progress.Updated, Object: deployment("istiod"), Updated: 1, Ready: 1, Desired: 2})
	view := func() string { return fmt.Sprint(m.Lines(80, 24, began, "")) }
	for _, want := range []string{"control-plane (2 of 3)", "release/istiod", "1.30.2 to 1.31.0", "new 1/2"} {
		if !strings.Contains(view(), want) {
			t.Errorf("no %q in %s", want, view())
		}
	}
	tell(progress.Event{Kind: progress.Done, Object: release, Finished: 1, Total: 1})
	if strings.Contains(view(), "deployment/istiod") {
		t.Errorf("the release is done: %s", view())
	}
}

// Cut short, a run says what it leaves moving, though the step has ended.
func TestInterruptedRunNamesWhatMoves(t *testing.T) {
	r := newRun("web", "api")
	r.start("web", 2)
	r.tell(progress.Event{Kind: progress.StepFinished, Message: "0 done, 1 still moving, 1 not started"})
	if moving := r.Moving(); !slices.Equal(moving, []string{"deployment/web in shop"}) {
		t.Errorf("moving: %v", moving)
	}
}

func TestSummary(t *testing.T) {
	r := newRun(names(40)...)
	for i, name := range names(40)[:35] {
		r.start(name, 1)
		if i < 25 {
			r.end(progress.Failed, name, fmt.Sprintf("cause %d", i))
		}
	}
	r.wait(90 * time.Second)
	if moving := r.Moving(); len(moving) != 10 || !slices.Contains(moving, "deployment/"+names(40)[30]+" in shop") {
		t.Errorf("ten still move, not %v", moving)
	}
	text := fmt.Sprint(r.Summary(r.now))
	for _, want := range []string{"× ", "ended early after 25 of 40", "1m30s", "cause 0", "cause 19", "5 more failed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, "cause 20") {
		t.Errorf("more than fits a screen is named: %s", text)
	}

	good := newRun("web")
	good.start("web", 1)
	good.end(progress.Done, "web", "")
	good.tell(progress.Event{Kind: progress.StepFinished, Message: "1 done", Finished: 1, Total: 1})
	if moving := good.Moving(); len(moving) != 0 {
		t.Errorf("nothing moves any more: %v", moving)
	}
	if text := fmt.Sprint(good.Summary(good.now)); !strings.Contains(text, "✓ ") || !strings.Contains(text, "sidecars: 1 done") {
		t.Errorf("summary of a good run: %s", text)
	}
	if left := good.Lines(80, 24, good.now, hint); len(left) != 0 {
		t.Errorf("the view goes on after its summary: %v", left)
	}
}
