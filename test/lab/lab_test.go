package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// start starts a cluster that is stopped when the test ends, and shows the logs of its parts when it failed.
func start(t *testing.T, opts lab.Options) *lab.Cluster {
	t.Helper()
	opts.Log = t.Output()
	c, err := lab.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Err(); err != nil {
			t.Errorf("a part died: %v", err)
		}
		if err := c.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// workload is a Deployment of one pod in the namespace app, injected by its namespace's label.
func workload(name, annotations string) []byte {
	return fmt.Appendf(nil, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s, namespace: app},
  spec: {replicas: 1, selector: {matchLabels: {app: %[1]s}}, template: {metadata: {labels: {app: %[1]s}, annotations: {%[2]s}},
  spec: {containers: [{name: app, image: "registry.example.com/app:1"}]}}}}`, name, annotations)
}

func apply(t *testing.T, c *lab.Cluster, manifest []byte) {
	t.Helper()
	_, err := c.Kubectl(t.Context(), manifest, "apply", "-f", "-")
	must(t, err)
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, done func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		ok, err := done(ctx)
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute (last error: %v)", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func onlyPod(ctx context.Context, c *lab.Cluster, app string) (*corev1.Pod, error) {
	pods, err := c.Client().CoreV1().Pods("app").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, err
	}
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("%d pods of %s", len(pods.Items), app)
	}
	return &pods.Items[0], nil
}

// TestIstio goes through what one cluster with Istio offers, in an order in which each part leaves the next what it needs.
func TestIstio(t *testing.T) {
	c := start(t, lab.Options{AuditLog: true})
	must(t, c.InstallIstio(t.Context(), lab.OlderIstio, lab.IstioOptions{}))
	must(t, c.CreateNamespace(t.Context(), "app", map[string]string{"istio-injection": "enabled"}))

	t.Run("failing pods", failingPods(c))
	t.Run("fail and recover", failAndRecover(c))
	t.Run("start time", startTime(c))
	t.Run("legacy jobs", legacyJobs(c))
	t.Run("audit", audit(c))
	t.Run("another user", anotherUser(c))
	t.Run("chart sources", chartSources(c))

	t.Run("a second revision", func(t *testing.T) {
		must(t, c.InstallIstio(t.Context(), lab.NewerIstio, lab.IstioOptions{Revision: "canary"}))
		image, err := c.InjectedImage(t.Context(), "")
		must(t, err)
		if !strings.HasSuffix(image, ":"+lab.OlderIstio) {
			t.Errorf("beside the canary the default revision injects %s, want %s", image, lab.OlderIstio)
		}
	})
	t.Run("an upgrade changes what is injected", func(t *testing.T) {
		must(t, c.Helm(t.Context(), "upgrade", "istiod", c.Parts.Chart("istiod", lab.NewerIstio), "-n", lab.IstioNamespace, "--reset-then-reuse-values"))
		must(t, c.AwaitInjection(t.Context(), "", lab.NewerIstio))
	})
	t.Run("the injector fails and comes back", func(t *testing.T) {
		must(t, c.StopIstiod(""))
		if image, err := c.InjectedImage(t.Context(), ""); err == nil {
			t.Errorf("a stopped injector injected %s", image)
		} else if !strings.Contains(err.Error(), "failed calling webhook") {
			t.Errorf("a stopped injector: %v", err)
		}
		must(t, c.StartIstiod(t.Context(), ""))
	})
	t.Run("the API server comes back", func(t *testing.T) {
		before := c.Config().Host
		must(t, c.RestartAPIServer(t.Context()))
		if c.Config().Host != before {
			t.Errorf("it was at %s and is at %s", before, c.Config().Host)
		}
		must(t, c.AwaitInjection(t.Context(), "", lab.NewerIstio))
	})
}

func failingPods(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		tests := []struct {
			mode   lab.FailMode
			reason func(p *corev1.Pod) string
			want   string
			event  string
		}{
			{lab.FailImagePull, waiting, "ImagePullBackOff", "Failed"},
			{lab.FailCrash, waiting, "CrashLoopBackOff", "BackOff"},
			{lab.FailCreating, waiting, "PodInitializing", "FailedCreatePodSandBox"},
			{lab.FailNeverReady, unready, "ContainersNotReady", "Unhealthy"},
		}
		for _, test := range tests {
			t.Run(string(test.mode), func(t *testing.T) {
				name := "fails-" + string(test.mode)
				apply(t, c, workload(name, "lab/fail: "+string(test.mode)))
				eventually(t, "the pod fails", func(ctx context.Context) (bool, error) {
					pod, err := onlyPod(ctx, c, name)
					if err != nil {
						return false, err
					}
					if got := test.reason(pod); got != test.want {
						return false, fmt.Errorf("the reason is %q, want %q", got, test.want)
					}
					return true, nil
				})
				eventually(t, "the event", func(ctx context.Context) (bool, error) {
					events, err := c.Client().CoreV1().Events("app").List(ctx, metav1.ListOptions{FieldSelector: "reason=" + test.event})
					return err == nil && len(events.Items) > 0 && events.Items[0].Type == corev1.EventTypeWarning, err
				})
			})
		}
		t.Run("only with the tag", func(t *testing.T) {
			apply(t, c, workload("later", "lab/fail: crash, lab/fail-tag: "+lab.NewerIstio))
			must(t, c.AwaitPods(t.Context(), "app", "app=later", 1, time.Minute))
		})
	}
}

// waiting is the reason why a container has not started, an init container's first.
func waiting(p *corev1.Pod) string {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.State.Waiting != nil {
			return s.State.Waiting.Reason
		}
	}
	return ""
}

func unready(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse {
			return c.Reason
		}
	}
	return ""
}

func failAndRecover(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		recovers, err := c.FailPods(t.Context(), lab.Failing{
			Mode: lab.FailImagePull, Namespace: "app", Labels: map[string]string{"app": "unlucky"}, ProxyTag: lab.OlderIstio,
		})
		must(t, err)
		apply(t, c, workload("unlucky", ""))
		apply(t, c, workload("lucky", ""))
		eventually(t, "the chosen pod fails", func(ctx context.Context) (bool, error) {
			pod, err := onlyPod(ctx, c, "unlucky")
			return err == nil && waiting(pod) == "ImagePullBackOff", err
		})
		must(t, c.AwaitPods(t.Context(), "app", "app=lucky", 1, time.Minute))
		must(t, recovers(t.Context()))
		must(t, c.AwaitPods(t.Context(), "app", "app=unlucky", 1, time.Minute))
	}
}

func startTime(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		const want = 2 * time.Second
		check := func(t *testing.T, name string) {
			t.Helper()
			must(t, c.AwaitPods(t.Context(), "app", "app="+name, 1, time.Minute))
			pod, err := onlyPod(t.Context(), c, name)
			must(t, err)
			// Both times are whole seconds, so the difference may be short by one.
			if took := pod.Status.StartTime.Sub(pod.CreationTimestamp.Time); took < want-time.Second {
				t.Errorf("%s was ready after %s, want %s", name, took, want)
			}
		}
		apply(t, c, workload("slow", `lab/start-ms: "2000"`))
		check(t, "slow")
		must(t, c.SetPodStart(t.Context(), want))
		apply(t, c, workload("slow-too", ""))
		check(t, "slow-too")
		must(t, c.SetPodStart(t.Context(), 0))
	}
}

func legacyJobs(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		must(t, c.LegacyJobs(t.Context()))
		must(t, c.CreateNamespace(t.Context(), "legacy", nil))
		apply(t, c, []byte(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: init, namespace: legacy}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: init}, subjects: [{kind: ServiceAccount, name: init, namespace: legacy}],
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: crd-10, namespace: legacy}, data: {crd-10.yaml: "
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: adapters.config.istio.io}, spec: {group: config.istio.io,
 names: {kind: adapter, plural: adapters}, scope: Namespaced, versions: [{name: v1alpha2, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}"}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: istio-init-crd-10-1.4.10, namespace: legacy}, spec: {template: {spec: {restartPolicy: OnFailure, serviceAccountName: init,
 volumes: [{name: crd-10, configMap: {name: crd-10}}], containers: [{name: init, image: "docker.io/istio/kubectl:1.4.10",
 command: [kubectl, apply, -f, /etc/istio/crd-10/crd-10.yaml], volumeMounts: [{name: crd-10, mountPath: /etc/istio/crd-10}]}]}}}}`))
		_, err := c.Kubectl(t.Context(), nil, "wait", "-n", "legacy", "--for=condition=Complete", "--timeout=60s", "job/istio-init-crd-10-1.4.10")
		must(t, err)
		// The Job is complete, so the CRD must be there already.
		_, err = c.Kubectl(t.Context(), nil, "get", "crd", "adapters.config.istio.io")
		must(t, err)
	}
}

func audit(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		for _, verb := range []string{"create", "get"} {
			args := []string{verb, "configmap", "audited", "-n", "app"}
			if out, err := c.Kubectl(t.Context(), nil, args...); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
		}
		_, err := c.Kubectl(t.Context(), nil, "create", "configmap", "never", "-n", "app", "--dry-run=server")
		must(t, err)
		events, err := c.AuditEvents(t.Context(), "kubectl/")
		must(t, err)
		var written, read []string
		for _, e := range events {
			if e.Object.Resource != "configmaps" || e.Object.Namespace != "app" {
				continue
			}
			if e.Writes() {
				written = append(written, e.Object.Name)
			} else if e.Verb == "get" {
				read = append(read, e.Object.Name)
			}
		}
		if fmt.Sprint(written) != "[audited]" || fmt.Sprint(read) != "[audited]" {
			t.Errorf("written %v, read %v; want audited for each, and the dry-run as neither", written, read)
		}
		if other, err := c.AuditEvents(t.Context(), "nobody/"); err != nil || len(other) != 0 {
			t.Errorf("requests of nobody: %v, %v", other, err)
		}
	}
}

func anotherUser(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		path, err := c.KubeconfigAs("eve")
		must(t, err)
		_, err = c.Kubectl(t.Context(), nil, "--kubeconfig", path, "get", "pods", "-A")
		if err == nil || !strings.Contains(err.Error(), `User "eve" cannot list resource "pods"`) {
			t.Errorf("a user without rights lists pods: %v", err)
		}
	}
}

func chartSources(c *lab.Cluster) func(*testing.T) {
	return func(t *testing.T) {
		repository, err := c.ServeHTTPRepo(t.Context())
		must(t, err)
		registry, err := c.ServeOCI(t.Context())
		must(t, err)
		for _, version := range []string{lab.OlderIstio, lab.NewerIstio} {
			for _, name := range []string{"base", "istiod", "cni", "ztunnel", "gateway"} {
				dir := t.TempDir()
				must(t, c.Helm(t.Context(), "pull", name, "--repo", repository, "--version", version, "-d", dir))
				samePackage(t, filepath.Join(dir, name+"-"+version+".tgz"), c.Parts.Chart(name, version))
				must(t, c.Helm(t.Context(), "pull", registry+"/"+name, "--plain-http", "--version", version, "-d", t.TempDir()))
			}
		}
	}
}

func samePackage(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	must(t, err)
	b, err := os.ReadFile(want)
	must(t, err)
	if string(a) != string(b) {
		t.Errorf("%s is not %s", got, want)
	}
}

// TestSideBySide runs two clusters at the same time, one of which gives out native sidecars, and looks that nothing of either is
// left in the end.
func TestSideBySide(t *testing.T) {
	classic, native := lab.Options{Nodes: 1}, lab.Options{Nodes: 1, NativeSidecars: true}
	for name, opts := range map[string]lab.Options{"classic": classic, "native": native} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, opts)
			must(t, c.InstallIstio(t.Context(), lab.NewerIstio, lab.IstioOptions{}))
			must(t, c.CreateNamespace(t.Context(), "app", map[string]string{"istio-injection": "enabled"}))
			apply(t, c, workload("web", ""))
			must(t, c.AwaitPods(t.Context(), "app", "app=web", 1, time.Minute))
			pod, err := onlyPod(t.Context(), c, "web")
			must(t, err)
			want := name == "native"
			got := false
			for _, i := range pod.Spec.InitContainers {
				got = got || i.Name == "istio-proxy"
			}
			if got != want {
				t.Errorf("a native sidecar: %v, want %v", got, want)
			}

			pids := processes(t, c)
			if len(pids) != 6 {
				t.Errorf("%d processes, want etcd, three of Kubernetes, kwok and istiod: %v", len(pids), pids)
			}
			must(t, c.Stop())
			for part, pid := range pids {
				if err := alive(pid); err == nil {
					t.Errorf("%s (pid %d) outlived Stop", part, pid)
				}
			}
			if _, err := os.Stat(c.Dir()); !os.IsNotExist(err) {
				t.Errorf("the temporary folder %s is still there", c.Dir())
			}
		})
	}
}

// processes are the process ids in the cluster's state.
func processes(t *testing.T, c *lab.Cluster) map[string]int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir(), "lab.json"))
	must(t, err)
	var state struct {
		Processes []struct {
			Name string `json:"name"`
			PID  int    `json:"pid"`
		} `json:"processes"`
	}
	must(t, json.Unmarshal(b, &state))
	pids := map[string]int{}
	for _, p := range state.Processes {
		pids[p.Name] = p.PID
	}
	return pids
}

// TestDetached starts a cluster the way "lab up" does, finds it again and takes it down.
func TestDetached(t *testing.T) {
	dir := t.TempDir()
	first := start(t, lab.Options{Dir: dir, Detached: true, Nodes: 1})
	if _, err := lab.Start(t.Context(), lab.Options{Dir: dir, Detached: true}); err == nil || !strings.Contains(err.Error(), "already up") {
		t.Errorf("a second cluster in the same folder: %v", err)
	}
	second, err := lab.Attach(dir, nil)
	must(t, err)
	pids := processes(t, first)
	_, err = second.Client().CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	must(t, err)
	must(t, first.Stop())
	for part, pid := range pids {
		if err := alive(pid); err == nil {
			t.Errorf("%s (pid %d) outlived Stop", part, pid)
		}
	}
	if _, err := lab.Attach(dir, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("attaching to what was taken down: %v", err)
	}
}

func TestDeadPart(t *testing.T) {
	opts := lab.Options{Nodes: 1, Log: t.Output()}
	c, err := lab.Start(t.Context(), opts)
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop()) })
	must(t, c.Err())
	kill(t, processes(t, c)[lab.APIServer])
	eventually(t, "the death is noticed", func(context.Context) (bool, error) { return c.Err() != nil, nil })
	for _, want := range []string{"kube-apiserver ended by itself", "signal: killed", "kube-apiserver.log ends with:\n"} {
		if !strings.Contains(c.Err().Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, c.Err())
		}
	}
}

func TestShop(t *testing.T) {
	c := start(t, lab.Options{})
	must(t, c.InstallIstio(t.Context(), lab.OlderIstio, lab.IstioOptions{}))
	must(t, c.ApplyShop(t.Context()))
	workloads := 0
	for _, ns := range lab.ShopNamespaces {
		pods, err := c.Client().CoreV1().Pods(ns.Name).List(t.Context(), metav1.ListOptions{})
		must(t, err)
		if len(pods.Items) != ns.Pods {
			t.Errorf("%s has %d pods, want %d", ns.Name, len(pods.Items), ns.Pods)
		}
		for _, p := range pods.Items {
			if got := proxyTag(&p); got != lab.OlderIstio {
				t.Errorf("%s/%s has the proxy %q, want %s", ns.Name, p.Name, got, lab.OlderIstio)
			}
		}
		out, err := c.Kubectl(t.Context(), nil, "get", "deploy,sts,ds,cronjob", "-n", ns.Name, "-o", "name")
		must(t, err)
		workloads += len(strings.Fields(out))
	}
	if workloads < 24 {
		t.Errorf("the shop has %d workloads, want about 25", workloads)
	}
	paused, err := c.Client().AppsV1().Deployments("shop").Get(t.Context(), "wishlist", metav1.GetOptions{})
	must(t, err)
	if !paused.Spec.Paused {
		t.Error("wishlist is not paused")
	}
	_, err = c.Client().CoreV1().Pods("shop").Get(t.Context(), "debug-toolbox", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		t.Error("the bare pod is missing")
	}
}

func proxyTag(p *corev1.Pod) string {
	for _, c := range append(p.Spec.Containers, p.Spec.InitContainers...) {
		if c.Name == "istio-proxy" {
			return c.Image[strings.LastIndex(c.Image, ":")+1:]
		}
	}
	return ""
}
