package report

import (
	"slices"
	"strings"
	"sync"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// Recorder makes a Run of events. What the plans say goes into Run before the
// events come.
type Recorder struct {
	mu        sync.Mutex
	run       *Run
	workloads map[progress.Object]int // by index in run.Workloads
}

// NewRecorder gives a recorder that completes the run.
func NewRecorder(run *Run) *Recorder {
	return &Recorder{run: run, workloads: map[progress.Object]int{}}
}

// Expect adds the workloads of a plan, in the order in which they will be moved.
func (r *Recorder) Expect(workloads ...Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range workloads {
		w.Outcome = OutcomeNotBegun
		r.add(w)
	}
}

// Change adds what else a plan changes.
func (r *Recorder) Change(changes ...Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run.Changes = append(r.run.Changes, changes...)
}

// Left adds workloads that stay as they are.
func (r *Recorder) Left(left ...Left) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run.Left = append(r.run.Left, left...)
}

// Endpoints adds what a watch has seen of Services.
func (r *Recorder) Endpoints(services ...Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range services {
		at := slices.IndexFunc(r.run.Services, func(known Service) bool {
			return known.Namespace == s.Namespace && known.Name == s.Name
		})
		if at < 0 {
			r.run.Services = append(r.run.Services, s)
			continue
		}
		r.run.Services[at].Points = append(r.run.Services[at].Points, s.Points...)
	}
}

// Note adds what a reader should know.
func (r *Recorder) Note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run.Notes = append(r.run.Notes, text)
}

func (r *Recorder) add(w Workload) int {
	if w.Services == nil {
		w.Services = []string{}
	}
	w.Marks = []Mark{}
	r.run.Workloads = append(r.run.Workloads, w)
	at := len(r.run.Workloads) - 1
	r.workloads[progress.Object{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}] = at
	return at
}

// Notify takes in an event.
func (r *Recorder) Notify(e progress.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = e.Time.UTC()
	switch {
	case e.Kind == progress.StepStarted:
		r.run.Steps = append(r.run.Steps, Step{Name: e.Step, Began: e.Time})
	case e.Kind == progress.StepFinished:
		for i := range r.run.Steps {
			if s := &r.run.Steps[i]; s.Name == e.Step && s.Ended.IsZero() {
				s.Ended, s.Message = e.Time, e.Message
			}
		}
	case e.Kind == progress.Planned:
	case e.Kind == progress.Warning, e.Object.Name == "" && e.Kind == progress.Failed:
		r.run.Notes = append(r.run.Notes, strings.TrimPrefix(e.Object.Name+": ", ": ")+e.Message)
	case e.Object.Name != "" && !beside(e.Object.Kind):
		r.workload(e)
	}
}

// beside says whether events tell of objects of a kind that has no pods, and that no
// release is made of: definitions, and what a run lends and locks.
func beside(kind string) bool {
	return slices.ContainsFunc([]string{"CustomResourceDefinition", "HorizontalPodAutoscaler", "Lease"}, func(other string) bool {
		return strings.EqualFold(kind, other)
	})
}

// workload takes in what an event says of a workload or a release.
func (r *Recorder) workload(e progress.Event) {
	at, known := r.workloads[e.Object]
	if !known {
		at = r.add(Workload{Step: e.Step, Kind: e.Object.Kind, Namespace: e.Object.Namespace, Name: e.Object.Name, Outcome: OutcomeNotBegun})
	}
	w := &r.run.Workloads[at]
	moves := e.Kind == progress.Started || e.Kind == progress.Updated
	if moves && w.Began.IsZero() {
		w.Began, w.Outcome = e.Time, OutcomeMoving
	}
	switch e.Kind {
	case progress.Done, progress.Failed, progress.Skipped:
		w.Ended, w.Message = e.Time, e.Message
		w.Outcome = map[progress.Kind]string{
			progress.Done: OutcomeDone, progress.Failed: OutcomeFailed, progress.Skipped: OutcomeSkipped,
		}[e.Kind]
	case progress.Updated, progress.Waiting, progress.Started:
		w.Marks = append(w.Marks, Mark{Time: e.Time, Message: e.Message, Updated: e.Updated, Ready: e.Ready, Desired: e.Desired})
	}
	r.settle(w, e)
}

// settle ends a workload that moves as a part of a release, which has no end of
// its own, when its pods are all new and ready.
func (r *Recorder) settle(w *Workload, e progress.Event) {
	part := w.How == "" && w.Kind != "release" && w.Step != "sidecars"
	if part && e.Kind == progress.Updated && e.Desired > 0 && e.Updated >= e.Desired && e.Ready >= e.Desired {
		w.Ended, w.Outcome = e.Time, OutcomeDone
	}
}
