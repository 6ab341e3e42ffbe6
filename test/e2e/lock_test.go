package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// running is a run of the plugin that has not ended yet.
type running struct {
	cmd    *exec.Cmd
	errOut bytes.Buffer
}

// begin starts a run on a namespace's workloads, and waits until it has locked
// the namespace.
func (w *world) begin(namespace string) *running {
	w.T.Helper()
	r := &running{cmd: w.Command(w.T.Context(), "sidecars", "-n", namespace, "--yes", "--max-parallel", "1")}
	r.cmd.Stderr = &r.errOut
	w.Check(r.cmd.Start())
	w.T.Cleanup(func() { _ = r.cmd.Process.Kill() })
	w.Eventually("the lock of "+namespace, func() string {
		if w.lockHolder(namespace) == "" {
			return "there is none"
		}
		return ""
	})
	return r
}

// end waits for the run to end and gives its exit code.
func (r *running) end() int {
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

// lockHolder gives who holds the lock of a namespace, "" for nobody.
func (w *world) lockHolder(namespace string) string {
	w.T.Helper()
	lease, err := w.Client().CoordinationV1().Leases(namespace).Get(w.T.Context(), "istio-upgrade", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	w.Check(err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// lockWorld has a namespace with stale workloads whose pods take their time.
func lockWorld(t *testing.T, namespace string) *world {
	t.Helper()
	w := sharedCluster(t)
	w.InjectedNamespace(namespace)
	for _, name := range []string{"one", "two", "three"} {
		w.Apply(manifest{Kind: "Deployment", Name: name, Namespace: namespace, Replicas: 2, PodNotes: `lab/start-ms: "2500"`}.String())
	}
	w.AwaitReady(namespace, 6)
	w.Inject(newer)
	return w
}

// Of two runs on one namespace the second is told who works there and changes
// nothing; after the first, nothing is left to do, to write or to unlock.
func TestTwoRunsOnOneNamespace(t *testing.T) {
	const ns = "two-runs"
	w := lockWorld(t, ns)
	first := w.begin(ns)
	host, err := os.Hostname()
	w.Check(err)
	who := fmt.Sprintf("@%s pid %d since ", host, first.cmd.Process.Pid)

	for _, more := range [][]string{nil, {"--take-over"}} {
		o := w.Must(3, append([]string{"sidecars", "-n", ns, "--yes"}, more...)...)
		if !strings.Contains(o.Stderr, who) || !strings.Contains(o.Stderr, "nothing was changed") {
			t.Errorf("want %q in\n%s", who, o)
		}
		if holder := w.lockHolder(ns); !strings.HasSuffix(holder, fmt.Sprintf("pid %d", first.cmd.Process.Pid)) {
			t.Errorf("the lock went to %q", holder)
		}
	}
	if code := first.end(); code != 0 {
		t.Fatalf("the first run: exit code %d\n%s", code, first.errOut.String())
	}
	w.WantProxies(ns, "", map[string]int{newer: 6})
	if holder := w.lockHolder(ns); holder != "" {
		t.Errorf("the lock is still held by %s", holder)
	}
	before := w.Writes()
	w.Must(0, "sidecars", "-n", ns, "--yes")
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("a run with nothing to do wrote %v", after[len(before):])
	}
}

// A run that was killed holds its lock until the lease has stood still for its
// duration, whatever the clocks say, and then the same command goes on.
func TestLockOfAKilledRun(t *testing.T) {
	const ns = "killed-run"
	w := lockWorld(t, ns)
	first := w.begin(ns)
	w.Check(first.cmd.Process.Kill())
	first.end()
	w.RunKubectl("-n", ns, "patch", "lease", "istio-upgrade", "--type=merge", "-p",
		fmt.Sprintf(`{"spec":{"renewTime":%q}}`, time.Now().Add(time.Hour).UTC().Format(metav1.RFC3339Micro)))

	o := w.Must(0, "sidecars", "-n", ns, "--yes")

	w.Want(o, "is locked by", "taken over from")
	w.WantProxies(ns, "", map[string]int{newer: 6})
	if o.Took < 15*time.Second {
		t.Errorf("taken over before the lease had expired\n%s", o)
	}
	if holder := w.lockHolder(ns); holder != "" {
		t.Errorf("the lock is still held by %s", holder)
	}
}

// A holder whose clock is an hour behind lives as long as it renews.
func TestLockOfARunWithASlowClock(t *testing.T) {
	const ns = "slow-clock"
	w := lockWorld(t, ns)
	leases := w.Client().CoordinationV1().Leases(ns)
	past := func() *metav1.MicroTime { return new(metav1.NewMicroTime(time.Now().Add(-time.Hour))) }
	lease, err := leases.Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "istio-upgrade", Namespace: ns},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("bob@build pid 7"), LeaseDurationSeconds: new(int32(15)), AcquireTime: past(), RenewTime: past()},
	}, metav1.CreateOptions{})
	w.Check(err)
	renewed, ended := make(chan error), make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				renewed <- nil
				return
			case <-time.After(time.Second):
			}
			lease.Spec.RenewTime = past()
			if lease, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
				<-ended
				renewed <- err
				return
			}
		}
	}()

	o := w.Run("sidecars", "-n", ns, "--yes")

	close(ended)
	w.Check(<-renewed)
	if o.Code != 3 {
		t.Errorf("want exit code 3\n%s", o)
	}
	w.Want(o, "bob@build pid 7")
	w.WantProxies(ns, "", map[string]int{older: 6})
}

// An interrupted run gives its lock back.
func TestInterruptGivesTheLockBack(t *testing.T) {
	const ns = "interrupted-run"
	w := lockWorld(t, ns)
	first := w.begin(ns)
	w.Check(first.cmd.Process.Signal(syscall.SIGINT))
	if code := first.end(); code != 130 {
		t.Errorf("exit code %d\n%s", code, first.errOut.String())
	}
	if holder := w.lockHolder(ns); holder != "" {
		t.Errorf("the lock is still held by %s", holder)
	}
	w.Must(0, "sidecars", "-n", ns, "--yes")
	w.WantProxies(ns, "", map[string]int{newer: 6})
}
