package faults

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// What the API server does not admit, the scheduler cannot place, or a budget
// does not let go.
var admissionFaults = []fault{
	{name: "quota full", objects: web("a"), test: quotaFull},
	{name: "quota full, without surge", test: quotaFullWithoutSurge, objects: []manifest{
		{Kind: "Deployment", Name: "a", Replicas: 2, Spec: "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}"},
	}},
	{name: "quota filled meanwhile", objects: web("a", "b"), test: quotaFilledMeanwhile},
	{name: "quota with room for one at a time", objects: web("a", "b"), test: quotaForOne},
	{name: "limit range", objects: web("a"), test: limitRange},
	{name: "pod security", objects: web("a"), test: podSecurity},
	{name: "budget with no room", test: budgetWithNoRoom, objects: []manifest{
		{Kind: "StatefulSet", Name: "a", Replicas: 3, Spec: "serviceName: a, updateStrategy: {type: OnDelete}"},
	}},
	{name: "budget with no room, rolling update", objects: web("a"), test: func(s *scene) {
		s.budget("minAvailable: 2")
		s.finishes(s.sidecars())
		s.watch.Never(s.World, 2)
	}},
	{name: "no room on the nodes", test: noRoomOnTheNodes, objects: []manifest{
		{Kind: "Deployment", Name: "a", Replicas: 2, PodSpec: onNode("small-1")}, {Kind: "Deployment", Name: "b", Replicas: 2},
	}},
	{name: "pre-empted by a higher priority", test: preempted, objects: []manifest{
		{Kind: "Deployment", Name: "a", Replicas: 2, PodSpec: onNode("small-2")}, {Kind: "Deployment", Name: "b", Replicas: 2},
	}},
}

// quotaFull: a surge has no room, which is said before anything is sent.
func quotaFull(s *scene) {
	s.quota(2)
	s.fails(0, s.sidecars(), "no room for a surge", "Nothing to move")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	s.quotaOf(3)
	s.finishes(s.sidecars())
}

func quotaFullWithoutSurge(s *scene) {
	s.quota(2)
	s.finishes(s.sidecars())
}

// quotaFilledMeanwhile: the room that the plan saw is gone when it is needed.
func quotaFilledMeanwhile(s *scene) {
	s.quota(5)
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	s.quotaOf(4)
	release()
	p.must(3, "exceeded quota", "deployment/a in "+s.ns, "1 not started")
	s.watch.Never(s.World, 2)
	s.quotaOf(5)
	s.finishes(run)
}

// quotaForOne: two rollouts want the room of one surge. The one waits for the
// other, however long that takes.
func quotaForOne(s *scene) {
	s.quota(5)
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "2")
	p := start(s.World, run...)
	p.until("exceeded quota")
	time.Sleep(13 * time.Second) // what the case is about: longer than a failure takes to be called
	release()
	p.must(0, "✓ deployment/a in "+s.ns, "✓ deployment/b in "+s.ns)
	s.finishes(run)
	s.watch.Never(s.World, 2)
}

// quota limits the namespace's pods, and waits until that counts.
func (s *scene) quota(pods int) {
	s.T.Helper()
	s.Apply(fmt.Sprintf("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: full, namespace: %s}\nspec: {hard: {pods: '%d'}}", s.ns, pods))
	s.quotaCounts(pods)
}

func (s *scene) quotaOf(pods int) {
	s.T.Helper()
	s.RunKubectl("-n", s.ns, "patch", "resourcequota", "full", "-p", fmt.Sprintf(`{"spec":{"hard":{"pods":"%d"}}}`, pods))
	s.quotaCounts(pods)
}

func (s *scene) quotaCounts(pods int) {
	s.T.Helper()
	s.Eventually("the quota's status", func() string {
		got := s.RunKubectl("-n", s.ns, "get", "resourcequota", "full", "-o", "jsonpath={.status.hard.pods} {.status.used.pods}")
		var hard, used int
		if _, err := fmt.Sscan(got, &hard, &used); err != nil || hard != pods || used == 0 {
			return "it is " + got
		}
		return ""
	})
}

func limitRange(s *scene) {
	s.Apply("apiVersion: v1\nkind: LimitRange\nmetadata: {name: small, namespace: " + s.ns + "}\nspec: {limits: [{type: Container, max: {cpu: 10m}}]}")
	s.fails(0, s.sidecars(), "maximum cpu usage per Container is 10m", "Nothing to move")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	s.RunKubectl("-n", s.ns, "delete", "limitrange", "small")
	s.finishes(s.sidecars())
}

func podSecurity(s *scene) {
	s.RunKubectl("label", "namespace", s.ns, "pod-security.kubernetes.io/enforce=baseline")
	s.fails(0, s.sidecars(), "violates PodSecurity", "NET_ADMIN", "Nothing to move")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	s.RunKubectl("label", "namespace", s.ns, "pod-security.kubernetes.io/enforce-")
	s.finishes(s.sidecars())
}

func (s *scene) budget(spec string) {
	s.T.Helper()
	s.Apply("apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a, namespace: " + s.ns + "}\nspec: {" + spec + ", selector: {matchLabels: {app: a}}}")
	s.Eventually("the budget's status", func() string {
		if s.RunKubectl("-n", s.ns, "get", "pdb", "a", "-o", "jsonpath={.status.expectedPods}") == "" {
			return "it has none"
		}
		return ""
	})
}

// budgetWithNoRoom: nothing is evicted, nothing is forced.
func budgetWithNoRoom(s *scene) {
	s.budget("maxUnavailable: 0")
	run := s.sidecars("--evict", "--timeout", "4s")
	s.fails(124, run, "disruption budget", "no progress for 4s")
	s.WantProxies(s.ns, "a", map[string]int{older: 3})
	s.watch.Never(s.World, 3)
	s.RunKubectl("-n", s.ns, "delete", "pdb", "a")
	s.budget("maxUnavailable: 1")
	s.finishes(s.sidecars("--evict"))
	s.watch.Never(s.World, 2)
}

// noRoomOnTheNodes: the surge finds no node.
func noRoomOnTheNodes(s *scene) {
	s.RunKubectl("cordon", "small-1")
	run := s.sidecars("--max-parallel", "1", "--timeout", "4s")
	s.fails(124, run, "no progress for 4s", "unschedulable")
	s.watch.Never(s.World, 2)
	s.RunKubectl("uncordon", "small-1")
	s.finishes(s.sidecars("--max-parallel", "1"))
}

// preempted: pods of a higher priority take the place of some in the middle.
func preempted(s *scene) {
	s.Apply("apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: urgent}\nvalue: 1000000")
	s.T.Cleanup(func() { s.cleanKubectl("delete", "priorityclass", "urgent") })
	run := s.sidecars("--max-parallel", "1", "--timeout", "15s")
	release := s.failing(lab.FailNeverReady)
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	s.Apply(manifest{
		Kind: "Deployment", Name: "urgent", Namespace: s.ns, Replicas: 1,
		PodLabels: `sidecar.istio.io/inject: "false"`, PodSpec: onNode("small-2") + ", priorityClassName: urgent",
	}.String())
	s.Check(s.AwaitPods(s.T.Context(), s.ns, "app=urgent", 1, patience))
	release()
	p.must(124, "no progress for 15s", "1 not started")
	s.watch.Never(s.World, 1)
	s.RunKubectl("-n", s.ns, "delete", "deployment", "urgent")
	s.finishes(run)
}

// onNode places pods on nodes of the case's own.
func onNode(name string) string {
	return "nodeSelector: {lab/only: " + name + "}, tolerations: [{key: lab/only, operator: Exists}]"
}

// makeNode makes a node for the pods of one case, with room for so many.
func makeNode(w *clustertest.World, name, only string, pods int64) {
	w.T.Helper()
	nodes := w.Client().CoreV1().Nodes()
	_, err := nodes.Create(w.T.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
			Labels: map[string]string{"lab/only": only, corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"},
		},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "lab/only", Value: only, Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{})
	w.Check(err)
	room := fmt.Sprintf(`{"cpu":"1k","memory":"1Ti","pods":"%d"}`, pods)
	_, err = nodes.Patch(w.T.Context(), name, types.MergePatchType,
		fmt.Appendf(nil, `{"status":{"allocatable":%s,"capacity":%s}}`, room, room), metav1.PatchOptions{}, "status")
	w.Check(err)
}
