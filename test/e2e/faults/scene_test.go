package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// fault is one case. It has a namespace of its own, whose pods are made while
// the injector gives the older proxy and which are stale when the test begins.
type fault struct {
	name string
	// objects are what the namespace holds before; their pods become ready.
	objects []manifest
	// more are other manifests, applied with them.
	more string
	test func(*scene)
	// alone is for cases that touch what all others need.
	alone bool
}

// namespace is the case's own.
func (f *fault) namespace() string {
	return strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(f.name)
}

// pods is how many there are before.
func (f *fault) pods() int {
	n := 0
	for _, m := range f.objects {
		n += m.Replicas
	}
	return n
}

// scene is the cluster as one case sees it.
type scene struct {
	*clustertest.World
	*fault
	ns     string
	before map[string]string // the objects that must outlive the case
	watch  *clustertest.EndpointWatch
}

// web is a workload of two replicas.
func web(names ...string) []manifest {
	var all []manifest
	for _, name := range names {
		all = append(all, manifest{Kind: "Deployment", Name: name, Replicas: 2})
	}
	return all
}

// prepare makes the namespaces of all cases, with pods that have the older
// proxy, and then has the injector give the newer one.
func prepare(w *clustertest.World, faults []fault) {
	w.T.Helper()
	w.Inject(older)
	var all []string
	for i := range faults {
		ns := faults[i].namespace()
		w.Check(w.CreateNamespace(w.T.Context(), ns, map[string]string{"istio-injection": "enabled"}))
		for _, m := range faults[i].objects {
			m.Namespace = ns
			all = append(all, m.String())
		}
		if faults[i].more != "" {
			all = append(all, strings.ReplaceAll(faults[i].more, "NAMESPACE", ns))
		}
	}
	w.Apply(all...)
	for i := range faults {
		w.AwaitReady(faults[i].namespace(), faults[i].pods())
	}
	w.Inject(newer)
}

// play runs the cases, those that can be side by side first.
func play(t *testing.T, w *clustertest.World, faults []fault) {
	t.Helper()
	run := func(t *testing.T, f *fault) {
		t.Helper()
		s := &scene{World: &clustertest.World{Cluster: w.Cluster, T: t}, fault: f, ns: f.namespace()}
		s.before = s.held()
		var services []string
		for _, m := range f.objects {
			if m.Replicas >= 2 {
				services = append(services, m.Name)
			}
		}
		if len(services) > 0 {
			s.watch = s.WatchEndpoints(s.ns, services...)
		}
		f.test(s)
	}
	t.Run("together", func(t *testing.T) {
		for i := range faults {
			if f := &faults[i]; !f.alone {
				t.Run(f.name, func(t *testing.T) { t.Parallel(); run(t, f) })
			}
		}
	})
	for i := range faults {
		if f := &faults[i]; f.alone {
			t.Run(f.name, func(t *testing.T) { run(t, f) })
		}
	}
}

// sidecars is the command that the case runs again and again.
func (s *scene) sidecars(more ...string) []string {
	return append([]string{"sidecars", "-n", s.ns, "--yes"}, more...)
}

// fails runs a command that ends with this exit code and says these words.
func (s *scene) fails(code int, args []string, words ...string) outcome {
	s.T.Helper()
	o := s.Must(code, args...)
	s.Want(o, words...)
	return o
}

// finishes runs the command again, the fault being gone: it ends well, every
// pod has the newer proxy, nothing was lost, and no Service of two replicas was
// without a ready endpoint at any time.
func (s *scene) finishes(args []string) outcome {
	s.T.Helper()
	o := s.Must(0, args...)
	s.isWhole()
	return o
}

// isWhole says that the namespace is as it should be in the end.
func (s *scene) isWhole() {
	s.T.Helper()
	s.Eventually("the pods of "+s.ns, func() string {
		for tag, n := range s.Proxies(s.ns, "") {
			if tag != newer {
				return fmt.Sprintf("%d have the proxy %q", n, tag)
			}
		}
		return s.unready()
	})
	s.isKept()
}

// isKept says that nothing was lost and that the Services were never empty.
func (s *scene) isKept() {
	s.T.Helper()
	now := s.held()
	for name, uid := range s.before {
		if now[name] != uid {
			s.T.Errorf("%s was lost: it had the uid %s, and now has %q", name, uid, now[name])
		}
	}
	if s.watch != nil {
		s.watch.Never(s.World, 1)
	}
}

// unready names a pod that is not ready.
func (s *scene) unready() string {
	pods, err := s.Client().CoreV1().Pods(s.ns).List(s.T.Context(), metav1.ListOptions{})
	s.Check(err)
	for i := range pods.Items {
		pod := &pods.Items[i]
		ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if pod.DeletionTimestamp == nil && !ready {
			return pod.Name + " is not ready"
		}
	}
	return ""
}

// held gives the uids of the namespace's objects that nobody may delete.
func (s *scene) held() map[string]string {
	s.T.Helper()
	out := s.RunKubectl("-n", s.ns, "get", "deployments,statefulsets,daemonsets,services,configmaps,serviceaccounts", "-o",
		`jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{"\n"}{end}`)
	all := map[string]string{}
	for line := range strings.Lines(out) {
		if name, uid, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[name] = uid
		}
	}
	return all
}

// forgets takes objects out of what must outlive the case, because the case
// itself deletes them.
func (s *scene) forgets(names ...string) {
	for _, name := range names {
		delete(s.before, name)
	}
}

// failing has new pods of the namespace fail, and gives what ends that.
func (s *scene) failing(mode lab.FailMode) (recover func()) {
	s.T.Helper()
	restore, err := s.FailPods(s.T.Context(), lab.Failing{Mode: mode, Namespace: s.ns, ProxyTag: newer})
	s.Check(err)
	over := false
	end := func(ctx context.Context) {
		if !over {
			over = true
			s.Check(restore(ctx))
		}
	}
	s.T.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		end(ctx)
	})
	return func() { s.T.Helper(); end(s.T.Context()) }
}

// cleanupContext outlives the test, for what is done after it.
func cleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}
