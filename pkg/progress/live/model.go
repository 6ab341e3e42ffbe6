// Package live turns the events of a run into the lines of a view that fits a
// terminal of any size, however many workloads there are. It draws nothing and
// reads no clock: events and a time go in, lines come out.
package live

import (
	"slices"
	"sync"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// Model is what is known of a run. It may be used by several goroutines at once.
// The text of its events must be fit for a terminal already.
type Model struct {
	// Stage is which of Stages steps runs, from 1; 0 where a command has one.
	Stage, Stages int

	mu     sync.Mutex
	steps  []*step // the last is the one that runs; the others wait for it
	paused bool
	ended  bool
}

// step is what is known of one step.
type step struct {
	name, message   string
	began           time.Time
	finished, total int
	failures        int
	note            string // what the step as a whole waits for
	over            bool

	coming   []progress.Object
	moving   []*item
	failed   []*item
	skipped  []*item
	waiting  []*item
	warnings []*item
	items    map[progress.Object]*item

	namespaces map[string]bool // of its planned objects

	active time.Duration // how long anything moved
	seen   time.Time     // up to when active is counted
}

// item is one object.
type item struct {
	progress.Object
	message                 string
	since                   time.Time
	updated, ready, desired int
	trouble                 bool // the message says what stands in the way
	child                   bool // moves as a part of another object
}

// Notify takes in an event.
func (m *Model) Notify(e progress.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Kind {
	case progress.StepStarted:
		m.steps = append(m.steps, newStep(e))
		return
	case progress.Paused, progress.Resumed:
		m.paused = e.Kind == progress.Paused
		return
	}
	m.stepOf(e).take(e)
	if last := len(m.steps) - 1; last > 0 && m.steps[last].over {
		m.steps = m.steps[:last] // a step within another one
	}
}

func newStep(e progress.Event) *step {
	return &step{name: e.Step, message: e.Message, began: e.Time, seen: e.Time, total: e.Total, items: map[progress.Object]*item{}, namespaces: map[string]bool{}}
}

// stepOf gives the step that an event belongs to.
func (m *Model) stepOf(e progress.Event) *step {
	for _, s := range slices.Backward(m.steps) {
		if s.name == e.Step {
			return s
		}
	}
	s := newStep(progress.Event{Step: e.Step, Time: e.Time})
	m.steps = append(m.steps, s)
	return s
}

func (s *step) take(e progress.Event) {
	s.count(e.Time)
	if e.Total > 0 {
		s.finished, s.total = max(s.finished, e.Finished), e.Total
	}
	if e.Object == (progress.Object{}) {
		s.takeOwn(e)
		return
	}
	switch e.Kind {
	case progress.Planned:
		s.namespaces[e.Object.Namespace] = true
		s.coming = append(s.coming, e.Object)
	case progress.Started, progress.Updated, progress.Waiting:
		s.takeMove(e)
	case progress.Done, progress.Skipped, progress.Failed:
		s.end(e)
	case progress.Warning:
		s.warnings = append(s.warnings, &item{Object: e.Object, message: e.Message})
	}
}

// takeOwn takes in what an event says of the step itself.
func (s *step) takeOwn(e progress.Event) {
	switch e.Kind {
	case progress.Waiting, progress.Updated:
		s.note = e.Message
	case progress.Failed:
		s.failures++
		s.failed = append(s.failed, &item{message: e.Message})
	case progress.Warning, progress.Skipped:
		s.warnings = append(s.warnings, &item{message: e.Message})
	case progress.StepFinished:
		// What still moves stays: an interrupted run leaves it to controllers.
		s.message, s.over, s.note = e.Message, true, ""
		s.moving = slices.DeleteFunc(s.moving, func(it *item) bool { return it.child })
	}
}

func (s *step) takeMove(e progress.Event) {
	it, moves := s.items[e.Object]
	switch {
	case !moves && e.Kind == progress.Waiting:
		i := slices.IndexFunc(s.waiting, func(w *item) bool { return w.Object == e.Object })
		if i < 0 {
			s.waiting = append(s.waiting, &item{Object: e.Object})
			i = len(s.waiting) - 1
		}
		s.waiting[i].message = e.Message
		return
	case !moves:
		it = &item{Object: e.Object, since: e.Time, child: e.Kind != progress.Started}
		s.items[e.Object] = it
		s.moving = append(s.moving, it)
		s.drop(e.Object)
	}
	if e.Kind == progress.Started {
		s.note = ""
	}
	it.message, it.trouble = e.Message, e.Kind == progress.Waiting
	if e.Kind == progress.Updated {
		it.updated, it.ready = e.Updated, e.Ready
	}
	if e.Desired > 0 {
		it.desired = e.Desired
	}
}

// drop takes an object from those that are to come and that wait.
func (s *step) drop(o progress.Object) {
	if i := slices.Index(s.coming, o); i >= 0 {
		s.coming = slices.Delete(s.coming, i, i+1)
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(w *item) bool { return w.Object == o })
}

// end takes an object from those that move, with its parts.
func (s *step) end(e progress.Event) {
	s.note = ""
	s.moving = slices.DeleteFunc(s.moving, func(it *item) bool { return it.child || it.Object == e.Object })
	delete(s.items, e.Object)
	s.drop(e.Object)
	it := &item{Object: e.Object, message: e.Message}
	switch e.Kind {
	case progress.Failed:
		s.failures++
		s.failed = append(s.failed, it)
	case progress.Skipped:
		s.skipped = append(s.skipped, it)
	}
}

// count adds to the time in which anything moved.
func (s *step) count(now time.Time) {
	if d := now.Sub(s.seen); d > 0 {
		if len(s.moving) > 0 {
			s.active += d
		}
		s.seen = now
	}
}

// top gives the step that runs; nil before the first.
func (m *Model) top() *step {
	if len(m.steps) == 0 {
		return nil
	}
	return m.steps[len(m.steps)-1]
}

// Paused says whether nothing new is to start for now.
func (m *Model) Paused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.paused
}
