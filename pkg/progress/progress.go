// Package progress carries what happens while a plan is applied from the step
// that does it to whoever listens: the plain log, the live view, a file of
// events, a report. Steps emit; they never print.
package progress

import (
	"sync"
	"time"
)

// Kind says what an Event tells.
type Kind string

// The kinds of events. A listener that meets one it does not know shows its
// message.
const (
	StepStarted  Kind = "step-started"  // a step begins; Total is the number of its items
	StepFinished Kind = "step-finished" // a step ended; Message sums it up
	Planned      Kind = "planned"       // Object will be worked on later, in the order of these events
	Paused       Kind = "paused"        // the user holds back what has not begun
	Resumed      Kind = "resumed"       // it goes on
	Started      Kind = "started"       // work on Object began
	Updated      Kind = "updated"       // Object moved on; Message says how far
	Waiting      Kind = "waiting"       // something stands in the way for now; Message says what
	Done         Kind = "done"          // Object is where it was meant to be
	Skipped      Kind = "skipped"       // Object was left alone; Message says why
	Failed       Kind = "failed"        // Object did not get there; Message is the cause in words
	Warning      Kind = "warning"       // worth a person's look; nothing failed
)

// Object names what an Event is about. The zero value means the step itself.
type Object struct {
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// Event is one thing that happened while a plan was applied.
type Event struct {
	Time    time.Time `json:"time"`
	Step    string    `json:"step"` // crds, control-plane, sidecars, rollback
	Kind    Kind      `json:"event"`
	Object  Object    `json:"object,omitzero"`
	Message string    `json:"message,omitempty"`
	// Finished and Total count the step's items, where it has any.
	Finished int `json:"finished,omitempty"`
	Total    int `json:"total,omitempty"`
	// Ready and Desired count the pods of a workload that moves.
	Ready   int `json:"ready,omitempty"`
	Updated int `json:"updated,omitempty"`
	Desired int `json:"desired,omitempty"`
}

// Listener is told of every Event. Notify must not block for long and may be
// called from several goroutines at once.
type Listener interface {
	Notify(Event)
}

// Func makes a function a Listener.
type Func func(Event)

// Notify calls the function.
func (f Func) Notify(e Event) { f(e) }

// Discard is a Listener that does nothing.
var Discard Listener = Func(func(Event) {})

// Tee passes every event to all of its listeners, one event at a time and in
// the same order for each. Listeners that are nil are left out.
func Tee(listeners ...Listener) Listener {
	t := &tee{}
	for _, l := range listeners {
		if l != nil {
			t.listeners = append(t.listeners, l)
		}
	}
	return t
}

type tee struct {
	mu        sync.Mutex
	listeners []Listener
}

func (t *tee) Notify(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.listeners {
		l.Notify(e)
	}
}

// Emitter stamps a step's events with their time and step and hands them on.
// The zero value of Now means time.Now; of To, Discard; of Pause, one that
// nobody can use.
type Emitter struct {
	Step  string
	To    Listener
	Now   func() time.Time
	Pause *Pause
}

// Emit completes the event and passes it to the listener.
func (e Emitter) Emit(event Event) {
	if e.To == nil {
		return
	}
	event.Step = e.Step
	if event.Time.IsZero() {
		if e.Now != nil {
			event.Time = e.Now()
		} else {
			event.Time = time.Now()
		}
	}
	e.To.Notify(event)
}
