package e2e

import (
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
)

// What can go wrong with the release, and that the same command goes on.
func TestControlPlaneFaults(t *testing.T) {
	cluster := ownCluster(t, lab.Options{})
	cluster.must(0, "crds", "--tag", newer, "--charts", parts.PackagedCharts(), "--yes", "--no-backup")
	for _, c := range []struct {
		name string
		test func(*world)
	}{
		{"pods that fail", podsThatFail},
		{"immutable selector", immutableSelector},
		{"owned by Flux", ownedByFlux},
		{"pending", pendingRelease},
		{"injector down for a while", injectorDown},
		{"replicas that change hands", replicasChangeHands},
		{"fewer replicas", fewerReplicas},
		{"ensure-ha", ensureHA},
		{"no rights", noRights},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.test(&world{Cluster: cluster.Cluster, t: t}) }) {
			return // what follows builds on it
		}
	}
}

// podsThatFail leaves the release at the newer version.
func podsThatFail(w *world) {
	bad := upgrade(newer, "--set", "podAnnotations.lab/fail=image-pull")
	o := w.must(1, bad...)
	w.want(o, "ImagePullBackOff of container discovery", "failed revision 2")
	if o.Took > 30*time.Second {
		w.t.Errorf("it took %s to see that an image cannot be pulled", o.Took)
	}
	if got := w.history(lab.IstioNamespace, "istiod"); fmt.Sprint(got) != "[1=deployed 2=failed]" {
		w.t.Errorf("the revisions are %v", got)
	}
	w.want(w.must(1, append(bad, "--rollback-on-failure")...), "rolled back to revision 1")
	if got := w.history(lab.IstioNamespace, "istiod"); fmt.Sprint(got) != "[1=superseded 2=failed 3=failed 4=deployed]" {
		w.t.Errorf("the revisions are %v", got)
	}
	w.want(w.must(1, "rollback", "--yes"), "nothing to go back to") // never to a failed one
	w.must(0, upgrade(newer)...)
	if values := fmt.Sprint(w.userValues(lab.IstioNamespace, "istiod")); strings.Contains(values, "image-pull") {
		w.t.Errorf("the failed attempt's values were kept: %s", values)
	}
}

func immutableSelector(w *world) {
	deployment := w.kubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "json")
	other := strings.ReplaceAll(deployment, `"matchLabels": {`, `"matchLabels": {"app": "istiod",`)
	w.kubectl("delete", "deployment", "istiod", "-n", lab.IstioNamespace)
	w.apply(other)
	began := time.Now()
	w.want(w.must(3, upgrade(newer, "--set", "pilot.env.A=1")...), "must be re-created", "--cascade=orphan", "does not override")
	if got := w.wrote(began); len(got) > 0 {
		w.t.Errorf("it wrote: %v", got)
	}
	w.kubectl("delete", "deployment", "istiod", "-n", lab.IstioNamespace)
	w.must(0, upgrade(newer, "--set", "pilot.env.A=1")...)
}

func ownedByFlux(w *world) {
	w.kubectl("label", "deployment", "istiod", "-n", lab.IstioNamespace, "helm.toolkit.fluxcd.io/name=mesh", "helm.toolkit.fluxcd.io/namespace=flux-system")
	w.want(w.must(3, upgrade(newer, "--set", "pilot.env.A=2", "--force")...), "Flux HelmRelease mesh in flux-system", "does not override")
	w.kubectl("label", "deployment", "istiod", "-n", lab.IstioNamespace, "helm.toolkit.fluxcd.io/name-", "helm.toolkit.fluxcd.io/namespace-")
}

// pendingRelease leaves a revision behind as a killed run does.
func pendingRelease(w *world) {
	secrets := w.Client().CoreV1().Secrets(lab.IstioNamespace)
	last := w.newest(lab.IstioNamespace, "istiod")
	number := last[:strings.Index(last, "=")]
	setStatus := func(status, manager string) {
		record := "sh.helm.release.v1.istiod.v" + number
		stored, err := secrets.Get(w.t.Context(), record, metav1.GetOptions{})
		w.check(err)
		raw, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"labels": map[string]string{"status": status}},
			"data":     map[string]string{"release": base64.StdEncoding.EncodeToString(w.withStatus(stored.Data["release"], status))},
		})
		w.check(err)
		_, err = secrets.Patch(w.t.Context(), record, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: manager})
		w.check(err)
	}
	setStatus("pending-upgrade", "Helm")
	w.want(w.must(3, upgrade(newer, "--set", "pilot.env.A=3")...), "pending-upgrade for", "the last good revision is", "--recover")
	w.must(0, upgrade(newer, "--set", "pilot.env.A=3", "--recover")...)
	if got := w.history(lab.IstioNamespace, "istiod"); !slices.Contains(got, number+"=failed") {
		w.t.Errorf("revision %s is not failed: %v", number, got)
	}
	last = w.newest(lab.IstioNamespace, "istiod")
	number = last[:strings.Index(last, "=")]
	setStatus("pending-upgrade", "kubectl-istio-upgrade")
	w.want(w.must(0, upgrade(newer, "--set", "pilot.env.A=4")...), "an earlier run was killed")
}

func injectorDown(w *world) {
	w.check(w.StopIstiod(""))
	back := make(chan error, 1)
	go func() {
		select {
		case <-w.t.Context().Done():
		case <-time.After(8 * time.Second):
		}
		back <- w.StartPart(w.t.Context(), lab.Istiod(""))
	}()
	before := len(w.history(lab.IstioNamespace, "istiod"))
	o := w.must(0, upgrade(newer, "--set", "pilot.env.A=5")...)
	w.check(<-back)
	w.want(o, "failed calling webhook")
	if got := len(w.history(lab.IstioNamespace, "istiod")) - before; got > 1 {
		w.t.Errorf("%d revisions were made, want 1", got)
	}
}

// replicasSeen runs something and gives every number of replicas that istiod's
// Deployment had on the way.
func (w *world) replicasSeen(run func()) []int32 {
	w.t.Helper()
	watch, err := w.Client().AppsV1().Deployments(lab.IstioNamespace).Watch(w.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=istiod"})
	w.check(err)
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
	w.t.Helper()
	packed, err := base64.StdEncoding.DecodeString(string(stored))
	w.check(err)
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	w.check(err)
	var release map[string]any
	w.check(json.NewDecoder(zip).Decode(&release))
	release["info"].(map[string]any)["status"] = status
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	w.check(json.NewEncoder(writer).Encode(release))
	w.check(writer.Close())
	return []byte(base64.StdEncoding.EncodeToString(out.Bytes()))
}

func replicasChangeHands(w *world) {
	w.must(0, upgrade(newer, "--set", "autoscaleEnabled=false,replicaCount=4")...)
	for _, c := range []struct {
		set  string
		want string
	}{
		{"autoscaleEnabled=true", "[4]"},
		{"autoscaleEnabled=false,replicaCount=5", "[4 5]"},
	} {
		if got := w.replicasSeen(func() { w.must(0, upgrade(newer, "--set", c.set)...) }); fmt.Sprint(got) != c.want {
			w.t.Errorf("--set %s: replicas were %v, want %s", c.set, got, c.want)
		}
	}
	w.check(w.Helm(w.t.Context(), "upgrade", "istiod", parts.Chart("istiod", newer), "-n", lab.IstioNamespace, "--reuse-values", "--server-side=false"))
	if got := w.replicasSeen(func() { w.must(0, upgrade(newer, "--set", "autoscaleEnabled=true")...) }); fmt.Sprint(got) != "[5]" {
		w.t.Errorf("client-side apply: replicas were %v, want [5]", got)
	}
}

func fewerReplicas(w *world) {
	w.want(w.must(3, upgrade(newer, "--set", "autoscaleEnabled=false,replicaCount=2")...), "it has 5 replicas", "--set pilot.replicaCount=5", "--force overrides")
}

func ensureHA(w *world) {
	w.kubectl("scale", "deployment", "istiod", "-n", lab.IstioNamespace, "--replicas=1")
	w.must(0, upgrade(newer, "--ensure-ha")...)
	if got := w.kubectl("get", "hpa", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.spec.minReplicas}"); got != "2" {
		w.t.Errorf("the autoscaler's minimum is %s", got)
	}
	if got := w.kubectl("get", "deployment", "istiod", "-n", lab.IstioNamespace, "-o", "jsonpath={.status.readyReplicas}"); got != "2" {
		w.t.Errorf("istiod has %s ready replicas", got)
	}
}

func noRights(w *world) {
	kubeconfig, err := w.KubeconfigAs("reader")
	w.check(err)
	w.kubectl("create", "clusterrolebinding", "reader", "--clusterrole=view", "--user=reader")
	w.kubectl("create", "clusterrole", "secrets", "--verb=get,list", "--resource=secrets,customresourcedefinitions,clusterrolebindings,clusterroles,rolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations")
	w.kubectl("create", "clusterrolebinding", "secrets", "--clusterrole=secrets", "--user=reader")
	w.kubeconfig = kubeconfig
	o := w.must(1, upgrade(newer, "--set", "pilot.env.A=9")...)
	w.want(o, "you lack rights", "create secrets in namespace istio-system", "patch deployments.apps in namespace istio-system")
}
