package faults

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// New pods that do not come up.
var podFaults = []fault{
	{name: "image pull", objects: web("a", "b"), test: func(s *scene) {
		s.doNotComeUp(lab.FailImagePull, "ImagePullBackOff", "manifest unknown")
	}},
	{name: "crash loop", objects: web("a", "b"), test: func(s *scene) {
		s.doNotComeUp(lab.FailCrash, "CrashLoopBackOff", "istio-proxy")
	}},
	{name: "stuck in creation", objects: web("a", "b"), test: func(s *scene) {
		s.doNotComeUp(lab.FailCreating, "FailedCreatePodSandBox", "no answer from its agent")
	}},
	{name: "never ready", objects: web("a", "b"), test: neverReady},
	{name: "warnings of before and in passing", test: passingWarnings, objects: []manifest{
		{Kind: "StatefulSet", Name: "a", Replicas: 2, Spec: "serviceName: a"},
	}},
}

// doNotComeUp: the run ends at the first failure, names the pod and the cause,
// and does not touch the second workload.
func (s *scene) doNotComeUp(mode lab.FailMode, words ...string) {
	recover := s.failing(mode)
	run := s.sidecars("--max-parallel", "1")
	o := s.fails(3, run, append(words, "pod a-", "1 not started")...)
	if o.Took > time.Minute {
		s.T.Errorf("it took %s to see it", o.Took)
	}
	s.WantProxies(s.ns, "b", map[string]int{older: 2})
	s.watch.Never(s.World, 2)
	recover()
	s.finishes(run)
}

// neverReady: nothing but time tells that a pod does not become ready.
func neverReady(s *scene) {
	recover := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1", "--timeout", "5s")
	s.fails(124, run, "no progress for 5s", "is not ready", "1 not started")
	s.WantProxies(s.ns, "b", map[string]int{older: 2})
	s.watch.Never(s.World, 2)
	recover()
	s.finishes(s.sidecars("--max-parallel", "1"))
}

// passingWarnings: the namespace holds warnings of an hour ago, which a new list
// shows again in the middle of the run, and a new pod is warned of that runs by
// now. None of it is a failure, however long the pod takes to become ready.
func passingWarnings(s *scene) {
	pods := s.Client().CoreV1().Pods(s.ns)
	before, err := pods.Get(s.T.Context(), "a-1", metav1.GetOptions{})
	s.Check(err)
	set, err := s.Client().AppsV1().StatefulSets(s.ns).Get(s.T.Context(), "a", metav1.GetOptions{})
	s.Check(err)
	ago := time.Now().Add(-time.Hour)
	s.warn("FailedCreate", ago, corev1.ObjectReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "a", UID: set.UID})
	s.warn("FailedMount", ago, corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Name: "a-1", UID: before.UID})
	g := s.through()
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("statefulset/a in " + s.ns + ": 1 of 2 new")
	expired := watchesExpire(g)
	s.warn("FailedCreate", ago, corev1.ObjectReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "a", UID: set.UID}) // while nobody watched
	s.Eventually("new lists", func() string {
		if expired() < 3 {
			return "not all watches have expired"
		}
		return ""
	})
	after, err := pods.Get(s.T.Context(), "a-1", metav1.GetOptions{})
	s.Check(err)
	s.warn("FailedMount", time.Now(), corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Name: "a-1", UID: after.UID})
	time.Sleep(15 * time.Second) // what the case is about: longer than a failure takes to be called
	release()
	p.must(0, "✓ statefulset/a in "+s.ns)
	s.finishes(run)
}

// warn writes a warning.
func (s *scene) warn(reason string, at time.Time, about corev1.ObjectReference) {
	s.T.Helper()
	about.Namespace = s.ns
	stamp := metav1.NewTime(at)
	_, err := s.Client().CoreV1().Events(s.ns).Create(s.T.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "warning-", Namespace: s.ns},
		InvolvedObject: about, Type: corev1.EventTypeWarning, Reason: reason, Message: "it was so once",
		FirstTimestamp: stamp, LastTimestamp: stamp, Count: 1,
	}, metav1.CreateOptions{})
	s.Check(err)
}
