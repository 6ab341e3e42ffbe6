package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func waiting(name, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message},
	}}
}

func TestTrouble(t *testing.T) {
	running := corev1.ContainerStatus{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	for _, tc := range []struct {
		name       string
		init, main []corev1.ContainerStatus
		want       string
	}{
		{name: "nothing known"},
		{name: "it merely starts", main: []corev1.ContainerStatus{waiting("web", "ContainerCreating", ""), waiting("istio-proxy", "PodInitializing", "")}},
		{name: "the first failed pull may pass", main: []corev1.ContainerStatus{waiting("web", "ErrImagePull", "timeout")}},
		{
			name: "an image that cannot be pulled", main: []corev1.ContainerStatus{running, waiting("istio-proxy", "ImagePullBackOff", "not found")},
			want: "ImagePullBackOff of container istio-proxy: not found",
		},
		{name: "no message", main: []corev1.ContainerStatus{waiting("web", "CrashLoopBackOff", "")}, want: "CrashLoopBackOff of container web"},
		{
			name: "an init container is named first", init: []corev1.ContainerStatus{waiting("istio-init", "CreateContainerConfigError", "no secret")},
			main: []corev1.ContainerStatus{waiting("web", "CrashLoopBackOff", "")}, want: "CreateContainerConfigError of container istio-init: no secret",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: tc.init, ContainerStatuses: tc.main}}
			if got := Trouble(pod); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestReady(t *testing.T) {
	condition := func(s corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: s},
		}}}
	}
	leaving := condition(corev1.ConditionTrue)
	leaving.DeletionTimestamp = &metav1.Time{}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"ready": {condition(corev1.ConditionTrue), true}, "not ready": {condition(corev1.ConditionFalse), false},
		"nothing said": {&corev1.Pod{}, false}, "being deleted": {leaving, false},
	} {
		if got := Ready(tc.pod); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestUnschedulable(t *testing.T) {
	pod := func(status corev1.ConditionStatus, reason string) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: status, Reason: reason, Message: "0/3 nodes are available"},
		}}}
	}
	for _, tc := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pod(corev1.ConditionFalse, corev1.PodReasonUnschedulable), "fits no node: 0/3 nodes are available"},
		{pod(corev1.ConditionFalse, corev1.PodReasonSchedulingGated), ""},
		{pod(corev1.ConditionTrue, ""), ""},
		{&corev1.Pod{}, ""},
	} {
		if got := Unschedulable(tc.pod); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.pod.Status.Conditions, got, tc.want)
		}
	}
}

func TestPodsMerge(t *testing.T) {
	before, after := Proxy{Image: oldImage}, Proxy{Image: newImage}
	sum := &Pods{
		Total: 5, Ready: 4, Trouble: "",
		Proxies: map[Proxy]*Sample{before: {Count: 4, Names: []string{"a", "b", "c", "d"}, Digest: "sha256:1"}},
		Bare:    Sample{Count: 1, Names: []string{"x"}},
	}
	sum.merge(&Pods{
		Total: 4, Ready: 1, Node: "n2", Trouble: "CrashLoopBackOff of container web", Mirror: true,
		Proxies: map[Proxy]*Sample{
			before: {Count: 2, Names: []string{"e", "f"}},
			after:  {Count: 1, Names: []string{"g"}, Digest: "sha256:2"},
		},
		Bare: Sample{Count: 1, Names: []string{"y"}},
	})
	want := &Pods{
		Total: 9, Ready: 5, Node: "n2", Trouble: "CrashLoopBackOff of container web", Mirror: true,
		Proxies: map[Proxy]*Sample{
			before: {Count: 6, Names: []string{"a", "b", "c", "d", "e"}, Digest: "sha256:1"}, // five names, whatever the count
			after:  {Count: 1, Names: []string{"g"}, Digest: "sha256:2"},
		},
		Bare: Sample{Count: 2, Names: []string{"x", "y"}},
	}
	if d := cmp.Diff(want, sum); d != "" {
		t.Errorf("merged (-want +got):\n%s", d)
	}
	sum.merge(&Pods{Node: "n3", Trouble: "another"})
	if d := cmp.Diff(want, sum); d != "" {
		t.Errorf("what is known stays (-want +got):\n%s", d)
	}
}

func TestPodsAdd(t *testing.T) {
	pod := func(name, image, digest string, ready corev1.ConditionStatus) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: "n-" + name}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
		if image != "" {
			p.Spec.Containers = containers([2]string{"istio-proxy", image})
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "istio-proxy", ImageID: digest}}
		}
		return p
	}
	sum := &Pods{Proxies: map[Proxy]*Sample{}}
	sum.add(pod("a", newImage, "docker.io/istio/proxyv2@sha256:2", corev1.ConditionTrue))
	sum.add(pod("b", newImage, "", corev1.ConditionFalse)) // its kubelet has not reported yet
	sum.add(pod("c", "", "", corev1.ConditionTrue))
	want := &Pods{
		Total: 3, Ready: 2, Node: "n-a",
		Proxies: map[Proxy]*Sample{{Image: newImage}: {Count: 2, Names: []string{"a", "b"}, Digest: "sha256:2"}},
		Bare:    Sample{Count: 1, Names: []string{"c"}},
	}
	if d := cmp.Diff(want, sum); d != "" {
		t.Errorf("sum (-want +got):\n%s", d)
	}
}

func TestPodsSorted(t *testing.T) {
	classic, native, rest := Proxy{Image: newImage}, Proxy{Image: newImage, Native: true}, Proxy{Image: oldImage}
	sum := &Pods{Proxies: map[Proxy]*Sample{native: {Count: 2}, rest: {Count: 3}, classic: {Count: 2}}}
	want := []Proxy{rest, classic, native}
	for range 20 { // maps have no order: a plan must have one nevertheless
		if d := cmp.Diff(want, sum.Sorted()); d != "" {
			t.Fatalf("order (-want +got):\n%s", d)
		}
	}
	if (*Pods)(nil).Sorted() != nil || (*Pods)(nil).HasProxy() || !sum.HasProxy() {
		t.Error("a workload without pods has no proxies")
	}
}
