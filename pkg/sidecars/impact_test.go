package sidecars

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"istio.io/api/annotation"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// probed is a workload with a readiness probe and this way to replace pods.
func probed(kind string, desired int32, s workload.Strategy) *workload.Workload {
	w := &workload.Workload{Ref: workload.Ref{Group: "apps", Kind: kind, Namespace: "shop", Name: "web"}, Desired: desired, Strategy: s}
	w.Template.Spec.Containers = []corev1.Container{{Name: "web", ReadinessProbe: &corev1.Probe{}}}
	return w
}

func TestImpactOf(t *testing.T) {
	rolling := func(surge, unavailable int32) workload.Strategy {
		return workload.Strategy{Type: workload.RollingUpdate, MaxSurge: surge, MaxUnavailable: unavailable}
	}
	surging := func() *workload.Workload { return probed(workload.Deployment, 3, rolling(1, 0)) }
	change := func(w *workload.Workload, f func(*workload.Workload)) *workload.Workload {
		f(w)
		return w
	}
	noProbe := change(surging(), func(w *workload.Workload) { w.Template.Spec.Containers[0].ReadinessProbe = nil })
	shortGrace := change(surging(), func(w *workload.Workload) { w.Template.Spec.TerminationGracePeriodSeconds = new(int64) })
	longDrain := change(surging(), func(w *workload.Workload) {
		w.Template.Annotations = map[string]string{annotation.ProxyConfig.Name: "concurrency: 2\nterminationDrainDuration: 45s\n"}
	})
	ok, free := answer{Outcome: answered, HasProxy: true}, surroundings{Room: noLimit, Disruptions: noLimit, Served: true}
	quota := answer{Outcome: noRoom, Message: "exceeded quota: compute"}
	refused := answer{Outcome: rejected, Message: "violates PodSecurity"}
	room := func(n int32) surroundings { return surroundings{Room: n, Disruptions: noLimit} }
	onDelete := workload.Strategy{Type: workload.OnDelete}
	for _, tc := range []struct {
		name  string
		w     *workload.Workload
		how   How
		a     answer
		s     surroundings
		want  Impact
		words string
	}{
		{"surge", surging(), Restart, ok, free, NoImpact, ""},
		{"one replica that surges", probed(workload.Deployment, 1, rolling(1, 0)), Restart, ok, free, NoImpact, ""},
		{"two replicas without surge", probed(workload.Deployment, 2, rolling(0, 1)), Restart, ok, free, NoImpact, ""},
		{"a StatefulSet of three", probed(workload.StatefulSet, 3, rolling(0, 1)), Restart, ok, free, NoImpact, ""},

		{"one replica without surge", probed(workload.Deployment, 1, rolling(0, 1)), Restart, ok, free, Outage, "its only pod stops"},
		{"a StatefulSet of one", probed(workload.StatefulSet, 1, rolling(0, 1)), Restart, ok, free, Outage, "its only pod stops"},
		{"recreate", probed(workload.Deployment, 3, workload.Strategy{Type: workload.Recreate, MaxUnavailable: 3}), Restart, ok, free, Outage, "Recreate"},
		{"all may be unavailable", probed(workload.Deployment, 2, rolling(1, 2)), Restart, ok, free, Outage, "all pods be unavailable"},
		{"the only pod is evicted", probed(workload.ReplicaSet, 1, onDelete), Evict, ok, free, Outage, "its only pod is evicted"},
		{"pods are evicted one at a time", probed(workload.ReplicaSet, 2, onDelete), Evict, ok, free, NoImpact, ""},

		{"admission refuses it", surging(), Restart, refused, free, Refused, "violates PodSecurity"},
		{"refused before outage", probed(workload.Deployment, 1, rolling(0, 1)), Restart, refused, free, Refused, ""},
		{"no room for one surge pod", surging(), Restart, quota, free, Refused, "no room for a surge"},
		{"no room, by the quota's numbers", surging(), Restart, ok, room(0), Refused, "maxSurge 0, or raise the quota"},
		{"a full quota is no obstacle without surge", probed(workload.Deployment, 2, rolling(0, 1)), Restart, quota, room(0), NoImpact, ""},
		{"nor for a StatefulSet", probed(workload.StatefulSet, 2, rolling(0, 1)), Restart, quota, room(0), NoImpact, ""},
		{"nor for an eviction", probed(workload.ReplicaSet, 2, onDelete), Evict, quota, room(0), NoImpact, ""},
		{"nor for recreate, which is an outage", probed(workload.Deployment, 2, workload.Strategy{Type: workload.Recreate, MaxUnavailable: 2}), Restart, quota, room(0), Outage, ""},

		{"room for some of the surge", probed(workload.Deployment, 10, rolling(3, 0)), Restart, ok, room(2), AtRisk, "room for 2 of 3 surge pods"},
		{"room for all of the surge", probed(workload.Deployment, 10, rolling(3, 0)), Restart, ok, room(3), NoImpact, ""},
		{"a budget without room", probed(workload.ReplicaSet, 2, onDelete), Evict, ok, surroundings{Room: noLimit, Disruptions: 0}, AtRisk, "PodDisruptionBudget"},
		{"a budget does not matter to a restart", surging(), Restart, ok, surroundings{Room: noLimit, Disruptions: 0}, NoImpact, ""},
		{"no readiness probe behind a Service", noProbe, Restart, ok, free, AtRisk, "no readiness probe"},
		{"no readiness probe, and nobody calls it", noProbe, Restart, ok, room(noLimit), NoImpact, ""},
		{"grace shorter than the default drain", shortGrace, Restart, ok, free, AtRisk, "grace period of 0s is shorter than the proxy's drain of 5s"},
		{"grace shorter than its own drain", longDrain, Restart, ok, free, AtRisk, "grace period of 30s is shorter than the proxy's drain of 45s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, why := impactOf(tc.w, tc.how, tc.a, tc.s)
			if got != tc.want || !strings.Contains(why, tc.words) || (why == "") != (tc.want == NoImpact) {
				t.Errorf("%s: %q; want %s: %q", got, why, tc.want, tc.words)
			}
		})
	}
}

// shaped is a pod whose application asks for 200m and 1Gi, its proxy for 100m,
// and whose plain init container, done before they start, for less.
func shaped() *corev1.PodSpec {
	list := func(cpu, memory string) corev1.ResourceList {
		out := corev1.ResourceList{}
		if cpu != "" {
			out[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			out[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return out
	}
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.PodSpec{
		Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("200m", "1Gi"), Limits: list("1", "")}}},
		InitContainers: []corev1.Container{
			{Resources: corev1.ResourceRequirements{Requests: list("10m", "")}},
			{RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: list("100m", ""), Limits: list("2", "")}},
		},
	}
}

func TestPodNeeds(t *testing.T) {
	got := map[string]string{}
	for name, q := range podNeeds(shaped()) {
		got[string(name)] = q.String()
	}
	want := map[string]string{
		"pods": "1", "count/pods": "1", "cpu": "300m", "requests.cpu": "300m",
		"memory": "1Gi", "requests.memory": "1Gi", "limits.cpu": "3",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("needs (-want +got):\n%s", d)
	}
}

func TestRoomFor(t *testing.T) {
	quota := func(name corev1.ResourceName, hard, used string) corev1.ResourceQuota {
		return corev1.ResourceQuota{Status: corev1.ResourceQuotaStatus{
			Hard: corev1.ResourceList{name: resource.MustParse(hard)}, Used: corev1.ResourceList{name: resource.MustParse(used)},
		}}
	}
	scoped := quota("pods", "1", "1")
	scoped.Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}
	for _, tc := range []struct {
		name   string
		quotas []corev1.ResourceQuota
		want   int32
	}{
		{"no quota", nil, noLimit},
		{"pods", []corev1.ResourceQuota{quota("pods", "10", "8")}, 2},
		{"cpu, native sidecar included", []corev1.ResourceQuota{quota("requests.cpu", "1", "0")}, 3},
		{"the tightest counts", []corev1.ResourceQuota{quota("pods", "10", "2"), quota("limits.cpu", "10", "3"), quota("memory", "64Gi", "0")}, 2},
		{"full", []corev1.ResourceQuota{quota("pods", "2", "2")}, 0},
		{"more is used than the quota has since", []corev1.ResourceQuota{quota("pods", "2", "5")}, 0},
		{"what the pod does not use", []corev1.ResourceQuota{quota("configmaps", "1", "1"), quota("limits.memory", "1Gi", "1Gi")}, noLimit},
		{"with a scope, which the dry run has counted", []corev1.ResourceQuota{scoped}, noLimit},
	} {
		if got := roomFor(podNeeds(shaped()), tc.quotas); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}
