// Package report keeps what happens while an upgrade runs and makes one HTML
// page of it, which needs nothing but itself to be read.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Run is all that a report shows. Times are in UTC.
type Run struct {
	APIVersion string    `json:"apiVersion"`
	Command    string    `json:"command"` // crds, control-plane, sidecars, rollback, all
	Version    string    `json:"version"` // of the plugin
	Context    string    `json:"context"`
	Server     string    `json:"server"`
	Began      time.Time `json:"began"`
	Ended      time.Time `json:"ended"`
	// Error is what the command ended with; empty where all went well.
	Error string `json:"error,omitempty"`

	Steps     []Step     `json:"steps"`
	Changes   []Change   `json:"changes"`
	Workloads []Workload `json:"workloads"`
	Services  []Service  `json:"services"`
	Left      []Left     `json:"left"`
	// Notes are what a reader should know of the report itself, such as what
	// could not be watched, and warnings of the run.
	Notes []string `json:"notes"`
}

// Step is one step of the run.
type Step struct {
	Name    string    `json:"name"`
	Message string    `json:"message,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Change is a thing that is not a workload and that a step brings from one
// version to another: a release, a definition.
type Change struct {
	Step string `json:"step"`
	What string `json:"what"`
	From string `json:"from"`
	To   string `json:"to"`
	// Action is what the plan did to it.
	Action string `json:"action,omitempty"`
}

// The outcomes of a workload.
const (
	OutcomeDone     = "done"
	OutcomeFailed   = "failed"
	OutcomeSkipped  = "skipped"
	OutcomeMoving   = "still moving"
	OutcomeNotBegun = "not started"
)

// Workload is a workload that the run was to move, or that moved with it.
type Workload struct {
	Step      string `json:"step"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	How       string `json:"how,omitempty"`
	// Impact is what the plan predicted: none, at risk, outage or "".
	Impact       string `json:"impact,omitempty"`
	ImpactReason string `json:"impactReason,omitempty"`
	// Services send traffic to it.
	Services []string  `json:"services"`
	Outcome  string    `json:"outcome"`
	Message  string    `json:"message,omitempty"`
	Began    time.Time `json:"began,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Marks    []Mark    `json:"marks"`
	Seen     Seen      `json:"seen"`
}

// Mark is something that was seen of a workload while it moved.
type Mark struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message,omitempty"`
	Updated int       `json:"updated"`
	Ready   int       `json:"ready"`
	Desired int       `json:"desired"`
}

// Service is a Service and how many ready endpoints it had over time.
type Service struct {
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Points    []Point `json:"points"`
}

// Point says that from Time on there were so many ready endpoints.
type Point struct {
	Time  time.Time `json:"time"`
	Ready int       `json:"ready"`
}

// Left is a workload that lags and was not moved, and why.
type Left struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Proxy     string `json:"proxy,omitempty"`
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
}

// Seen is what a move disturbed, as far as it was watched.
type Seen struct {
	// Known is false where nothing was watched that could tell.
	Known bool `json:"known"`
	// Fewest is the least number of ready endpoints that any of its Services
	// had while it moved.
	Fewest int `json:"fewest"`
	// Without is for how long one of its Services had none, in seconds.
	Without float64 `json:"withoutSeconds"`
	// Worse is true where that is more than the plan predicted.
	Worse bool `json:"worse"`
}

// fewest gives the least number of ready endpoints between two times, and for
// how long there were none. The last value is false where nothing is known of
// that time.
func (s *Service) fewest(from, to time.Time) (least int, without time.Duration, known bool) {
	for i, p := range s.Points {
		end := to
		if i+1 < len(s.Points) && s.Points[i+1].Time.Before(to) {
			end = s.Points[i+1].Time
		}
		begin := p.Time
		if begin.Before(from) {
			begin = from
		}
		if end.Before(begin) || p.Time.After(to) || end.Before(from) {
			continue
		}
		if !known || p.Ready < least {
			least = p.Ready
		}
		known = true
		if p.Ready == 0 {
			without += end.Sub(begin)
		}
	}
	return least, without, known
}

// Judge compares what was predicted with what was seen. A workload counts by the
// Services that had endpoints before it moved.
func (r *Run) Judge() {
	services := map[string]*Service{}
	for i := range r.Services {
		services[r.Services[i].Namespace+"/"+r.Services[i].Name] = &r.Services[i]
	}
	for i := range r.Workloads {
		w := &r.Workloads[i]
		w.Seen = Seen{}
		if w.Began.IsZero() {
			continue
		}
		end := w.Ended
		if end.IsZero() {
			end = r.Ended
		}
		for _, name := range w.Services {
			s := services[w.Namespace+"/"+name]
			if s == nil || len(s.Points) == 0 {
				continue
			}
			least, without, known := s.fewest(w.Began, end)
			if !known || s.at(w.Began) == 0 {
				continue
			}
			if !w.Seen.Known || least < w.Seen.Fewest {
				w.Seen.Fewest = least
			}
			w.Seen.Known = true
			w.Seen.Without = max(w.Seen.Without, without.Seconds())
		}
		w.Seen.Worse = w.Seen.Known && w.Seen.Fewest == 0 && w.Impact == "none"
	}
}

// at gives the number of ready endpoints at a time.
func (s *Service) at(t time.Time) int {
	ready := 0
	for _, p := range s.Points {
		if p.Time.After(t) {
			break
		}
		ready = p.Ready
	}
	return ready
}

// Count gives the number of workloads with an outcome.
func (r *Run) Count(outcome string) int {
	n := 0
	for i := range r.Workloads {
		if r.Workloads[i].Outcome == outcome {
			n++
		}
	}
	return n
}

// Failures gives the workloads that failed.
func (r *Run) Failures() []Workload {
	return slices.DeleteFunc(slices.Clone(r.Workloads), func(w Workload) bool { return w.Outcome != OutcomeFailed })
}

// Unexpected gives the workloads that disturbed more than was predicted.
func (r *Run) Unexpected() []Workload {
	return slices.DeleteFunc(slices.Clone(r.Workloads), func(w Workload) bool { return !w.Seen.Worse })
}

// Watched gives the number of workloads of which is known what their move
// disturbed.
func (r *Run) Watched() int {
	n := 0
	for i := range r.Workloads {
		if r.Workloads[i].Seen.Known {
			n++
		}
	}
	return n
}

// Unwatched gives the number of workloads that moved and of which it is not known.
func (r *Run) Unwatched() int {
	n := 0
	for i := range r.Workloads {
		if w := &r.Workloads[i]; !w.Began.IsZero() && !w.Seen.Known {
			n++
		}
	}
	return n
}

// Proxies counts what the workloads that were to move, or were left, ran before
// and run now. Those that were up to date are not in a report.
func (r *Run) Proxies() []ProxyCount {
	counts := map[string]*ProxyCount{}
	count := func(version string) *ProxyCount {
		if version == "" {
			version = "unknown"
		}
		if counts[version] == nil {
			counts[version] = &ProxyCount{Version: version}
		}
		return counts[version]
	}
	for i := range r.Workloads {
		w := &r.Workloads[i]
		if w.From == "" && w.To == "" {
			continue
		}
		count(w.From).Before++
		if w.Outcome == OutcomeDone {
			count(w.To).After++
		} else {
			count(w.From).After++
		}
	}
	for i := range r.Left {
		if r.Left[i].Proxy != "" {
			count(r.Left[i].Proxy).Before++
			count(r.Left[i].Proxy).After++
		}
	}
	list := make([]ProxyCount, 0, len(counts))
	for _, c := range counts {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b ProxyCount) int { return cmp.Compare(a.Version, b.Version) })
	return list
}

// ProxyCount is how many workloads ran a proxy before the run, and after it.
type ProxyCount struct {
	Version       string
	Before, After int
}

// Title says what the run was about.
func (r *Run) Title() string {
	words := map[string]string{
		"crds": "CustomResourceDefinitions", "control-plane": "Control plane", "sidecars": "Sidecars",
		"rollback": "Rollback", "all": "Istio upgrade",
	}
	return cmp.Or(words[r.Command], r.Command)
}

// Took is how long the run took.
func (r *Run) Took() string { return r.Ended.Sub(r.Began).Round(time.Second).String() }

// String names a workload as kubectl does.
func (w Workload) String() string { return strings.ToLower(w.Kind) + "/" + w.Name }

// String names what was left as kubectl does.
func (l Left) String() string { return strings.ToLower(l.Kind) + "/" + l.Name }

// String says what was seen, in words.
func (s Seen) String() string {
	switch {
	case !s.Known:
		return "not watched"
	case s.Fewest == 0:
		return fmt.Sprintf("none ready for %.1f s", s.Without)
	}
	return fmt.Sprintf("never fewer than %d ready", s.Fewest)
}
