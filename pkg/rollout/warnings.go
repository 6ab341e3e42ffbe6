package rollout

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// The reasons of warnings that tell of pods that cannot be made or started
// (kubernetes pkg/controller/controller_utils.go, pkg/kubelet/events,
// pkg/controller/volume/events).
const (
	failedCreate  = "FailedCreate"
	failedSandbox = "FailedCreatePodSandBox"
	failedMount   = "FailedMount"
	failedAttach  = "FailedAttachVolume"
)

// sandboxPatience is how long a sandbox that cannot be made is waited for: the
// kubelet tries again after 10 to 15 s (pkg/kubelet/kubelet.go, backOffPeriod),
// so that what lasts longer than this has failed at least twice. A node's
// network agent that is just being replaced is no failure.
const sandboxPatience = 20 * time.Second

// volumePatience is how long a volume is waited for. The warnings come early and
// pass by themselves: the kubelet's caches of ConfigMaps and Secrets are not
// filled yet, or a ReadWriteOnce volume still hangs on the node of the pod that
// just ended. Only after 2 min and 3 s does the kubelet itself give up an
// attempt (pkg/kubelet/volumemanager, podAttachAndMountTimeout).
const volumePatience = 150 * time.Second

// clocks is by how much the clocks of a controller and of the API server may
// differ.
const clocks = 5 * time.Second

// warning is the newest word on pods of a workload that cannot be made, or on
// one pod that cannot be started.
type warning struct {
	Reason, Text string
	// Pod is the one that it is about; empty where it is about the workload.
	Pod types.UID
	// At is when the cluster said it last, by its own clock; zero where it
	// stands in the workload's status. Since is when it was first seen here, Last
	// when it was seen to be said again.
	At, Since, Last time.Time
}

// counts says whether a warning tells of the move that began as start says: of
// the workload since its change was written, or of a new pod that has started
// nothing yet. What an old pod, or one that runs by now, was once warned of is
// over.
func (w *warning) counts(v sight, s start) bool {
	if w.Pod == "" {
		return w.At.IsZero() || !w.At.Before(s.At.Add(-clocks))
	}
	for _, pod := range v.Pods {
		if pod.UID == w.Pod {
			return !s.Old[pod.UID] && pod.DeletionTimestamp == nil && !startedUp(pod)
		}
	}
	return false
}

// startedUp says whether a pod's volumes and its sandbox are there.
func startedUp(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if list[i].State.Running != nil || list[i].State.Terminated != nil || list[i].LastTerminationState.Terminated != nil {
				return true
			}
		}
	}
	return false
}

// due is when a warning becomes a failure. Room in a quota comes when other
// pods of the namespace end: it is waited for while they do, and then once more
// for as long as it has been refused, since the controller tries again in steps
// that double (kubernetes pkg/controller/replicaset, its queue's rate limiter).
func (w *warning) due(v sight, patience time.Duration) time.Time {
	switch w.Reason {
	case failedSandbox:
		patience = max(patience, sandboxPatience)
	case failedMount, failedAttach:
		patience = max(patience, volumePatience)
	}
	since := w.Since
	if w.starved() && v.Freeing.After(since) {
		since = v.Freeing.Add(v.Freeing.Sub(since))
	}
	due := since.Add(patience)
	if (w.Reason == failedCreate || w.Reason == failedSandbox) && !w.starved() && w.Last.Before(due) {
		// Not said again after it: the next attempt, which may succeed, is still to
		// come. It comes before twice the time, as the pauses double at most.
		return due.Add(patience + time.Second)
	}
	return due
}

// starved says whether a quota has no room (apiserver
// pkg/admission/plugin/resourcequota/controller.go).
func (w *warning) starved() bool { return strings.Contains(w.Text, "exceeded quota") }

// blockedBy gives the warning that counts and is due first, nil where none does.
func blockedBy(v sight, s start, patience time.Duration) *warning {
	var first *warning
	for i := range v.Warnings {
		w := &v.Warnings[i]
		if w.counts(v, s) && (first == nil || w.due(v, patience).Before(first.due(v, patience))) {
			first = w
		}
	}
	return first
}

// note keeps a warning under the workload that it is about, and names it.
func (w *watches) note(event *corev1.Event) (workload.Ref, bool) {
	switch event.Reason {
	case failedCreate, failedSandbox, failedMount, failedAttach:
	default:
		return workload.Ref{}, false
	}
	object := event.InvolvedObject
	ref := workload.Ref{Kind: object.Kind, Namespace: object.Namespace, Name: object.Name}
	if group, _, ok := strings.Cut(object.APIVersion, "/"); ok {
		ref.Group = group
	}
	said := warning{Reason: event.Reason, Text: event.Reason + ": " + event.Message, At: saidAt(event), Since: time.Now(), Last: time.Now()}
	if ref.Is(workload.Pod) {
		obj, ok, err := w.pods.GetStore().GetByKey(object.Namespace + "/" + object.Name)
		pod, isPod := obj.(*corev1.Pod)
		if err != nil || !ok || !isPod || object.UID != "" && object.UID != pod.UID {
			return workload.Ref{}, false
		}
		ref, said.Pod = refsOf(pod)[0], pod.UID
		said.Text = "pod " + object.Name + ": " + sandbox(event.Reason) + said.Text
	}
	if ref = w.behind(ref); !w.feed.moves(ref) {
		return workload.Ref{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.warnings[ref] == nil {
		w.warnings[ref] = map[types.UID]warning{}
	}
	if before, ok := w.warnings[ref][said.Pod]; ok && before.Reason == said.Reason {
		said.Since = before.Since
	}
	w.warnings[ref][said.Pod] = said
	return ref, true
}

// saidAt is when an event was last reported.
func saidAt(event *corev1.Event) time.Time {
	at := event.EventTime.Time
	times := []time.Time{event.FirstTimestamp.Time, event.LastTimestamp.Time}
	if event.Series != nil {
		times = append(times, event.Series.LastObservedTime.Time)
	}
	for _, t := range times {
		if t.After(at) {
			at = t
		}
	}
	if at.IsZero() {
		return event.CreationTimestamp.Time
	}
	return at
}

// forget drops what was warned of before a workload starts.
func (w *watches) forget(ref workload.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.warnings, ref)
}

// gotOn drops what was said of pods that cannot be made: one was. What was said
// of a pod holds as long as that one is not started.
func (w *watches) gotOn(ref workload.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.warnings[ref], "")
}

// behind gives the workload of the run that stands behind a ReplicaSet or a
// ReplicationController, whose name ends in a hash or a number, or the reference
// as it is.
func (w *watches) behind(ref workload.Ref) workload.Ref {
	i := strings.LastIndex(ref.Name, "-")
	if w.feed.moves(ref) || i <= 0 {
		return ref
	}
	var kinds []string
	switch {
	case ref.Is(workload.ReplicaSet):
		kinds = []string{workload.Deployment, workload.Rollout}
	case ref.Is(workload.ReplicationController):
		kinds = []string{workload.DeploymentConfig}
	}
	for _, kind := range kinds {
		owner := workload.Ref{Group: workload.Resources[kind].Group, Kind: kind, Namespace: ref.Namespace, Name: ref.Name[:i]}
		if w.feed.moves(owner) {
			return owner
		}
	}
	return ref
}

func sandbox(reason string) string {
	if reason == failedSandbox {
		return "its sandbox cannot be made; "
	}
	return ""
}
