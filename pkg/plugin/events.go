package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// The kinds of the lines that frame a run in a file of events.
const (
	runStarted  progress.Kind = "run-started"
	runFinished progress.Kind = "run-finished"
)

// eventLine is a line of --events. Fields are added, never renamed or removed,
// within a version; so are kinds of events.
type eventLine struct {
	APIVersion string `json:"apiVersion"`
	progress.Event
	// Error is what the command ended with, in a run-finished event.
	Error string `json:"error,omitempty"`
}

// eventFile appends every event to a file as a line of JSON.
type eventFile struct {
	errOut io.Writer
	mu     sync.Mutex
	file   *os.File
	begun  bool
	failed error // the first write that failed
}

// openEvents opens a file to append to. What a run before has written stays: the
// same command goes on where a run was stopped, and its history with it. Events
// name what runs in a cluster and are for the user's eyes.
func openEvents(path string, errOut io.Writer) (*eventFile, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--events: %w", err)
	}
	return &eventFile{file: f, errOut: errOut}, nil
}

// Notify writes the event. A file that cannot be written does not stop an
// upgrade; it is told of once, and again by close.
func (f *eventFile) Notify(e progress.Event) { f.write(eventLine{Event: e}) }

func (f *eventFile) write(line eventLine) {
	line.APIVersion, line.Time = documentVersion, line.Time.UTC()
	raw, err := json.Marshal(line)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		_, err = f.file.Write(append(harmlessJSON(raw), '\n'))
	}
	if err != nil && f.failed == nil {
		f.failed = err
		fmt.Fprintln(f.errOut, "warning: --events: "+escape(err.Error()))
	}
}

// begin writes that the run has begun, once.
func (f *eventFile) begin(step string) {
	if !f.begun {
		f.begun = true
		f.write(eventLine{Event: progress.Event{Time: time.Now(), Step: step, Kind: runStarted}})
	}
}

// close writes that the run has ended, if it had begun, and closes the file.
func (f *eventFile) close(step string, err error) error {
	if f.begun {
		line := eventLine{Event: progress.Event{Time: time.Now(), Step: step, Kind: runFinished}}
		if err != nil {
			line.Error = plainWords(err)
		}
		f.write(line)
	}
	if err := errors.Join(f.failed, f.file.Close()); err != nil {
		return fmt.Errorf("--events: %w", err)
	}
	return nil
}
