package rollout

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

const (
	oldImage = "docker.io/istio/proxyv2:1.30.2"
	newImage = "docker.io/istio/proxyv2:1.31.0"
	stampKey = "istio-upgrade/restarted"
)

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	promise = workload.Promise{Known: true, Proxy: workload.Proxy{Image: newImage}}
)

// pod makes a ready pod; its UID is its name.
func pod(name, image string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID(name)}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if image != "" {
		p.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Image: image}}
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func leaving(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon} }
func crashing(p *corev1.Pod) {
	unready(p)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"},
	}}}
}

// deployment is one of two pods whose controller reports its rollout complete.
func deployment(change ...func(*workload.Workload)) *workload.Workload {
	w := &workload.Workload{
		Ref:     workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"},
		Desired: 2, Generation: 5,
		Status: workload.Status{ObservedGeneration: 5, Replicas: 2, Updated: 2, Ready: 2, Available: 2},
	}
	w.Template.Annotations = map[string]string{stampKey: "ours"}
	for _, c := range change {
		c(w)
	}
	return w
}

// refused is the word on pods that a quota has no room for, said since then.
func refused(since time.Time) []warning {
	return []warning{{Reason: failedCreate, Text: "FailedCreate: exceeded quota", Since: since}}
}

func halfway(w *workload.Workload) { w.Status.Updated, w.Status.Replicas = 1, 3 }

func TestJudge(t *testing.T) {
	begun := start{Generation: 5, Old: map[types.UID]bool{"old-0": true, "old-1": true}, StampKey: stampKey, Stamp: "ours"}
	both := []*corev1.Pod{pod("new-0", newImage), pod("new-1", newImage)}
	mixed := []*corev1.Pod{pod("old-0", oldImage), pod("old-1", oldImage), pod("new-0", newImage, unready)}
	takenBack := func(w *workload.Workload) {
		halfway(w)
		w.Generation, w.Template.Annotations = 6, nil
	}
	for _, tc := range []struct {
		name  string
		move  Move
		start *start // nil: begun
		sight sight
		want  state
		words string
	}{
		{name: "every pod is new and ready", sight: sight{W: deployment(), Pods: both}, want: arrived},
		{name: "an old pod on its way out does not count", sight: sight{W: deployment(), Pods: append(both, pod("old-0", oldImage, leaving))}, want: arrived},
		{name: "half way", sight: sight{W: deployment(halfway), Pods: mixed}, want: moving, words: "1 of 2 new, 2 ready"},
		{
			name:  "the controller has not seen the change",
			sight: sight{W: deployment(func(w *workload.Workload) { w.Status.ObservedGeneration = 4 }), Pods: both}, want: moving,
		},
		{name: "complete by its status, but pods are not seen yet", sight: sight{W: deployment(), Pods: both[:1]}, want: moving},
		{name: "complete by its status, but a pod is not ready", sight: sight{W: deployment(), Pods: []*corev1.Pod{both[0], pod("new-1", newImage, unready)}}, want: moving},
		{
			name: "complete by its status, but an old pod is still there", want: moving,
			sight: sight{W: deployment(), Pods: append(both, pod("old-0", oldImage))},
		},
		{name: "it is gone", sight: sight{}, want: gone},
		{name: "it is being deleted", sight: sight{W: deployment(func(w *workload.Workload) { w.Deleting = true }), Pods: both}, want: gone},
		{name: "scaled to zero", sight: sight{W: deployment(func(w *workload.Workload) { w.Desired = 0 })}, want: held, words: "scaled to zero"},
		{name: "paused", sight: sight{W: deployment(func(w *workload.Workload) { halfway(w); w.Paused = true }), Pods: mixed}, want: held, words: "paused"},
		{name: "the stamp was taken back", sight: sight{W: deployment(takenBack), Pods: mixed}, want: reverted, words: "the restart was taken back"},
		{
			name: "the image was taken back", start: &start{Generation: 5, Old: begun.Old, Image: newImage},
			sight: sight{W: deployment(takenBack), Pods: mixed}, want: reverted, words: "the new sidecar was taken back",
		},
		{
			name: "taken back, yet the pods are as promised", want: arrived,
			sight: sight{W: deployment(func(w *workload.Workload) {
				w.Generation, w.Template.Annotations, w.Status.ObservedGeneration = 6, nil, 6
			}), Pods: both},
		},
		{
			name: "changed by another, and our stamp stands", want: moving,
			sight: sight{W: deployment(halfway, func(w *workload.Workload) { w.Generation = 6 }), Pods: mixed},
		},
		{
			name: "new pods with another image", want: strayed, words: "pod new-1 runs " + oldImage + ", though " + newImage + " was promised",
			sight: sight{W: deployment(), Pods: []*corev1.Pod{both[0], pod("new-1", oldImage)}},
		},
		{
			name: "new pods without a proxy", want: strayed, words: "pod new-1 came up without a proxy",
			sight: sight{W: deployment(), Pods: []*corev1.Pod{both[0], pod("new-1", "")}},
		},
		{
			name: "new pods in another form", want: strayed, words: "in another form",
			sight: sight{W: deployment(), Pods: []*corev1.Pod{both[0], pod("new-1", "", func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy", Image: newImage}}
			})}},
		},
		{
			name: "a new pod crashes", want: failed, words: "pod new-0: CrashLoopBackOff of container web: back-off",
			sight: sight{W: deployment(halfway), Pods: []*corev1.Pod{pod("old-0", oldImage), pod("new-0", newImage, crashing)}},
		},
		{
			name: "an old pod crashes: that is no failure of the move", want: moving,
			sight: sight{W: deployment(halfway), Pods: []*corev1.Pod{pod("old-0", oldImage, crashing), pod("new-0", newImage)}},
		},
		{
			name: "a new pod that is being removed crashes", want: moving,
			sight: sight{W: deployment(halfway), Pods: []*corev1.Pod{pod("old-0", oldImage), pod("new-0", newImage, crashing, leaving)}},
		},
		{
			name: "its deadline has passed", want: failed, words: "ProgressDeadlineExceeded: has timed out",
			sight: sight{W: deployment(halfway, func(w *workload.Workload) {
				w.Status.DeadlineExceeded, w.Status.DeadlineMessage = true, "has timed out"
			}), Pods: mixed},
		},
		{
			name: "the deadline is that of the rollout before", want: moving,
			sight: sight{W: deployment(halfway, func(w *workload.Workload) {
				w.Status.DeadlineExceeded, w.Status.ObservedGeneration = true, 4
			}), Pods: mixed},
		},
		{name: "blocked a little while", sight: sight{W: deployment(halfway), Pods: mixed, Warnings: refused(noon.Add(-29 * time.Second))}, want: moving},
		{
			name: "blocked beyond patience", want: failed, words: "exceeded quota",
			sight: sight{W: deployment(halfway), Pods: mixed, Warnings: refused(noon.Add(-30 * time.Second))},
		},
		{
			name: "done in spite of a warning", want: arrived,
			sight: sight{W: deployment(), Pods: both, Warnings: refused(noon.Add(-time.Hour))},
		},
		{
			name: "evicted one by one: the rest is still old", move: Move{Evict: true}, start: &start{Generation: 5, Old: begun.Old}, want: moving,
			sight: sight{W: deployment(), Pods: []*corev1.Pod{both[0], pod("old-1", oldImage)}},
		},
		{
			name: "evicted one by one: all are new", move: Move{Evict: true}, start: &start{Generation: 5, Old: begun.Old}, want: arrived,
			// A ReplicaSet's status counts no updated pods.
			sight: sight{W: deployment(func(w *workload.Workload) { w.Status.Updated = 0 }), Pods: both},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := begun
			if tc.start != nil {
				s = *tc.start
			}
			tc.move.Promise = promise
			got := judge(&tc.move, s, tc.sight, 30*time.Second, noon)
			if got.State != tc.want || !strings.Contains(got.Message, tc.words) {
				t.Errorf("state %d, %q; want %d, %q", got.State, got.Message, tc.want, tc.words)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	w := func(kind string, desired, updated, replicas, ready, available int32) *workload.Workload {
		return &workload.Workload{Ref: workload.Ref{Kind: kind}, Desired: desired, Status: workload.Status{Updated: updated, Replicas: replicas, Ready: ready, Available: available}}
	}
	for _, tc := range []struct {
		name  string
		w     *workload.Workload
		evict bool
		want  bool
	}{
		{"a Deployment", w(workload.Deployment, 3, 3, 3, 3, 3), false, true},
		{"a Deployment whose old pods are not gone", w(workload.Deployment, 3, 3, 4, 4, 4), false, false},
		{"a Deployment whose new pods are not available", w(workload.Deployment, 3, 3, 3, 3, 2), false, false},
		{"a StatefulSet", w(workload.StatefulSet, 3, 3, 3, 3, 0), false, true},
		{"a StatefulSet with an old pod", w(workload.StatefulSet, 3, 2, 3, 3, 3), false, false},
		{"a StatefulSet that waits for a pod", w(workload.StatefulSet, 3, 3, 3, 2, 2), false, false},
		{"a DaemonSet", w(workload.DaemonSet, 3, 3, 3, 3, 3), false, true},
		{"a DaemonSet with an old pod", w(workload.DaemonSet, 3, 2, 3, 3, 3), false, false},
		{"evicted: ready is enough", w(workload.ReplicaSet, 3, 0, 3, 3, 0), true, true},
		{"evicted: one is missing", w(workload.ReplicaSet, 3, 3, 3, 2, 2), true, false},
	} {
		if got := complete(tc.w, tc.evict); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// A pod that comes back from an eviction with another proxy than promised ends
// the move: evicting on would go round and round.
func TestJudgeEvictionThatDoesNotConverge(t *testing.T) {
	m := &Move{Evict: true, Promise: promise}
	begun := start{Generation: 5, Old: map[types.UID]bool{"old-0": true, "old-1": true}}
	for name, c := range map[string]struct {
		pods []*corev1.Pod
		want state
	}{
		"the new pod bears the old proxy": {[]*corev1.Pod{pod("old-0", oldImage), pod("new-1", oldImage)}, strayed},
		"the new pod is not ready yet":    {[]*corev1.Pod{pod("old-0", oldImage), pod("new-1", oldImage, unready)}, moving},
		"the new pod is as promised":      {[]*corev1.Pod{pod("old-0", oldImage), pod("new-1", newImage)}, moving},
		"all pods are as promised":        {[]*corev1.Pod{pod("new-0", newImage), pod("new-1", newImage)}, arrived},
	} {
		if got := judge(m, begun, sight{W: deployment(), Pods: c.pods}, time.Minute, noon); got.State != c.want {
			t.Errorf("%s: state %d, want %d (%s)", name, got.State, c.want, got.Message)
		}
	}
}
