package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// killedWhen starts the plugin and kills it as soon as a condition holds.
func (w *world) killedWhen(condition func() bool, args ...string) {
	w.T.Helper()
	w.signalledWhen(os.Kill, condition, args...)
}

// signalledWhen starts the plugin, sends it a signal as soon as a condition holds,
// and gives its exit code.
func (w *world) signalledWhen(signal os.Signal, condition func() bool, args ...string) int {
	w.T.Helper()
	cmd := w.Command(w.T.Context(), args...)
	w.Check(cmd.Start())
	deadline := time.Now().Add(2 * time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			w.T.Fatalf("%v: the moment for a signal did not come", args)
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Check(cmd.Process.Signal(signal))
	if err := cmd.Wait(); err == nil {
		w.T.Fatalf("%v: it ended before the signal", args)
	}
	return cmd.ProcessState.ExitCode()
}

// killedInTheMiddle ends the plugin while Helm writes a revision.
func killedInTheMiddle(w *world) {
	args := upgrade(newer, "--set", "pilot.env.A=killed")
	w.killedWhen(func() bool {
		pending, err := w.Client().CoreV1().Secrets(lab.IstioNamespace).List(w.T.Context(), metav1.ListOptions{LabelSelector: "owner=helm,name=istiod,status=pending-upgrade"})
		return err == nil && len(pending.Items) > 0
	}, args...)
	before := w.newest(lab.IstioNamespace, "istiod")
	if !strings.HasSuffix(before, "=pending-upgrade") {
		w.T.Skipf("Helm was done before the kill: %s", before)
	}
	w.Want(w.Must(0, args...), "an earlier run was killed")
	if got := w.newest(lab.IstioNamespace, "istiod"); !strings.HasSuffix(got, "=deployed") {
		w.T.Errorf("the release is at %s", got)
	}
}

// changedMeanwhile has somebody upgrade the release between plan and write.
func changedMeanwhile(w *world) {
	var once sync.Once
	var planned atomic.Bool // its last question is what the user may do
	w.throughProxy(func(r *http.Request) *http.Response {
		if strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
			planned.Store(true)
		}
		lock := r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/leases")
		if lock || planned.Load() && r.URL.Path == "/api/v1/namespaces/"+lab.IstioNamespace+"/pods" && r.URL.Query().Get("labelSelector") != "" {
			once.Do(func() {
				w.Check(w.Helm(w.T.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", newer), "-n", lab.IstioNamespace,
					"--reuse-values", "--set", "pilot.env.THEIRS=1"))
			})
		}
		return nil
	})
	args := upgrade(newer, "--set", "pilot.env.A=mine")
	w.Want(w.Must(3, args...), "somebody works on it; run the command again")
	w.Must(0, args...)
	values := fmt.Sprint(w.userValues(lab.IstioNamespace, "istiod"))
	if !strings.Contains(values, "THEIRS:1") || !strings.Contains(values, "A:mine") {
		w.T.Errorf("values are lost: %s", values)
	}
}

// webhookConflict has another field manager own what the chart writes.
func webhookConflict(w *world) {
	const name = "istio-sidecar-injector"
	hooks := w.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	there, err := hooks.Get(w.T.Context(), name, metav1.GetOptions{})
	w.Check(err)
	hook := there.Webhooks[0].Name
	theirs := fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":%q},`+
		`"webhooks":[{"name":%q,"reinvocationPolicy":"IfNeeded"}]}`, name, hook)
	force := true
	_, err = hooks.Patch(w.T.Context(), name, types.ApplyPatchType, []byte(theirs), metav1.PatchOptions{FieldManager: "policy-team", Force: &force})
	w.Check(err)
	args := upgrade(newer, "--set", "pilot.env.A=conflict")
	w.Want(w.Must(3, append(args, "--dry-run=server")...), "mutatingwebhookconfiguration/"+name, "the API server refuses it", "policy-team", "reinvocationPolicy")
	w.Want(w.Must(1, args...), "conflict", "policy-team", "reinvocationPolicy")
	_, err = hooks.Patch(w.T.Context(), name, types.ApplyPatchType, []byte(fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":%q}}`, name)),
		metav1.PatchOptions{FieldManager: "policy-team", Force: &force})
	w.Check(err)
	w.Must(0, args...)
}

// stillServed runs what is to fail, and looks whether istiod has an endpoint
// throughout.
func (w *world) stillServed(run func() outcome) outcome {
	w.T.Helper()
	watch := w.WatchEndpoints(lab.IstioNamespace, "istiod")
	o := run()
	watch.Never(w.World, 1)
	return o
}

// noRoom: no node takes new pods.
func noRoom(w *world) {
	nodes := strings.Fields(w.RunKubectl("get", "nodes", "-o", "name"))
	w.RunKubectl(append([]string{"cordon"}, nodes...)...)
	args := upgrade(newer, "--set", "pilot.env.FAILED=noroom", "--timeout", "15s")
	o := w.stillServed(func() outcome { return w.Must(124, args...) })
	w.RunKubectl(append([]string{"uncordon"}, nodes...)...)
	w.Want(o, "fits no node", "unschedulable", "failed revision")
	w.Must(0, args...)
}

// failed has istiod's new pods fail in a way, runs an upgrade that ends so, and
// once they no longer do the same command again.
func failed(mode lab.FailMode, code int, words ...string) func(*world) {
	return func(w *world) {
		restore, err := w.FailPods(w.T.Context(), lab.Failing{Mode: mode, Namespace: lab.IstioNamespace, Labels: map[string]string{"app": "istiod"}})
		w.Check(err)
		args := upgrade(newer, "--set", "pilot.env.FAILED="+strings.ReplaceAll(string(mode), "-", ""))
		if code == 124 {
			args = append(args, "--timeout", "15s")
		}
		o := w.stillServed(func() outcome { return w.Must(code, args...) })
		w.Check(restore(w.T.Context()))
		w.Want(o, append(words, "failed revision")...)
		w.Must(0, args...)
	}
}

// failingHook takes a chart with a hook whose Job cannot end well.
func failingHook(w *world) {
	dir := w.T.TempDir()
	unpack := exec.CommandContext(w.T.Context(), "tar", "-xzf", clustertest.Parts.Chart("istiod", newer), "-C", dir)
	if out, err := unpack.CombinedOutput(); err != nil {
		w.T.Fatalf("unpack the chart: %v: %s", err, out)
	}
	w.Check(os.WriteFile(filepath.Join(dir, "istiod", "templates", "hook.yaml"), []byte(`apiVersion: batch/v1
kind: Job
metadata:
  name: ahead
  namespace: {{ .Release.Namespace }}
  annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: 5
  template:
    metadata: {labels: {app: ahead, sidecar.istio.io/inject: "false"}}
    spec: {restartPolicy: Never, containers: [{name: ahead, image: "example.com/ahead:1"}]}
`), 0o644))
	restore, err := w.FailPods(w.T.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: lab.IstioNamespace, Labels: map[string]string{"app": "ahead"}})
	w.Check(err)
	before := w.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.metadata.generation}")
	args := []string{"control-plane", "--tag", newer, "--charts", dir, "--component", "istiod", "--yes", "--set", "pilot.env.A=hook"}
	w.Want(w.Must(1, args...), "pre-upgrade hooks failed", "Job/istio-system/ahead", "Job Failed", "run the command again")
	if got := w.newest(lab.IstioNamespace, "istiod"); !strings.HasSuffix(got, "=failed") {
		w.T.Errorf("the release is at %s", got)
	}
	if after := w.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.metadata.generation}"); after != before {
		w.T.Errorf("istiod was changed although the hook failed")
	}
	w.Check(restore(w.T.Context()))
	w.Must(0, args...)
	w.RunKubectl("delete", "job", "ahead", "-n", lab.IstioNamespace)
	w.Must(0, upgrade(newer, "--component", "istiod")...)
}

// undecodableRecord breaks the record of another release.
func undecodableRecord(w *world) {
	broken := `apiVersion: v1
kind: Secret
metadata: {name: sh.helm.release.v1.garbled.v1, namespace: %s, labels: {owner: helm, name: garbled, version: "1", status: deployed}}
type: helm.sh/release.v1
stringData: {release: garbage}
`
	w.Apply(fmt.Sprintf(broken, lab.IstioNamespace))
	w.Want(w.Must(0, upgrade(newer, "--set", "pilot.env.A=garbled")...), "release garbled in istio-system is left out: its record sh.helm.release.v1.garbled.v1 cannot be decoded")
	w.RunKubectl("delete", "secret", "sh.helm.release.v1.garbled.v1", "-n", lab.IstioNamespace)
}

// planWithDiff shows values and objects, and nothing secret.
func planWithDiff(w *world) {
	args := upgrade(newer, "--dry-run", "--set", "pilot.env.A=shown,pilot.env.DB_PASSWORD=planted-secret")
	o := w.Must(0, append(args, "--diff")...)
	w.Want(o, "--- from/values of istiod", "+    A: shown", "--- from/deployment/istiod", "name: DB_PASSWORD")
	if strings.Contains(o.Stdout+o.Stderr, "planted-secret") {
		w.T.Errorf("a secret value is shown:\n%s", o)
	}
	plain := w.Must(0, append(args, "-o", "json")...)
	if strings.Contains(plain.Stdout, `"diff"`) || strings.Contains(plain.Stdout, "planted-secret") {
		w.T.Errorf("without --diff the document has diffs, or a secret:\n%s", plain)
	}
	var doc struct {
		Plan struct {
			Releases []struct{ Objects []struct{ Kind, Diff string } }
		}
	}
	w.Check(json.Unmarshal([]byte(w.Must(0, append(args, "-o", "json", "--diff")...).Stdout), &doc))
	for _, o := range doc.Plan.Releases[0].Objects {
		if o.Diff == "" {
			w.T.Errorf("%s has no diff", o.Kind)
		}
	}
}
