package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

func TestNextToEvict(t *testing.T) {
	two := deployment()
	for _, tc := range []struct {
		name string
		v    sight
		want string // "" is none
	}{
		{"the workload is gone", sight{Pods: []*corev1.Pod{pod("db-0", oldImage)}}, ""},
		{"the highest ordinal first, as a number", sight{W: two, Pods: []*corev1.Pod{pod("db-9", oldImage), pod("db-10", oldImage), pod("db-2", oldImage)}}, "db-10"},
		{"new ones are passed over", sight{W: two, Pods: []*corev1.Pod{pod("db-1", newImage), pod("db-0", oldImage)}}, "db-0"},
		{"names without an ordinal", sight{W: two, Pods: []*corev1.Pod{pod("web-abc", oldImage), pod("web-xyz", oldImage)}}, "web-xyz"},
		{"a pod without a proxy is an old one", sight{W: two, Pods: []*corev1.Pod{pod("db-0", ""), pod("db-1", newImage)}}, "db-0"},
		{"all are new", sight{W: two, Pods: []*corev1.Pod{pod("db-0", newImage), pod("db-1", newImage)}}, ""},
		{"one is missing", sight{W: two, Pods: []*corev1.Pod{pod("db-0", oldImage)}}, ""},
		{"one is not ready", sight{W: two, Pods: []*corev1.Pod{pod("db-0", oldImage), pod("db-1", newImage, unready)}}, ""},
		{"one is on its way out", sight{W: two, Pods: []*corev1.Pod{pod("db-0", oldImage), pod("db-1", newImage), pod("db-2", oldImage, leaving)}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if p := nextToEvict(tc.v, promise); p != nil {
				got = p.Name
			}
			if got != tc.want {
				t.Errorf("evicts %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStuck(t *testing.T) {
	fine := []*corev1.Pod{pod("a", newImage), pod("b", newImage, unready)}
	for _, tc := range []struct {
		name string
		v    sight
		want bool
	}{
		{"it merely moves", sight{W: deployment(halfway), Pods: fine}, false},
		{"pods cannot be made", sight{W: deployment(func(w *workload.Workload) { w.Status.FailureMessage = "exceeded quota" }), Pods: fine}, true},
		{"its deadline has passed", sight{W: deployment(func(w *workload.Workload) { w.Status.DeadlineExceeded = true }), Pods: fine}, true},
		{"a pod crashes", sight{W: deployment(), Pods: []*corev1.Pod{fine[0], pod("b", newImage, crashing)}}, true},
		{"a StatefulSet's pod ends", sight{W: deployment(func(w *workload.Workload) { w.Kind = workload.StatefulSet }), Pods: []*corev1.Pod{fine[0], pod("b", newImage, leaving)}}, false},
		{"a pod is missing", sight{W: deployment(), Pods: []*corev1.Pod{fine[0], pod("b", newImage, leaving)}}, true},
	} {
		if got := stuck(tc.v); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// What ends by itself is waited for before a workload is passed over for good.
func TestPasses(t *testing.T) {
	rolling := []*corev1.Pod{pod("a", newImage), pod("b", oldImage)}
	if passes(&Move{Evict: true}, sight{W: deployment(halfway), Pods: rolling}) {
		t.Error("pods that are evicted one by one wait for a rollout")
	}
	for _, tc := range []struct {
		name string
		v    sight
		want bool
	}{
		{"a rollout", sight{W: deployment(halfway), Pods: rolling}, true},
		{"one that its controller has not seen", sight{W: deployment(func(w *workload.Workload) { w.Status.ObservedGeneration = 4 }), Pods: rolling}, true},
		{"a restart", sight{W: deployment(func(w *workload.Workload) { w.RestartAt = "now" }), Pods: rolling}, true},
		{"ready, and not for long enough", sight{W: deployment(func(w *workload.Workload) { w.Status.Available = 1 }), Pods: rolling}, true},
		{"a rollout whose pod crashes", sight{W: deployment(halfway), Pods: []*corev1.Pod{pod("a", newImage, crashing)}}, false},
		{"a rollout whose deadline has passed", sight{W: deployment(halfway, func(w *workload.Workload) { w.Status.DeadlineExceeded = true })}, false},
		{"unhealthy", sight{W: deployment(func(w *workload.Workload) { w.Status.Available, w.Status.Ready = 1, 1 }), Pods: rolling}, false},
		{"paused", sight{W: deployment(halfway, func(w *workload.Workload) { w.Paused = true }), Pods: rolling}, false},
		{"scaled to zero", sight{W: deployment(func(w *workload.Workload) { w.Desired = 0 })}, false},
		{"at rest", sight{W: deployment(), Pods: rolling}, false},
		{"gone", sight{}, false},
	} {
		if got := passes(&Move{}, tc.v); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// One that comes with a write of its own and one that is only followed: what has
// its pods already is done only when they are up.
func TestBeginOfWhatHasItsPods(t *testing.T) {
	begun := Move{Ref: deployment().Ref, Promise: promise}
	change := func(*workload.Workload) (Change, error) { return Change{}, nil }
	starting := sight{
		W:    deployment(func(w *workload.Workload) { w.Status.Ready, w.Status.Available = 0, 0 }),
		Pods: []*corev1.Pod{pod("a", newImage, unready), pod("b", newImage, crashing)},
	}
	up := sight{W: deployment(), Pods: []*corev1.Pod{pod("a", newImage), pod("b", newImage)}}
	for _, tc := range []struct {
		name   string
		change func(*workload.Workload) (Change, error)
		v      sight
		want   phase
	}{
		{"created by us, and on its way up", nil, starting, underway},
		{"restarted by somebody else, and up", change, up, ended},
	} {
		m := begun
		m.Change = tc.change
		e, _ := engine(Options{}, m)
		e.begin(t.Context(), e.runs[0], tc.v)
		if got := e.runs[0].phase; got != tc.want {
			t.Errorf("%s: phase %d, want %d (%s)", tc.name, got, tc.want, e.runs[0].result.Message)
		}
	}
}

func TestObstacle(t *testing.T) {
	changes := Move{Apply: nil, Change: func(*workload.Workload) (Change, error) { return Change{}, nil }}
	with := func(change func(*Move)) Move {
		m := changes
		change(&m)
		return m
	}
	paused := func(w *workload.Workload) { w.Paused = true }
	none := func(w *workload.Workload) { w.Desired = 0 }
	for _, tc := range []struct {
		name string
		move Move
		w    *workload.Workload
		want string
	}{
		{"at rest", changes, deployment(), ""},
		{"gone: it is ended elsewhere", changes, nil, ""},
		{"paused", changes, deployment(paused), "it is paused"},
		{"scaled to zero", changes, deployment(none), "it is scaled to zero"},
		{"in the middle of a rollout", changes, deployment(halfway), "in the middle of a rollout"},
		{"its controller lags behind", changes, deployment(func(w *workload.Workload) { w.Status.ObservedGeneration = 4 }), "in the middle of a rollout"},
		{"not available", changes, deployment(func(w *workload.Workload) { w.Status.Available = 1 }), "unhealthy already: 1 of 2 pods are available"},
		{"not ready", changes, deployment(func(w *workload.Workload) { w.Status.Ready = 0 }), "unhealthy already: 0 of 2 pods are ready"},
		{"not ready, and given what may be the cure", with(func(m *Move) { m.Cures = true }), deployment(func(w *workload.Workload) { w.Status.Ready, w.Status.Available = 0, 0 }), ""},
		{"not ready, and given it in the middle of a rollout", with(func(m *Move) { m.Cures = true }), deployment(halfway), "in the middle of a rollout"},
		{"nothing to be watched", with(func(m *Move) { m.Unwatched = true }), deployment(none), ""},
		{"only watched", Move{}, deployment(halfway), ""},
		{"our own restart is under way", with(func(m *Move) { m.Resume = true }), deployment(halfway), ""},
		{"our own restart, paused since", with(func(m *Move) { m.Resume = true }), deployment(halfway, paused), "it is paused"},
		{"evicted: an old rollout does not matter", Move{Evict: true}, deployment(func(w *workload.Workload) { w.Status.Updated = 0 }), ""},
		{"evicted: all pods must be there", Move{Evict: true}, deployment(func(w *workload.Workload) { w.Status.Ready = 1 }), "1 of 2 pods are ready"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := obstacle(&tc.move, sight{W: tc.w}, false)
			if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestTouchedBy(t *testing.T) {
	entry := func(manager, subresource string, minute int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(noon.Add(time.Duration(minute) * time.Minute))
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Operation: metav1.ManagedFieldsOperationApply, Time: &at}
	}
	timeless := entry("helm", "", 9)
	timeless.Time = nil
	fields := []metav1.ManagedFieldsEntry{
		entry("helm", "", 1), entry("argocd-controller", "", 3), entry("kubectl", "", 2),
		entry("istio-upgrade", "", 5), entry("kube-controller-manager", "status", 7), entry("kube-controller-manager", "", 6),
		entry("autoscaler", "scale", 8), timeless,
	}
	want := " by argocd-controller (Apply at 2026-03-01T12:03:00Z)"
	if d := cmp.Diff(want, touchedBy(fields, "istio-upgrade")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := touchedBy(fields[3:], "istio-upgrade"); got != "" {
		t.Errorf("nobody else wrote it, got %q", got)
	}
	if fields[0].Manager != "helm" || len(fields) != 8 || fields[7].Manager != "helm" {
		t.Error("the object's own fields have been changed")
	}
}
