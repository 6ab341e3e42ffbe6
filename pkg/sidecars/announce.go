package sidecars

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// The reasons of the Events that tell a workload's team what was done to it.
const (
	eventUpgraded = "SidecarUpgraded"
	eventFailed   = "SidecarUpgradeFailed"
)

// farewell is how long the last Events may take at the end of a run.
const farewell = 5 * time.Second

// parallelEvents is how many Events are written at a time.
const parallelEvents = 32

// announcer writes one Event on each workload that was moved, beside the work
// and never in its way: a user who may not write Events moves workloads all the
// same.
type announcer struct {
	c     *cluster.Cluster
	items map[progress.Object]*Item
	queue chan *corev1.Event
	mute  atomic.Bool // they cannot be written
	done  chan struct{}
}

// announce starts an announcer for the items of a run; stop ends it.
func announce(ctx context.Context, c *cluster.Cluster, items []Item) *announcer {
	a := &announcer{
		c: c, items: map[progress.Object]*Item{},
		queue: make(chan *corev1.Event, len(items)), done: make(chan struct{}),
	}
	for i := range items {
		item := &items[i]
		a.items[progress.Object{Kind: item.Kind, Namespace: item.Namespace, Name: item.Name}] = item
	}
	// What was done is told also where the run was interrupted.
	ctx = context.WithoutCancel(ctx)
	var writers sync.WaitGroup
	for range min(parallelEvents, len(items)) {
		writers.Go(func() { a.write(ctx) })
	}
	go func() {
		defer close(a.done)
		writers.Wait()
	}()
	return a
}

// write writes what is queued. After the first that cannot be written the rest
// is dropped.
func (a *announcer) write(ctx context.Context) {
	for event := range a.queue {
		if a.mute.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, farewell)
		_, err := a.c.Kube.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{})
		cancel()
		if err != nil {
			a.mute.Store(true)
		}
	}
}

// hear turns a workload's end into an Event.
func (a *announcer) hear(e progress.Event) {
	item := a.items[e.Object]
	if item == nil || item.w == nil || e.Kind != progress.Done && e.Kind != progress.Failed {
		return
	}
	event := workloadEvent(item, e)
	select {
	case a.queue <- event:
	default: // one for each workload fits
	}
}

// stop waits for what is still to be written, a little.
func (a *announcer) stop() {
	close(a.queue)
	select {
	case <-a.done:
	case <-time.After(farewell):
	}
}

func workloadEvent(item *Item, e progress.Event) *corev1.Event {
	kind, reason := corev1.EventTypeNormal, eventUpgraded
	message := "its pods have the new proxy"
	if item.To != nil {
		message += " " + item.To.Image
	}
	switch {
	case e.Kind == progress.Failed:
		kind, reason, message = corev1.EventTypeWarning, eventFailed, e.Message
	case e.Message != "": // done, yet not by what is said above
		message = e.Message
	}
	if len(message) > 1000 { // the API's limit is 1024 bytes
		message = message[:1000]
	}
	at := metav1.NewTime(e.Time)
	version := "v1"
	if r, ok := item.Resource(); ok {
		version = r.GroupVersion().String()
	}
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: item.Name + ".", Namespace: item.Namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: version, Kind: item.Kind, Namespace: item.Namespace, Name: item.Name, UID: item.w.UID,
		},
		Type: kind, Reason: reason, Message: message,
		Source:         corev1.EventSource{Component: "kubectl-istio-upgrade"},
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}
}
