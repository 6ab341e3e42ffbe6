// Package rollout gives workloads new pods, many at a time, watches each to its
// end and judges it by its pods. It knows nothing of Istio versions: what the
// pods are to run comes with each Move as a promise.
package rollout

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Move is one workload that is to get new pods.
type Move struct {
	Ref workload.Ref
	// Seen is the workload as the plan saw it: what is sent when nobody watches
	// is made from it.
	Seen *workload.Workload
	// Change makes what is to be sent, from the workload as it is when its turn
	// has come. It is nil for workloads whose pods are evicted, and for those
	// that something else moves and that are only watched (Evict is false).
	Change func(*workload.Workload) (Change, error)
	// Apply, where set, takes the place of Change and writes by itself, because
	// what it writes must be made anew where the object has moved meanwhile. It
	// gives what it wrote, Patch being nil where nothing was left to write, and
	// the object's generation after it.
	Apply func(context.Context) (Change, int64, error)
	Evict bool
	// Unwatched workloads have no pods to be watched, such as a CronJob or one
	// that is scaled to zero: they are done when the change is written.
	Unwatched bool
	// Promise is what the new pods run.
	Promise workload.Promise
	// Force sends the change even where the pods are as promised already: the
	// template may bear more than what the promise says.
	Force bool
	// Cures says that what is written may be what makes an unhealthy workload
	// healthy: it is not left out for that.
	Cures bool
	// Resume says that the workload's last restart was ours, for the same
	// promise, and is not complete: it is followed to its end, and begun anew
	// where its new pods are in trouble.
	Resume bool
	// Anew says that a rollout which is under way is for another promise, by us or
	// with a sidecar that does not come up. It is not waited for where its pods
	// hang, but begun anew.
	Anew bool
	// Holds says why the move is not what the plan said, of the workload as it is
	// when its turn has come; "" where it is. It may be nil.
	Holds func(*workload.Workload) string
	// Gateway workloads go last.
	Gateway bool
	// Services are the names of the Services that send traffic to the pods.
	Services []string
}

// writes says whether the move begins with a write of the workload.
func (m *Move) writes() bool { return m.Change != nil || m.Apply != nil }

// Change is a patch of a workload, and the one that takes it back.
type Change struct {
	Type    types.PatchType
	Patch   []byte
	Manager string
	// Undo has the same type; it is nil where the change cannot be taken back.
	Undo []byte
	// TakeBack, where set, takes the place of Undo and writes by itself, because
	// what it puts back must not undo what others have changed meanwhile.
	TakeBack func(context.Context) error
	// At is when the change was written, by the API server's clock; zero where
	// that is not known.
	At time.Time
	// Stamp is the value that the pod template's annotation StampKey has while
	// the change stands; empty where the template bears none.
	StampKey, Stamp string
	// Image is the proxy's image in the pod template itself while the change
	// stands; empty where the template names none.
	Image string
	// GracePeriod and RestartAt are what the template's grace period, in
	// seconds, and a Rollout's spec.restartAt are while the change stands, where
	// the change is of these.
	GracePeriod *int64
	RestartAt   string
}

// undoable says whether the change can be taken back.
func (c *Change) undoable() bool { return c.Undo != nil || c.TakeBack != nil }

// WrittenAt gives the newest time at which a manager wrote an object, by the API
// server's clock and to the second; zero where the managed fields do not tell.
func WrittenAt(fields []metav1.ManagedFieldsEntry, manager string) time.Time {
	var at time.Time
	for i := range fields {
		if f := &fields[i]; f.Manager == manager && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// OnFailure says what happens when a workload fails.
type OnFailure string

// The ways to go on after a failure.
const (
	Halt     OnFailure = "halt"     // nothing new starts after MaxFailures
	Continue OnFailure = "continue" // the others are tried nevertheless
	Undo     OnFailure = "undo"     // as Halt, and the failed workload's change is taken back
)

// Options say how workloads are moved.
type Options struct {
	// MaxParallel is the number of workloads that move at a time at most, at least
	// 1; more than 10 do only while the API server answers promptly (pace).
	MaxParallel int
	// Canary is how many go first; the others wait until so many have come
	// through and Soak has passed. One that fails ends the run, whatever
	// MaxFailures allows, unless OnFailure is Continue.
	Canary int
	Soak   time.Duration
	// MaxFailures is the number of failures after which nothing new starts.
	MaxFailures int
	OnFailure   OnFailure
	// Timeout is how long a workload may be without progress.
	Timeout time.Duration
	// Wait false sends the changes and watches nothing: Canary, Soak and Undo
	// have no meaning then.
	Wait bool
	// Patience is how long pods that cannot be created are waited for before
	// that counts as a failure. Sandboxes and volumes have longer ones of their
	// own.
	Patience time.Duration
}

// Outcome says how a workload's move ended.
type Outcome string

// The outcomes.
const (
	Done         Outcome = "done"               // its pods are new and as promised
	Sent         Outcome = "sent"               // the change was sent; nobody watched
	Failed       Outcome = "failed"             // its new pods do not come up
	TimedOut     Outcome = "timed out"          // it made no progress for too long
	Reverted     Outcome = "reverted"           // someone took the change back
	NotConverged Outcome = "did not converge"   // its pods are new, yet not as promised
	Skipped      Outcome = "skipped"            // it was not started, or is there no more
	NotStarted   Outcome = "not started"        // the run ended before its turn
	InFlight     Outcome = "still moving"       // the run ended while it moved
	Undone       Outcome = "failed, and undone" // the change was taken back
)

// What became of workloads that are no more, or not for long.
const (
	wasDeleted    = "it was deleted meanwhile"
	namespaceEnds = "its namespace is being deleted"
)

// Stays says whether the workload was passed over and is still there, as it was.
func (r *Result) Stays() bool {
	return r.Outcome == Skipped && r.Message != wasDeleted && r.Message != namespaceEnds
}

// Bad says whether the outcome is a failure.
func (o Outcome) Bad() bool {
	switch o {
	case Failed, TimedOut, Reverted, NotConverged, Undone:
		return true
	}
	return false
}

// Result is how one workload's move ended.
type Result struct {
	workload.Ref
	Outcome Outcome `json:"outcome"`
	// Message says why, in words; empty for Done.
	Message string `json:"message,omitempty"`
	// Started and Ended are the times of its first write and of the verdict.
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// OutOfTime is true where it failed by the timeout, also where it was undone
	// after that.
	OutOfTime bool `json:"outOfTime,omitempty"`
	// Sent is true where anything was written.
	Sent bool `json:"sent"`
}
