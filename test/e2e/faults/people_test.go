package faults

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// What people and controllers do to workloads in the middle of a run. New pods
// are held back from being ready until that is done.
var peopleFaults = []fault{
	{name: "deleted meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() {
			s.forgets("Deployment/a")
			s.watch.Forget("a")
			s.RunKubectl("-n", s.ns, "delete", "deployment", "a", "--cascade=foreground", "--wait=false")
		}, "deployment/a in "+s.ns+": it was deleted meanwhile")
		s.finishes(run)
	}},
	{name: "scaled to zero meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() {
			s.watch.Forget("a")
			s.RunKubectl("-n", s.ns, "scale", "deployment", "a", "--replicas=0")
		}, "deployment/a in "+s.ns+": it was scaled to zero meanwhile")
		s.RunKubectl("-n", s.ns, "scale", "deployment", "a", "--replicas=2")
		s.finishes(run)
		s.WantProxies(s.ns, "a", map[string]int{newer: 2})
	}},
	{name: "paused meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() { s.RunKubectl("-n", s.ns, "rollout", "pause", "deployment/a") }, "it was paused in the middle of its rollout")
		s.RunKubectl("-n", s.ns, "rollout", "resume", "deployment/a")
		s.finishes(run)
	}},
	{name: "redeployed meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() { s.RunKubectl("-n", s.ns, "set", "image", "deployment/a", "app=example.com/app:2") })
		s.finishes(run)
	}},
	{name: "taken back meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(3, func() { s.RunKubectl("-n", s.ns, "rollout", "undo", "deployment/a") }, "the restart was taken back")
		s.finishes(run)
	}},
	{name: "restarted meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() { s.RunKubectl("-n", s.ns, "rollout", "restart", "deployment/a", "deployment/b") })
		s.finishes(run)
	}},
	{name: "reverted by a controller", objects: web("a", "b"), test: revertedByAController},
	{name: "created meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() {
			m := manifest{Kind: "Deployment", Name: "c", Namespace: s.ns, Replicas: 2}
			s.Apply(m.String())
		})
		s.finishes(run)
	}},
	{name: "namespace deleted meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() {
			s.RunKubectl("delete", "namespace", s.ns, "--wait=false")
			s.before, s.watch = nil, nil
		}, "it was deleted meanwhile")
		s.Eventually("the end of "+s.ns, func() string {
			return s.RunKubectl("get", "namespace", s.ns, "--ignore-not-found", "-o", "name")
		})
		s.fails(1, run, `namespaces "`+s.ns+`" not found`)
	}},
	{name: "namespace's label removed meanwhile", objects: web("a", "b"), test: labelRemoved},
	{name: "autoscaled meanwhile", objects: web("a", "b"), test: func(s *scene) {
		run := s.meanwhile(0, func() {
			s.RunKubectl("-n", s.ns, "autoscale", "deployment", "a", "--min=4", "--max=5", "--cpu=80%")
			s.Eventually("the autoscaler", func() string {
				if n := s.RunKubectl("-n", s.ns, "get", "deployment", "a", "-o", "jsonpath={.spec.replicas}"); n != "4" {
					return n + " replicas"
				}
				return ""
			})
		})
		s.finishes(run)
		s.WantProxies(s.ns, "a", map[string]int{newer: 4})
	}},
	{name: "scaled down meanwhile", objects: []manifest{{Kind: "Deployment", Name: "a", Replicas: 4}, {Kind: "Deployment", Name: "b", Replicas: 2}}, test: func(s *scene) {
		release := s.failing(lab.FailNeverReady)
		run := s.sidecars("--max-parallel", "1")
		p := start(s.World, run...)
		p.until("deployment/a in " + s.ns + ": 2 of 4 new")
		s.RunKubectl("-n", s.ns, "scale", "deployment", "a", "--replicas=2")
		release()
		p.must(0)
		s.finishes(run)
	}},
	{name: "second run meanwhile", objects: web("a", "b"), test: secondRun},
	{name: "pod evicted meanwhile", objects: web("a", "b"), test: podEvicted},
	{name: "node drained meanwhile", test: nodeDrained, objects: []manifest{
		{Kind: "Deployment", Name: "a", Replicas: 3, PodSpec: onNode("drained")}, {Kind: "Deployment", Name: "b", Replicas: 2},
	}},
	{name: "node lost meanwhile", test: nodeLost, objects: []manifest{
		{Kind: "Deployment", Name: "a", Replicas: 2, PodSpec: apart(onNode("lost"))}, {Kind: "Deployment", Name: "b", Replicas: 2},
	}},
}

// meanwhile does something while the first of two workloads moves.
func (s *scene) meanwhile(code int, do func(), words ...string) []string {
	s.T.Helper()
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of ")
	do()
	release()
	p.must(code, words...)
	return run
}

// revertedByAController: something takes every restart back at once. It is
// named, and not fought with.
func revertedByAController(s *scene) {
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	s.RunKubectl("-n", s.ns, "patch", "deployment", "a", "--type=merge", "--field-manager=nosy-operator",
		"-p", `{"metadata":{"annotations":{"example.com/seen":"1"}},"spec":{"template":{"metadata":{"annotations":{"istio-upgrade/restarted":null}}}}}`)
	p.must(3, "the restart was taken back by nosy-operator", "1 not started")
	release()
	s.finishes(run)
}

// labelRemoved: new pods come up without a sidecar, which is seen at the first
// workload. Nothing else is touched.
func labelRemoved(s *scene) {
	run := s.meanwhile(3, func() { s.RunKubectl("label", "namespace", s.ns, "istio-injection-") }, "came up without a proxy", "1 not started")
	s.WantProxies(s.ns, "b", map[string]int{older: 2})
	s.RunKubectl("label", "namespace", s.ns, "istio-injection=enabled")
	// What did not converge is not restarted again and again.
	s.fails(0, run, "--force restarts it again")
	s.finishes(append(run, "--force"))
	s.Want(s.finishes(run), "Nothing to move")
}

// podEvicted: the cluster evicts pods, a new one and an old one, while the
// workload moves.
func podEvicted(s *scene) {
	run := s.meanwhile(0, func() {
		for _, tag := range []string{newer, older} {
			s.evict(s.podWith("a", tag))
		}
	})
	s.finishes(run)
}

// podWith gives a workload's pod that has a proxy of the tag.
func (s *scene) podWith(app, tag string) string {
	s.T.Helper()
	pods, err := s.Client().CoreV1().Pods(s.ns).List(s.T.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	s.Check(err)
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.DeletionTimestamp == nil && clustertest.ProxyTag(pod) == tag {
			return pod.Name
		}
	}
	s.T.Fatalf("no pod of %s has the proxy %s", app, tag)
	return ""
}

func (s *scene) evict(pod string) {
	s.T.Helper()
	s.Check(s.Client().PolicyV1().Evictions(s.ns).Evict(s.T.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: s.ns}}))
}

// nodeDrained: half of the workload's nodes are drained while it moves.
func nodeDrained(s *scene) {
	s.budget("minAvailable: 1")
	run := s.meanwhile(0, func() {
		s.RunKubectl("cordon", "drained-1")
		s.T.Cleanup(func() { s.cleanKubectl("uncordon", "drained-1") })
		pods, err := s.Client().CoreV1().Pods(s.ns).List(s.T.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=drained-1"})
		s.Check(err)
		for i := range pods.Items {
			err := s.Client().PolicyV1().Evictions(s.ns).Evict(s.T.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pods.Items[i].Name, Namespace: s.ns}})
			if err != nil && !apierrors.IsTooManyRequests(err) && !apierrors.IsNotFound(err) {
				s.T.Error(err)
			}
		}
	})
	s.finishes(run)
}

// apart spreads the pods of a over the nodes, and lets them be evicted from one
// that does not answer after a few seconds.
func apart(spec string) string {
	return strings.Replace(spec, "tolerations: [", "tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}, ", 1) +
		", topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: a}}}]"
}

// silence has a node not answer any more, and the pods on it be not ready, as
// far as kwok plays their part.
const silence = `apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: lost-node}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  weight: 1000
  selector: {matchExpressions: [{jq: {key: '.metadata.name == "lost-1"', operator: In, values: ["true"]}}]}
  steps:
  - patch:
      subresource: status
      root: status
      template: 'conditions: [{type: Ready, status: Unknown, reason: NodeStatusUnknown, message: Kubelet stopped posting node status.}]'
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: lost-pods}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  weight: 1000
  selector:
    matchExpressions:
    - jq: {key: '.spec.nodeName == "lost-1"', operator: In, values: ["true"]}
    - jq: {key: .metadata.deletionTimestamp, operator: DoesNotExist}
  steps:
  - patch:
      subresource: status
      root: status
      template: 'conditions: [{type: Ready, status: "False"}]'`

// nodeLost: a node does not answer any more. Its pods are not ready, are evicted
// by the node's taint, and do not end: nobody is there to say so.
func nodeLost(s *scene) {
	onLost := func() []corev1.Pod {
		pods, err := s.Client().CoreV1().Pods(s.ns).List(s.T.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=lost-1"})
		s.Check(err)
		return pods.Items
	}
	s.T.Cleanup(func() {
		s.cleanKubectl("delete", "stages.kwok.x-k8s.io", "lost-node", "lost-pods", "--ignore-not-found")
		s.cleanKubectl("annotate", "node", "lost-1", "lab/woken=1", "--overwrite")
	})
	run := s.meanwhile(0, func() {
		pods := onLost()
		if len(pods) == 0 {
			s.T.Fatal("no pod is on the node")
		}
		for i := range pods {
			s.RunKubectl("-n", s.ns, "patch", "pod", pods[i].Name, "--type=merge", "-p", `{"metadata":{"finalizers":["lab/node-lost"]}}`)
			name := pods[i].Name
			s.T.Cleanup(func() {
				s.cleanKubectl("-n", s.ns, "patch", "pod", name, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
			})
		}
		s.Apply(silence)
		s.RunKubectl("annotate", "node", "lost-1", "lab/woken=0", "--overwrite")
		s.Eventually("the node that is lost", func() string {
			if got := s.RunKubectl("get", "node", "lost-1", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}`); !strings.Contains(got, "Unknown") || !strings.Contains(got, "node.kubernetes.io/unreachable") {
				return "it is " + got
			}
			for _, pod := range onLost() {
				if pod.DeletionTimestamp == nil {
					return pod.Name + " is not evicted"
				}
			}
			return ""
		})
	})
	if len(onLost()) == 0 {
		s.T.Error("the pods on the lost node are gone: the case shows nothing")
	}
	s.finishes(run)
}

// secondRun: a colleague starts the same command. It is told who works there.
func secondRun(s *scene) {
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	s.fails(3, run, "is being worked on by", "nothing was changed")
	release()
	p.must(0)
	s.finishes(run)
}
