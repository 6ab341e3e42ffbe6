package workload

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDuration(t *testing.T) {
	for _, tc := range []struct {
		name     string
		kind     string
		desired  int32
		strategy Strategy
		minReady time.Duration
		want     time.Duration
	}{
		{name: "one pod beside the old one", desired: 1, strategy: Strategy{MaxSurge: 1}, want: 3 * time.Second},
		{name: "a quarter more and a quarter fewer", desired: 8, strategy: Strategy{MaxSurge: 2, MaxUnavailable: 2}, want: 6 * time.Second},
		{name: "the last wave is not full", desired: 9, strategy: Strategy{MaxSurge: 2, MaxUnavailable: 2}, want: 9 * time.Second},
		{name: "all at once", desired: 5, strategy: Strategy{Type: Recreate, MaxUnavailable: 5}, want: 3 * time.Second},
		{name: "one after the other", desired: 4, strategy: Strategy{MaxUnavailable: 1}, want: 12 * time.Second},
		{name: "part of a StatefulSet", desired: 4, strategy: Strategy{MaxUnavailable: 1, Partition: 3}, want: 3 * time.Second},
		{name: "evicted", desired: 3, strategy: Strategy{Type: OnDelete}, want: 9 * time.Second},
		{name: "each must have been ready for a while", desired: 2, strategy: Strategy{MaxUnavailable: 1}, minReady: 10 * time.Second, want: 26 * time.Second},
		{name: "a Rollout's pods are evicted, no surge is made", kind: Rollout, desired: 4, strategy: Strategy{MaxSurge: 4}, want: 12 * time.Second},
		{name: "as many as it lets be unavailable", kind: Rollout, desired: 4, strategy: Strategy{MaxSurge: 1, MaxUnavailable: 2}, want: 6 * time.Second},
	} {
		w := &Workload{Ref: Ref{Kind: tc.kind}, Desired: tc.desired, Strategy: tc.strategy, MinReady: tc.minReady}
		if got := w.Duration(3 * time.Second); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if got := w.Duration(0); got != 0 {
			t.Errorf("%s: %s although nothing is known", tc.name, got)
		}
	}
}

func TestStartup(t *testing.T) {
	born := time.Date(2026, 11, 3, 1, 0, 0, 0, time.UTC)
	pod := func(ready corev1.ConditionStatus, after time.Duration) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(born)},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
				Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(born.Add(after)),
			}}},
		}
	}
	for _, tc := range []struct {
		name string
		pods []*corev1.Pod
		want time.Duration
	}{
		{"no pod", nil, 0},
		{"one that is not ready", []*corev1.Pod{pod(corev1.ConditionFalse, time.Minute)}, 0},
		{"within the same second", []*corev1.Pod{pod(corev1.ConditionTrue, 0)}, time.Second},
		{"one was ready again after an hour", []*corev1.Pod{pod(corev1.ConditionTrue, time.Hour), pod(corev1.ConditionTrue, 7*time.Second)}, 7 * time.Second},
	} {
		sum, parts := &Pods{}, &Pods{}
		for _, p := range tc.pods {
			sum.add(p)
			one := &Pods{}
			one.add(p)
			parts.merge(one)
		}
		if sum.Startup != tc.want || parts.Startup != tc.want {
			t.Errorf("%s: %s and %s, want %s", tc.name, sum.Startup, parts.Startup, tc.want)
		}
	}
}
