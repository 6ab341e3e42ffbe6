package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// world is a cluster as one test sees it.
type world struct {
	*lab.Cluster
	t *testing.T
	// kubeconfig is another user's, where the test sets one.
	kubeconfig string
}

// outcome is what a run of the plugin left.
type outcome struct {
	Stdout, Stderr string
	Code           int
	Took           time.Duration
}

func (o outcome) String() string {
	return fmt.Sprintf("exit code %d after %s\n--- stdout\n%s--- stderr\n%s", o.Code, o.Took.Round(time.Millisecond), o.Stdout, o.Stderr)
}

// run runs the plugin with arguments, without a terminal.
func (w *world) run(args ...string) outcome {
	w.t.Helper()
	return w.runWith(w.t.Context(), nil, args...)
}

func (w *world) runWith(ctx context.Context, stdin []byte, args ...string) outcome {
	w.t.Helper()
	cmd := w.command(ctx, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("run the plugin: %v", err)
	}
	return outcome{out.String(), errOut.String(), cmd.ProcessState.ExitCode(), time.Since(began)}
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	kubeconfig := w.kubeconfig
	if kubeconfig == "" {
		kubeconfig = w.Kubeconfig()
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	home := w.t.TempDir()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+home, "XDG_STATE_HOME="+home, "PATH="+filepath.Dir(parts.Bin("kubectl"))+":"+os.Getenv("PATH"))
	return cmd
}

// must runs the plugin and ends the test where the exit code is another.
func (w *world) must(code int, args ...string) outcome {
	w.t.Helper()
	o := w.run(args...)
	if o.Code != code {
		w.t.Fatalf("%s: want exit code %d\n%s", strings.Join(args, " "), code, o)
	}
	return o
}

// inject makes the shared injector give proxies of this version, by the
// ConfigMap that it reads, as a helm upgrade with another global.tag does.
func (w *world) inject(version string) {
	w.t.Helper()
	ctx := w.t.Context()
	maps := w.Client().CoreV1().ConfigMaps(lab.IstioNamespace)
	cm, err := maps.Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
	w.check(err)
	var values map[string]any
	w.check(json.Unmarshal([]byte(cm.Data["values"]), &values))
	values["global"].(map[string]any)["tag"] = version
	raw, err := json.Marshal(values)
	w.check(err)
	if cm.Data["values"] != string(raw) {
		cm.Data["values"] = string(raw)
		_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
		w.check(err)
	}
	w.check(w.AwaitInjection(ctx, "", version))
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// namespace makes a namespace that is removed after the test.
func (w *world) namespace(name string, labels map[string]string) {
	w.t.Helper()
	w.check(w.CreateNamespace(w.t.Context(), name, labels))
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		zero := int64(0)
		if err := w.Client().CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			w.t.Error(err)
		}
	})
}

// injected makes a namespace whose pods the default revision injects.
func (w *world) injected(name string) {
	w.t.Helper()
	w.namespace(name, map[string]string{"istio-injection": "enabled"})
}

// apply applies manifests with kubectl.
func (w *world) apply(manifests ...string) {
	w.t.Helper()
	_, err := w.Kubectl(w.t.Context(), []byte(strings.Join(manifests, "\n---\n")), "apply", "-f", "-")
	w.check(err)
}

// kubectl runs kubectl and gives its stdout.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.Kubectl(w.t.Context(), nil, args...)
	w.check(err)
	return out
}

// ready waits until the namespace has this many ready pods.
func (w *world) ready(namespace string, pods int) {
	w.t.Helper()
	w.check(w.AwaitPods(w.t.Context(), namespace, "", pods, 2*time.Minute))
}

// eventually waits for a condition, which says what is still missing.
func (w *world) eventually(what string, condition func() string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		missing := condition()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %s", what, missing)
		}
		select {
		case <-w.t.Context().Done():
			w.t.Fatalf("%s: %s", what, missing)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// proxies counts the live pods of a namespace by the tag of their proxy, "" for
// pods without one, those of the workload alone where app is not "".
func (w *world) proxies(namespace, app string) map[string]int {
	w.t.Helper()
	options := metav1.ListOptions{}
	if app != "" {
		options.LabelSelector = "app=" + app
	}
	list, err := w.Client().CoreV1().Pods(namespace).List(w.t.Context(), options)
	w.check(err)
	counts := map[string]int{}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			counts[proxyTag(pod)]++
		}
	}
	return counts
}

func proxyTag(pod *corev1.Pod) string {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == "istio-proxy" {
				return list[i].Image[strings.LastIndex(list[i].Image, ":")+1:]
			}
		}
	}
	return ""
}

// wantProxies ends the test where the workload's pods are not these.
func (w *world) wantProxies(namespace, app string, want map[string]int) {
	w.t.Helper()
	w.eventually("proxies of "+namespace+"/"+app, func() string {
		got := w.proxies(namespace, app)
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return ""
		}
		return fmt.Sprintf("have %v, want %v", got, want)
	})
}

// report is the document of -o json, as far as the tests read it.
type report struct {
	Plan struct {
		Workloads []planned `json:"workloads"`
	} `json:"plan"`
	Result struct {
		Workloads []struct {
			Kind, Name, Outcome, Message string
		} `json:"workloads"`
	} `json:"result"`
	Left  []planned `json:"left"`
	Error string    `json:"error"`
}

type planned struct {
	Kind, Name, Namespace, Verdict, Reason, How, Impact, ImpactReason, Held, Revision string
	Lags, Gateway                                                                     bool
}

// json decodes the document on stdout.
func (o outcome) json(t *testing.T) report {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		t.Fatalf("stdout is no document: %v\n%s", err, o)
	}
	return r
}

// find gives the plan's item for a workload.
func (r report) find(t *testing.T, kind, name string) planned {
	t.Helper()
	for _, p := range r.Plan.Workloads {
		if p.Kind == kind && p.Name == name {
			return p
		}
	}
	t.Fatalf("%s %s is not in the plan: %+v", kind, name, r.Plan.Workloads)
	return planned{}
}

// gunzip undoes how Helm stores a release: base64 of gzip.
func gunzip(data []byte) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
