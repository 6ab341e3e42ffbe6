package rollout

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// created makes a pod of which nothing has started yet.
func created(p *corev1.Pod) {
	unready(p)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"},
	}}}
}

func runs(p *corev1.Pod) {
	unready(p)
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "istio-init", State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{},
	}}}
}

func sandboxed(p *corev1.Pod) {
	created(p)
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue})
}

// A warning of the kubelet is a failure only of a new pod that is held up by it
// for long: the kubelet's caches fill, volumes are let go, the sandbox is tried
// again.
func TestJudgeWarnings(t *testing.T) {
	begun := start{Generation: 5, Old: map[types.UID]bool{"old-0": true}, StampKey: stampKey, Stamp: "ours", At: noon.Add(-time.Hour)}
	for _, tc := range []struct {
		name    string
		pod     *corev1.Pod
		warning warning
		age     time.Duration // for how long it has been known
		again   time.Duration // how long ago it was said again; 0 never
		freeing time.Duration // how long ago others were seen to make room; 0 never
		want    state
	}{
		{"a ConfigMap is not there yet", pod("new-0", newImage, created), warning{Reason: failedMount, Pod: "new-0"}, time.Minute, 0, 0, moving},
		{"a volume hangs on another node", pod("new-0", newImage, created), warning{Reason: failedAttach, Pod: "new-0"}, 2 * time.Minute, 0, 0, moving},
		{"a volume does not come", pod("new-0", newImage, created), warning{Reason: failedMount, Pod: "new-0"}, 3 * time.Minute, 0, 0, failed},
		{"it came, and the app takes its time", pod("new-0", newImage, runs), warning{Reason: failedMount, Pod: "new-0"}, time.Hour, 0, 0, moving},
		{"the sandbox came", pod("new-0", newImage, sandboxed), warning{Reason: failedSandbox, Pod: "new-0"}, time.Hour, 0, 0, moving},
		{"the sandbox is tried again", pod("new-0", newImage, created), warning{Reason: failedSandbox, Pod: "new-0"}, 15 * time.Second, 0, 0, moving},
		{"the sandbox does not come", pod("new-0", newImage, created), warning{Reason: failedSandbox, Pod: "new-0"}, 26 * time.Second, time.Second, 0, failed},
		{"a sandbox of which nothing more is said is tried once more", pod("new-0", newImage, created), warning{Reason: failedSandbox, Pod: "new-0"}, 26 * time.Second, 0, 0, moving},
		{"a sandbox that stays away", pod("new-0", newImage, created), warning{Reason: failedSandbox, Pod: "new-0"}, 41 * time.Second, 0, 0, failed},
		{"an old pod's sandbox", pod("old-0", oldImage, created), warning{Reason: failedSandbox, Pod: "old-0"}, time.Hour, 0, 0, moving},
		{"a pod on its way out", pod("new-0", newImage, created, leaving), warning{Reason: failedSandbox, Pod: "new-0"}, time.Hour, 0, 0, moving},
		{"a pod that is gone", pod("new-0", newImage, created), warning{Reason: failedSandbox, Pod: "new-9"}, time.Hour, 0, 0, moving},
		{"pods cannot be made", pod("new-0", newImage), warning{Reason: failedCreate, At: noon.Add(-time.Minute)}, 11 * time.Second, time.Second, 0, failed},
		{"pods could not be made, and the next attempt is to come", pod("new-0", newImage), warning{Reason: failedCreate, At: noon.Add(-time.Minute)}, 11 * time.Second, 6 * time.Second, 0, moving},
		{"pods cannot be made, as the status says for long", pod("new-0", newImage), warning{Reason: failedCreate}, 21 * time.Second, 0, 0, failed},
		{"pods could not be made before", pod("new-0", newImage), warning{Reason: failedCreate, At: noon.Add(-2 * time.Hour)}, time.Hour, 0, 0, moving},
		{"a quota is full, and others end", pod("new-0", newImage), warning{Reason: failedCreate, Text: "exceeded quota"}, time.Minute, 0, time.Millisecond, moving},
		{"the others have ended just now", pod("new-0", newImage), warning{Reason: failedCreate, Text: "exceeded quota"}, time.Minute, 0, 30 * time.Second, moving},
		{"the others have ended long ago", pod("new-0", newImage), warning{Reason: failedCreate, Text: "exceeded quota"}, time.Minute, 0, 40 * time.Second, failed},
		{"nothing else moves", pod("new-0", newImage), warning{Reason: failedCreate, Text: "exceeded quota"}, 10 * time.Second, 0, 0, failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.warning.Text += "the cause"
			tc.warning.Since = noon.Add(-tc.age)
			if tc.again > 0 {
				tc.warning.Last = noon.Add(-tc.again)
			}
			v := sight{W: deployment(halfway), Pods: []*corev1.Pod{tc.pod}, Warnings: []warning{tc.warning}}
			if tc.freeing > 0 {
				v.Freeing = noon.Add(-tc.freeing)
			}
			got := judge(&Move{Promise: promise}, begun, v, 10*time.Second, noon)
			if got.State != tc.want || tc.want == failed && !strings.Contains(got.Message, "the cause") {
				t.Errorf("state %d, %q; want %d", got.State, got.Message, tc.want)
			}
		})
	}
}

// What the watch of the events shows: the first list is of before, and a new
// list only repeats what is known.
func TestNoteOnlyWhatIsNew(t *testing.T) {
	web := workload.Ref{Group: "apps", Kind: workload.StatefulSet, Namespace: "shop", Name: "web"}
	w := watchesOf(t, web)
	yes := true
	p := pod("web-0", newImage)
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: workload.StatefulSet, Name: "web", Controller: &yes}}
	if err := w.pods.GetStore().Add(p); err != nil {
		t.Fatal(err)
	}
	about := func(uid types.UID) *corev1.Event {
		return &corev1.Event{
			Reason: failedSandbox, Message: "no network",
			InvolvedObject: corev1.ObjectReference{Kind: workload.Pod, Namespace: "shop", Name: "web-0", UID: uid},
		}
	}
	if _, ok := w.note(about("of the pod before it")); ok {
		t.Error("a warning of an earlier pod of the same name counts")
	}
	if ref, ok := w.note(about("web-0")); !ok || ref != web {
		t.Errorf("%v, %v", ref, ok)
	}
	first := w.see(web).Warnings
	w.gotOn(web) // another pod came up
	if _, ok := w.note(about("web-0")); !ok {
		t.Error("said again, it is not noted")
	}
	if now := w.see(web).Warnings; len(first) != 1 || len(now) != 1 || !now[0].Since.Equal(first[0].Since) || now[0].Pod != "web-0" {
		t.Errorf("first %+v, now %+v: it holds since it was first said", first, now)
	}
	if w.forget(web); len(w.see(web).Warnings) != 0 {
		t.Error("it is not forgotten")
	}
	e := about("web-0")
	e.UID, e.ResourceVersion = "e", "7"
	again := e.DeepCopy()
	if !sameVersion(e, again) {
		t.Error("a new list's repetition is taken for news")
	}
	again.ResourceVersion = "8"
	if sameVersion(e, again) {
		t.Error("news are taken for a repetition")
	}
}

// watchesOf makes the watches of these workloads without a cluster.
func watchesOf(t *testing.T, refs ...workload.Ref) *watches {
	t.Helper()
	w := &watches{feed: feedOf(refs...), warnings: map[workload.Ref]map[types.UID]warning{}}
	w.pods = cache.NewSharedIndexInformer(nil, &corev1.Pod{}, 0, podIndexers)
	return w
}

// What the workload's status says counts as long as it says so.
func TestWarningOfTheStatusEndsWithIt(t *testing.T) {
	web := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"}
	w := watchesOf(t, web)
	w.kinds = map[string]cache.SharedIndexInformer{workload.Deployment: cache.NewSharedIndexInformer(nil, &appsv1.Deployment{}, 0, cache.Indexers{})}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	show := func() int {
		if err := w.kinds[workload.Deployment].GetStore().Add(d); err != nil {
			t.Fatal(err)
		}
		return len(w.see(web).Warnings)
	}
	failure := appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: failedCreate, Message: "the webhook is away"}
	d.Status.Conditions = []appsv1.DeploymentCondition{failure}
	if n := show(); n != 1 {
		t.Errorf("%d warnings", n)
	}
	d = d.DeepCopy()
	d.Status.Conditions = nil
	if n := show(); n != 0 {
		t.Errorf("%d warnings although the status has none", n)
	}
}

func TestSaidAt(t *testing.T) {
	at := func(minutes int) metav1.Time { return metav1.NewTime(noon.Add(time.Duration(minutes) * time.Minute)) }
	micro := func(minutes int) metav1.MicroTime { return metav1.NewMicroTime(at(minutes).Time) }
	for name, tc := range map[string]struct {
		event corev1.Event
		want  time.Time
	}{
		"counted up":         {corev1.Event{FirstTimestamp: at(1), LastTimestamp: at(5)}, at(5).Time},
		"written down later": {corev1.Event{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(9)}, LastTimestamp: at(5)}, at(5).Time},
		"without a time":     {corev1.Event{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(9)}}, at(9).Time},
		"of the newer API":   {corev1.Event{EventTime: micro(2)}, at(2).Time},
		"a series":           {corev1.Event{EventTime: micro(2), Series: &corev1.EventSeries{LastObservedTime: micro(9)}}, at(9).Time},
	} {
		if got := saidAt(&tc.event); !got.Equal(tc.want) {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// Pods that end free what they hold of a quota, unless their node is lost.
func TestEnding(t *testing.T) {
	w := watchesOf(t)
	p := pod("old-0", oldImage, leaving)
	slim, err := w.slim(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.pods.GetStore().Add(slim); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		namespace string
		at        time.Time
		want      bool
	}{
		"it ends":                {"shop", noon.Add(-10 * time.Second), true},
		"of another namespace":   {"other", noon, false},
		"it should be long gone": {"shop", noon.Add(time.Hour), false},
	} {
		if got := w.ending(tc.namespace, tc.at); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
