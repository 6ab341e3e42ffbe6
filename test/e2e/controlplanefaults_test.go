package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// What can go wrong with the release, and that the same command goes on.
func TestControlPlaneFaults(t *testing.T) {
	cluster := ownCluster(t, lab.Options{})
	cluster.Must(0, "crds", "--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "--yes", "--no-backup")
	for _, c := range []struct {
		name string
		test func(*world)
	}{
		{"pods that fail", podsThatFail},
		{"immutable selector", immutableSelector},
		{"owned by Flux or Argo CD", ownedByGitOps},
		{"nothing to do, and scaled by hand", scaledByHand},
		{"what check refuses", checkRefuses},
		{"pending", pendingRelease},
		{"a pinned proxy", pinnedProxy},
		{"injector down for a while", injectorDown},
		{"replicas that change hands", replicasChangeHands},
		{"fewer replicas", fewerReplicas},
		{"ensure-ha", ensureHA},
		{"temporary-ha", temporaryHA},
		{"temporary-ha interrupted", temporaryHAInterrupted},
		{"temporary-ha killed", temporaryHAKilled},
		{"temporary-ha without an autoscaler", temporaryHAReplicas},
		{"killed in the middle", killedInTheMiddle},
		{"changed by someone else meanwhile", changedMeanwhile},
		{"conflict on a webhook's fields", webhookConflict},
		{"no room on the nodes", noRoom},
		{"never ready", failed(lab.FailNeverReady, 124, "made no progress for 15s")},
		{"crashes", failed(lab.FailCrash, 1, "CrashLoopBackOff")},
		{"a hook's Job fails", failingHook},
		{"a record that cannot be decoded", undecodableRecord},
		{"diff", planWithDiff},
		{"no rights", noRights},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.test(newWorld(cluster.Cluster, t)) }) {
			return // what follows builds on it
		}
	}
}

// podsThatFail leaves the release at the newer version.
func podsThatFail(w *world) {
	restore, err := w.FailPods(w.T.Context(), lab.Failing{Mode: lab.FailImagePull, Namespace: lab.IstioNamespace, Labels: map[string]string{"app": "istiod"}})
	w.Check(err)
	args := upgrade(newer)
	o := w.stillServed(func() outcome { return w.Must(1, args...) })
	w.Want(o, "ImagePullBackOff of container discovery", "failed revision 2")
	if o.Took > 30*time.Second {
		w.T.Errorf("it took %s to see that an image cannot be pulled", o.Took)
	}
	if got := w.history(lab.IstioNamespace, "istiod"); fmt.Sprint(got) != "[1=deployed 2=failed]" {
		w.T.Errorf("the revisions are %v", got)
	}
	w.Want(w.Must(1, upgrade(newer, "--rollback-on-failure", "--set", "pilot.env.TRIED=1")...), "rolled back to revision 1")
	if got := w.history(lab.IstioNamespace, "istiod"); fmt.Sprint(got) != "[1=superseded 2=failed 3=failed 4=deployed]" {
		w.T.Errorf("the revisions are %v", got)
	}
	w.Want(w.Must(0, "rollback", "--yes"), "is back at its revision 1 already", "Nothing to take back") // never to a failed one
	w.Check(restore(w.T.Context()))
	w.Must(0, args...)
	if values := fmt.Sprint(w.userValues(lab.IstioNamespace, "istiod")); strings.Contains(values, "TRIED") {
		w.T.Errorf("the failed attempt's values were kept: %s", values)
	}
}

func immutableSelector(w *world) {
	deployment := w.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "json")
	other := strings.ReplaceAll(deployment, `"matchLabels": {`, `"matchLabels": {"app": "istiod",`)
	w.RunKubectl("delete", "deployment", "istiod", "-n", lab.IstioNamespace)
	w.Apply(other)
	began := time.Now()
	w.Want(w.Must(3, upgrade(newer, "--set", "pilot.env.A=1")...), "must be re-created", "--cascade=orphan", "does not override")
	if got := w.wrote(began); len(got) > 0 {
		w.T.Errorf("it wrote: %v", got)
	}
	w.RunKubectl("delete", "deployment", "istiod", "-n", lab.IstioNamespace)
	w.Must(0, upgrade(newer, "--set", "pilot.env.A=1")...)
}

func ownedByGitOps(w *world) {
	mark := func(what string, marks ...string) {
		w.RunKubectl(append([]string{what, "deployment", "istiod", "-n", lab.IstioNamespace}, marks...)...)
	}
	mark("label", "helm.toolkit.fluxcd.io/name=mesh", "helm.toolkit.fluxcd.io/namespace=flux-system")
	w.Want(w.Must(3, upgrade(newer, "--set", "pilot.env.A=2", "--force")...), "Flux HelmRelease mesh in flux-system", "does not override")
	w.Want(w.Must(0, upgrade(newer)...), "Nothing to upgrade")
	mark("label", "helm.toolkit.fluxcd.io/name-", "helm.toolkit.fluxcd.io/namespace-")
	mark("annotate", "argocd.argoproj.io/tracking-id=mesh:apps/Deployment:istio-system/istiod")
	w.Want(w.Must(3, upgrade(newer, "--set", "pilot.env.A=2", "--force")...), "Argo CD Application mesh", "does not override")
	mark("annotate", "argocd.argoproj.io/tracking-id-")
}

// scaledByHand: a number of replicas that the values would make fewer stands in
// the way of what writes them, and of nothing else.
func scaledByHand(w *world) {
	w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=false,replicaCount=1")...)
	w.RunKubectl("scale", "deployment", "istiod", "-n", lab.IstioNamespace, "--replicas=3")
	w.RunKubectl("rollout", "status", "deployment", "istiod", "-n", lab.IstioNamespace)
	w.Want(w.Must(0, upgrade(newer)...), "Nothing to upgrade")
	w.Want(w.Must(3, upgrade(newer, "--set", "pilot.env.A=3")...), "it has 3 replicas", "--set pilot.replicaCount=3")
	w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=true")...)
}

// checkRefuses: an image that its registry has not got, and an istiod that is not
// ready, stop the step before its first write.
func checkRefuses(w *world) {
	registry, err := w.ServeOCI(w.T.Context())
	w.Check(err)
	host, _, _ := strings.Cut(strings.TrimPrefix(registry, "oci://"), "/")
	absent := upgrade(newer, "--set", "global.hub="+host+"/absent")
	began := time.Now()
	w.Want(w.Must(3, absent...), host+"/absent/pilot:"+newer, "its registry has no such image", "--force overrides this")
	if got := w.wrote(began); len(got) > 0 {
		w.T.Errorf("it wrote: %v", got)
	}
	w.Want(w.Must(0, append(absent, "--force", "--dry-run")...), "--force overrides: "+host+"/absent/pilot:"+newer)

	w.RunKubectl("scale", "deployment", "istiod", "-n", lab.IstioNamespace, "--replicas=0")
	again := upgrade(newer, "--set", "pilot.env.A=4")
	w.Want(w.Must(3, again...), "deployment/istiod in istio-system: it is scaled to zero")
	w.RunKubectl("scale", "deployment", "istiod", "-n", lab.IstioNamespace, "--replicas=1")
	w.RunKubectl("rollout", "status", "deployment", "istiod", "-n", lab.IstioNamespace)
	w.Must(0, again...)
}

// pendingRelease leaves a revision behind as a killed run does.
func pendingRelease(w *world) {
	secrets := w.Client().CoreV1().Secrets(lab.IstioNamespace)
	last := w.newest(lab.IstioNamespace, "istiod")
	number := last[:strings.Index(last, "=")]
	setStatus := func(status, manager string) {
		record := "sh.helm.release.v1.istiod.v" + number
		stored, err := secrets.Get(w.T.Context(), record, metav1.GetOptions{})
		w.Check(err)
		raw, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"labels": map[string]string{"status": status}},
			"data":     map[string]string{"release": base64.StdEncoding.EncodeToString(w.withStatus(stored.Data["release"], status))},
		})
		w.Check(err)
		_, err = secrets.Patch(w.T.Context(), record, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: manager})
		w.Check(err)
	}
	setStatus("pending-upgrade", "Helm")
	w.Want(w.Must(3, upgrade(newer, "--set", "pilot.env.A=3")...), "pending-upgrade for", "the last good revision is", "--recover")
	w.Must(0, upgrade(newer, "--set", "pilot.env.A=3", "--recover")...)
	if got := w.history(lab.IstioNamespace, "istiod"); !slices.Contains(got, number+"=failed") {
		w.T.Errorf("revision %s is not failed: %v", number, got)
	}
	last = w.newest(lab.IstioNamespace, "istiod")
	number = last[:strings.Index(last, "=")]
	setStatus("pending-upgrade", "kubectl-istio-upgrade")
	w.Want(w.Must(0, upgrade(newer, "--set", "pilot.env.A=4")...), "an earlier run was killed")
}

// pinnedProxy: what the values pin is what the injector is to give out.
func pinnedProxy(w *world) {
	pinned := "registry.example/proxyv2:" + newer + "-fips"
	w.Want(w.Must(0, upgrade(newer, "--set", "global.proxy.image="+pinned)...), "pins the image "+pinned)
	if image, err := w.InjectedImage(w.T.Context(), ""); err != nil || image != pinned {
		w.T.Errorf("the injector gives %s, %v", image, err)
	}
	w.Must(0, upgrade(newer, "--set", "global.proxy.image=null")...)
}

func injectorDown(w *world) {
	w.Check(w.StopIstiod(""))
	before := len(w.history(lab.IstioNamespace, "istiod"))
	cmd := w.Command(w.T.Context(), upgrade(newer, "--set", "pilot.env.A=5", "--timeout", "2m")...)
	stderr, err := cmd.StderrPipe()
	w.Check(err)
	w.Check(cmd.Start())
	var text strings.Builder
	down := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if !down && strings.Contains(lines.Text(), "failed calling webhook") {
			down = true
			w.Check(w.StartPart(w.T.Context(), lab.Istiod("")))
		}
	}
	if err := cmd.Wait(); err != nil || !down {
		w.T.Errorf("the injector was seen down: %t; %v\n%s", down, err, text.String())
	}
	if got := len(w.history(lab.IstioNamespace, "istiod")) - before; got > 1 {
		w.T.Errorf("%d revisions were made, want 1", got)
	}
}

// replicasSeen runs something and gives every number of replicas that istiod's
// Deployment had on the way.
func (w *world) replicasSeen(run func()) []int32 {
	w.T.Helper()
	watch, err := w.Client().AppsV1().Deployments(lab.IstioNamespace).Watch(w.T.Context(), metav1.ListOptions{FieldSelector: "metadata.name=istiod"})
	w.Check(err)
	seen := make(chan []int32, 1)
	go func() {
		var all []int32
		for event := range watch.ResultChan() {
			if replicas, ok := replicasOf(event.Object); ok && !slices.Contains(all, replicas) {
				all = append(all, replicas)
			}
		}
		seen <- all
	}()
	run()
	watch.Stop()
	return <-seen
}

func replicasOf(o runtime.Object) (int32, bool) {
	d, ok := o.(*appsv1.Deployment)
	if !ok || d.Spec.Replicas == nil {
		return 0, false
	}
	return *d.Spec.Replicas, true
}

// withStatus gives a stored release another status (helm: pkg/storage/driver).
func (w *world) withStatus(stored []byte, status string) []byte {
	w.T.Helper()
	packed, err := base64.StdEncoding.DecodeString(string(stored))
	w.Check(err)
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	w.Check(err)
	var release map[string]any
	w.Check(json.NewDecoder(zip).Decode(&release))
	release["info"].(map[string]any)["status"] = status
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	w.Check(json.NewEncoder(writer).Encode(release))
	w.Check(writer.Close())
	return []byte(base64.StdEncoding.EncodeToString(out.Bytes()))
}

func replicasChangeHands(w *world) {
	w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=false,replicaCount=4")...)
	for _, c := range []struct {
		set  string
		want string
	}{
		{"autoscaleEnabled=true", "[4]"},
		{"autoscaleEnabled=false,replicaCount=5", "[4 5]"},
	} {
		if got := w.replicasSeen(func() { w.Must(0, upgrade(newer, "--set", c.set)...) }); fmt.Sprint(got) != c.want {
			w.T.Errorf("--set %s: replicas were %v, want %s", c.set, got, c.want)
		}
	}
	w.Check(w.Helm(w.T.Context(), "upgrade", "istiod", clustertest.Parts.Chart("istiod", newer), "-n", lab.IstioNamespace, "--reuse-values", "--server-side=false"))
	if got := w.replicasSeen(func() { w.Must(0, upgrade(newer, "--set", "autoscaleEnabled=true")...) }); fmt.Sprint(got) != "[5]" {
		w.T.Errorf("client-side apply: replicas were %v, want [5]", got)
	}
}

func fewerReplicas(w *world) {
	w.Want(w.Must(3, upgrade(newer, "--set", "autoscaleEnabled=false,replicaCount=2")...), "it has 5 replicas", "--set pilot.replicaCount=5", "--force overrides")
}

func ensureHA(w *world) {
	w.RunKubectl("scale", "deployment", "istiod", "-n", lab.IstioNamespace, "--replicas=1")
	w.Must(0, upgrade(newer, "--ensure-ha")...)
	if got := w.RunKubectl("get", "hpa", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.spec.minReplicas}"); got != "2" {
		w.T.Errorf("the autoscaler's minimum is %s", got)
	}
	if got := w.RunKubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.status.readyReplicas}"); got != "2" {
		w.T.Errorf("istiod has %s ready replicas", got)
	}
}

func noRights(w *world) {
	kubeconfig, err := w.KubeconfigAs("reader")
	w.Check(err)
	w.RunKubectl("create", "clusterrolebinding", "reader", "--clusterrole=view", "--user=reader")
	w.RunKubectl("create", "clusterrole", "secrets", "--verb=get,list", "--resource=secrets,customresourcedefinitions,clusterrolebindings,clusterroles,rolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations")
	w.RunKubectl("create", "clusterrolebinding", "secrets", "--clusterrole=secrets", "--user=reader")
	w.OtherKubeconfig = kubeconfig
	o := w.Must(3, upgrade(newer, "--set", "pilot.env.A=9")...)
	w.Want(o, "you lack rights", "create secrets in namespace istio-system", "patch deployments.apps in namespace istio-system")
}
