package clustertest

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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// World is a cluster as one test sees it.
type World struct {
	*lab.Cluster
	T *testing.T
	// OtherKubeconfig is another user's, where the test sets one.
	OtherKubeconfig string
}

// Outcome is what a run of the plugin left.
type Outcome struct {
	Stdout, Stderr string
	Code           int
	Took           time.Duration
}

func (o Outcome) String() string {
	return fmt.Sprintf("exit code %d after %s\n--- stdout\n%s--- stderr\n%s", o.Code, o.Took.Round(time.Millisecond), o.Stdout, o.Stderr)
}

// Run runs the plugin with arguments, without a terminal.
func (w *World) Run(args ...string) Outcome {
	w.T.Helper()
	return w.RunWith(w.T.Context(), nil, args...)
}

// RunWith runs the plugin with this standard input.
func (w *World) RunWith(ctx context.Context, stdin []byte, args ...string) Outcome {
	w.T.Helper()
	cmd := w.Command(ctx, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.T.Fatalf("run the plugin: %v", err)
	}
	wantDocument(w.T, args, out.String())
	return Outcome{out.String(), errOut.String(), cmd.ProcessState.ExitCode(), time.Since(began)}
}

// Command gives the command that runs the plugin, with a home of its own.
func (w *World) Command(ctx context.Context, args ...string) *exec.Cmd {
	kubeconfig := w.OtherKubeconfig
	if kubeconfig == "" {
		kubeconfig = w.Kubeconfig()
	}
	cmd := exec.CommandContext(ctx, Binary, args...)
	home := w.T.TempDir()
	// No request of a test leaves the machine; what is on loopback needs no proxy.
	cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "KUBECONFIG="+kubeconfig, "HOME="+home, "XDG_STATE_HOME="+home, "PATH="+filepath.Dir(Parts.Bin("kubectl"))+":"+os.Getenv("PATH"))
	return cmd
}

// Must runs the plugin and ends the test where the exit code is another.
func (w *World) Must(code int, args ...string) Outcome {
	w.T.Helper()
	o := w.Run(args...)
	if o.Code != code {
		w.T.Fatalf("%s: want exit code %d\n%s", strings.Join(args, " "), code, o)
	}
	return o
}

// Inject makes the shared injector give proxies of this version, by the
// ConfigMap that it reads, as a helm upgrade with another global.tag does.
func (w *World) Inject(version string) {
	w.T.Helper()
	ctx := w.T.Context()
	maps := w.Client().CoreV1().ConfigMaps(lab.IstioNamespace)
	cm, err := maps.Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
	w.Check(err)
	var values map[string]any
	w.Check(json.Unmarshal([]byte(cm.Data["values"]), &values))
	values["global"].(map[string]any)["tag"] = version
	raw, err := json.Marshal(values)
	w.Check(err)
	if cm.Data["values"] != string(raw) {
		cm.Data["values"] = string(raw)
		_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
		w.Check(err)
	}
	w.Check(w.AwaitInjection(ctx, "", version))
}

func (w *World) Check(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// MakeNamespace makes a namespace that is removed after the test.
func (w *World) MakeNamespace(name string, labels map[string]string) {
	w.T.Helper()
	w.Check(w.CreateNamespace(w.T.Context(), name, labels))
	w.T.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		zero := int64(0)
		if err := w.Client().CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			w.T.Error(err)
		}
	})
}

// InjectedNamespace makes a namespace whose pods the default revision injects.
func (w *World) InjectedNamespace(name string) {
	w.T.Helper()
	w.MakeNamespace(name, map[string]string{"istio-injection": "enabled"})
}

// Apply applies manifests with kubectl.
func (w *World) Apply(manifests ...string) {
	w.T.Helper()
	_, err := w.Kubectl(w.T.Context(), []byte(strings.Join(manifests, "\n---\n")), "apply", "-f", "-")
	w.Check(err)
}

// RunKubectl runs kubectl and gives its stdout.
func (w *World) RunKubectl(args ...string) string {
	w.T.Helper()
	out, err := w.Kubectl(w.T.Context(), nil, args...)
	w.Check(err)
	return out
}

// AwaitReady waits until the namespace has this many ready pods.
func (w *World) AwaitReady(namespace string, pods int) {
	w.T.Helper()
	w.Check(w.AwaitPods(w.T.Context(), namespace, "", pods, 2*time.Minute))
}

// AwaitEstablished waits until every CustomResourceDefinition is established.
// kubectl wait and its jsonpath end with an error where one has no conditions yet.
func (w *World) AwaitEstablished() {
	w.T.Helper()
	w.Eventually("the definitions", func() string {
		var list struct {
			Items []struct {
				metav1.ObjectMeta `json:"metadata"`
				Status            struct{ Conditions []metav1.Condition }
			}
		}
		w.Check(json.Unmarshal([]byte(w.RunKubectl("get", "crd", "-o", "json")), &list))
		for i := range list.Items {
			if !meta.IsStatusConditionTrue(list.Items[i].Status.Conditions, "Established") {
				return list.Items[i].Name + " is not established"
			}
		}
		return ""
	})
}

// Eventually waits for a condition, which says what is still missing.
func (w *World) Eventually(what string, condition func() string) {
	w.T.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		missing := condition()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			w.T.Fatalf("%s: %s", what, missing)
		}
		select {
		case <-w.T.Context().Done():
			w.T.Fatalf("%s: %s", what, missing)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Proxies counts the live pods of a namespace by the tag of their proxy, "" for
// pods without one, those of the workload alone where app is not "".
func (w *World) Proxies(namespace, app string) map[string]int {
	w.T.Helper()
	options := metav1.ListOptions{}
	if app != "" {
		options.LabelSelector = "app=" + app
	}
	list, err := w.Client().CoreV1().Pods(namespace).List(w.T.Context(), options)
	w.Check(err)
	counts := map[string]int{}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			counts[ProxyTag(pod)]++
		}
	}
	return counts
}

// ProxyTag gives the tag of a pod's proxy, "" where it has none.
func ProxyTag(pod *corev1.Pod) string {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == "istio-proxy" {
				return list[i].Image[strings.LastIndex(list[i].Image, ":")+1:]
			}
		}
	}
	return ""
}

// WantProxies ends the test where the workload's pods are not these.
func (w *World) WantProxies(namespace, app string, want map[string]int) {
	w.T.Helper()
	w.Eventually("proxies of "+namespace+"/"+app, func() string {
		got := w.Proxies(namespace, app)
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return ""
		}
		return fmt.Sprintf("have %v, want %v", got, want)
	})
}

// Writes gives the requests of the plugin so far that changed something.
func (w *World) Writes() []string {
	w.T.Helper()
	events, err := w.AuditEvents(w.T.Context(), "kubectl-istio-upgrade/")
	w.Check(err)
	var writes []string
	for i := range events {
		e := &events[i]
		if e.Writes() {
			writes = append(writes, e.Verb+" "+e.RequestURI)
		}
	}
	return writes
}

// Want fails the test where one of the texts is on neither stream.
func (w *World) Want(o Outcome, texts ...string) {
	w.T.Helper()
	for _, text := range texts {
		if !strings.Contains(o.Stdout+o.Stderr, text) {
			w.T.Errorf("want %q in\n%s", text, o)
		}
	}
}

// Report is the document of -o json, as far as the tests read it.
type Report struct {
	Plan struct {
		Workloads []Planned `json:"workloads"`
	} `json:"plan"`
	Result struct {
		Workloads []struct {
			Kind, Name, Outcome, Message string
		} `json:"workloads"`
	} `json:"result"`
	Left  []Planned `json:"left"`
	Error string    `json:"error"`
}

// Planned is an item of a plan.
type Planned struct {
	Kind, Name, Namespace, Verdict, Reason, How, Impact, ImpactReason, Held, Revision string
	Lags, Gateway                                                                     bool
}

// JSON decodes the document on stdout.
func (o Outcome) JSON(t *testing.T) Report {
	t.Helper()
	var r Report
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		t.Fatalf("stdout is no document: %v\n%s", err, o)
	}
	return r
}

// Find gives the plan's item for a workload.
func (r Report) Find(t *testing.T, kind, name string) Planned {
	t.Helper()
	for _, p := range r.Plan.Workloads {
		if p.Kind == kind && p.Name == name {
			return p
		}
	}
	t.Fatalf("%s %s is not in the plan: %+v", kind, name, r.Plan.Workloads)
	return Planned{}
}

// Gunzip undoes how Helm stores a release: base64 of gzip.
func Gunzip(data []byte) ([]byte, error) {
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
