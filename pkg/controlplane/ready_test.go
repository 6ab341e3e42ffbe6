package controlplane

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

const newImage = "docker.io/istio/pilot:1.31.0"

func istiod(desired, replicas, updated, available int32) *workload.Workload {
	w := &workload.Workload{Ref: workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "istio-system", Name: "istiod"}, Desired: desired}
	w.Generation, w.Status.ObservedGeneration = 2, 2
	w.Status.Replicas, w.Status.Updated, w.Status.Available, w.Status.Ready = replicas, updated, available, available
	w.Template.Spec.Containers = []corev1.Container{{Name: "discovery", Image: newImage}}
	return w
}

func pod(uid, image, waiting string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "istiod-" + uid, UID: types.UID(uid)}}
	p.Spec.Containers = []corev1.Container{{Name: "discovery", Image: image}}
	if waiting != "" {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "discovery", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: waiting},
		}}}
	}
	return p
}

func TestJudge(t *testing.T) {
	t.Parallel()
	old := map[types.UID]bool{"old": true, "stuck": true}
	unseen := istiod(1, 1, 1, 1)
	unseen.Generation = 3
	late := istiod(1, 2, 1, 1)
	late.Status.DeadlineExceeded, late.Status.DeadlineMessage = true, "too slow"
	done := *late
	done.Status.Replicas = 1
	for name, c := range map[string]struct {
		w    *workload.Workload
		pods []*corev1.Pod
		want readiness
	}{
		"done":                      {istiod(1, 1, 1, 1), []*corev1.Pod{pod("new", newImage, "")}, readiness{Done: true}},
		"old pod still there":       {istiod(1, 1, 1, 1), []*corev1.Pod{pod("new", newImage, ""), pod("old", "x", "")}, readiness{Lingering: true}},
		"not seen yet":              {unseen, nil, readiness{}},
		"old replica counted":       {istiod(1, 2, 1, 1), nil, readiness{}},
		"not available":             {istiod(2, 2, 2, 1), nil, readiness{}},
		"image cannot be pulled":    {istiod(1, 2, 1, 1), []*corev1.Pod{pod("new", newImage, "ImagePullBackOff")}, readiness{Trouble: "pod istiod-new: ImagePullBackOff", Fatal: true}},
		"crashes":                   {istiod(1, 2, 1, 1), []*corev1.Pod{pod("new", newImage, "CrashLoopBackOff")}, readiness{Trouble: "CrashLoopBackOff"}},
		"an old pod's trouble":      {istiod(1, 2, 1, 1), []*corev1.Pod{pod("old", "other", "ImagePullBackOff")}, readiness{}},
		"left by an earlier run":    {istiod(1, 2, 1, 1), []*corev1.Pod{pod("stuck", newImage, "ImagePullBackOff")}, readiness{Trouble: "istiod-stuck"}},
		"past its deadline":         {late, nil, readiness{Trouble: "ProgressDeadlineExceeded: too slow"}},
		"done though past deadline": {&done, nil, readiness{Done: true}},
		"scaled to zero":            {istiod(0, 0, 0, 0), nil, readiness{Done: true}},
	} {
		got := judge(c.w, c.pods, old)
		if got.Done != c.want.Done || got.Lingering != c.want.Lingering || got.Fatal != c.want.Fatal ||
			(got.Trouble == "") != (c.want.Trouble == "") || !strings.Contains(got.Trouble, c.want.Trouble) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestFollower(t *testing.T) {
	t.Parallel()
	crash := readiness{Trouble: "pod x: CrashLoopBackOff"}
	for name, c := range map[string]struct {
		steps []readiness // one every ten seconds
		want  string      // after how many steps, and how
	}{
		"done":                      {[]readiness{{}, {Done: true}}, "2 done"},
		"fatal at once":             {[]readiness{{Trouble: "pod x: ImagePullBackOff", Fatal: true}}, "1 pod x: ImagePullBackOff"},
		"a crash may pass":          {[]readiness{crash, crash, {}, crash, {Done: true}}, "5 done"},
		"a crash that lasts":        {[]readiness{crash, crash, crash, crash, crash}, "5 CrashLoopBackOff"},
		"no progress":               {[]readiness{{}, {}, {}, {}, {}, {}, {}, {}}, "8 made no progress for 1m0s"},
		"slow progress":             {[]readiness{{Ready: 1}, {}, {}, {}, {}, {}, {Ready: 2}, {}, {}, {}, {Ready: 3}, {Done: true}}, "12 done"},
		"an old pod that stays":     {slices.Repeat([]readiness{{Lingering: true, Message: "an old pod stays"}}, 9), "8 done: deployment/istiod in istio-system: gave up after 1m0s: an old pod stays"},
		"a pod that went meanwhile": {[]readiness{{Lingering: true}, {Done: true}}, "2 done"},
	} {
		clock := time.Unix(0, 0)
		unmet := ""
		f := &follower{
			watcher: watcher{timeout: time.Minute, now: func() time.Time { return clock }, unmet: func(text string) { unmet = ": " + text }},
			ref:     workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "istio-system", Name: "istiod"}, since: clock,
		}
		got := ""
		for i, r := range c.steps {
			done, err := f.step(r)
			var timeout *gate.Timeout
			switch {
			case done:
				got = "done" + unmet
			case errors.As(err, &timeout):
				got = timeout.Reason
			case err != nil:
				got = err.Error()
			}
			if got != "" {
				number, want, _ := strings.Cut(c.want, " ")
				if number != strconv.Itoa(i+1) || !strings.Contains(got, want) {
					t.Errorf("%s: after %d steps %q, want %q", name, i+1, got, c.want)
				}
				break
			}
			clock = clock.Add(10 * time.Second)
		}
		if got == "" {
			t.Errorf("%s: never ended", name)
		}
	}
}

func TestAtLeast(t *testing.T) {
	t.Parallel()
	r := readiness{Done: true, Desired: 1}
	r.atLeast(2)
	if r.Done || !r.Lingering {
		t.Errorf("one replica of two is done: %+v", r)
	}
	r = readiness{Done: true, Desired: 2}
	if r.atLeast(2); !r.Done {
		t.Errorf("two replicas of two are not done: %+v", r)
	}
}
