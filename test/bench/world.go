package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// parallel is how many requests the bench sends at a time.
const parallel = 32

func (b *bench) startLab(ctx context.Context, options lab.Options) (err error) {
	b.say("starting a lab")
	if b.Cluster, err = lab.Start(ctx, options); err != nil {
		return err
	}
	b.labOptions = options
	return b.InstallIstio(ctx, lab.OlderIstio, lab.IstioOptions{})
}

func (b *bench) stop() error {
	if b.Cluster == nil {
		return nil
	}
	c := b.Cluster
	b.Cluster = nil
	return c.Stop()
}

// machine notes what it was measured on.
func (b *bench) machine(ctx context.Context) error {
	version := func(program string, args ...string) string {
		out, err := exec.CommandContext(ctx, program, args...).Output()
		if err != nil {
			return "unknown"
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return strings.TrimSpace(first)
	}
	_, kubernetesVersion, _ := strings.Cut(version(b.parts.Bin("kubectl"), "version", "--client"), ": ")
	memory := "unknown"
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(raw), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf("%d GiB", (kib+(1<<19))>>20)
		}
	}
	b.report.facts = append(b.report.facts, fmt.Sprintf(
		"Measured on %s with %d cores and %s of memory (%s), which the API server, its controllers, istiod and the measured programs share; "+
			"%s, Kubernetes %s, Istio %s to %s, Helm %s; the plugin: %s.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), memory, runtime.GOOS+"/"+runtime.GOARCH, runtime.Version(),
		kubernetesVersion, lab.OlderIstio, lab.NewerIstio, version(b.parts.Bin("helm"), "version", "--template", "{{.Version}}"),
		version(b.plugin, "version", "--client", "-o", "jsonpath={.plugin.version}")))
	return nil
}

// kube is a client that speaks protobuf and does not throttle itself.
func (b *bench) kube() (kubernetes.Interface, error) {
	config := b.Config()
	config.ContentType = apiruntime.ContentTypeProtobuf
	return kubernetes.NewForConfig(config)
}

// inject makes the injector give another proxy from now on, as an upgrade with
// another global.tag does; every call another one, so that no workload was
// restarted for it before.
func (b *bench) inject(ctx context.Context) error {
	b.tag++
	tag := fmt.Sprintf("1.31.%d", b.tag)
	maps := b.Client().CoreV1().ConfigMaps(lab.IstioNamespace)
	cm, err := maps.Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
	if err != nil {
		return err
	}
	var values map[string]any
	if err := json.Unmarshal([]byte(cm.Data["values"]), &values); err != nil {
		return err
	}
	global, ok := values["global"].(map[string]any)
	if !ok {
		return fmt.Errorf("the injector's values have no global: %s", cm.Data["values"])
	}
	global["tag"] = tag
	raw, err := json.Marshal(values)
	if err != nil {
		return err
	}
	cm.Data["values"] = string(raw)
	if _, err := maps.Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
		return err
	}
	return b.AwaitInjection(ctx, "", tag)
}

// fleet is Deployments of one namespace.
type fleet struct {
	namespace string
	count     int
	replicas  int32
	start     func(i int) time.Duration // how long a pod takes to be ready; nil is at once
}

func (f fleet) name(i int) string { return fmt.Sprintf("web-%04d", i) }

func (f fleet) deployment(i int) *appsv1.Deployment {
	labels := map[string]string{"app": f.name(i)}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: f.name(i), Namespace: f.namespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &f.replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: "example.com/app:1",
					ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080)}}},
				}}},
			},
		},
	}
	d.APIVersion, d.Kind = "apps/v1", "Deployment"
	if f.start != nil {
		d.Spec.Template.Annotations = map[string]string{"lab/start-ms": fmt.Sprint(f.start(i).Milliseconds())}
	}
	return d
}

// launch creates a fleet in a namespace that the webhook injects, and waits
// until it is at rest.
func (b *bench) launch(ctx context.Context, f fleet) error {
	if err := b.CreateNamespace(ctx, f.namespace, map[string]string{"istio-injection": "enabled"}); err != nil {
		return err
	}
	kube, err := b.kube()
	if err != nil {
		return err
	}
	if err := each(ctx, f.count, func(ctx context.Context, i int) error {
		_, err := kube.AppsV1().Deployments(f.namespace).Create(ctx, f.deployment(i), metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	return b.rest(ctx, f)
}

// each calls fn for 0 to n-1, many at a time.
func each(ctx context.Context, n int, fn func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error { return fn(ctx, i) })
	}
	return group.Wait()
}

// rest waits until every rollout of a fleet has come to its end and no old pod
// is left.
func (b *bench) rest(ctx context.Context, f fleet) error {
	kube, err := b.kube()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		missing, err := f.unrest(ctx, kube)
		if err != nil {
			return err
		}
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s is at rest: %w (%s)", f.namespace, context.Cause(ctx), missing)
		case <-tick.C:
		}
	}
}

func (f fleet) unrest(ctx context.Context, kube kubernetes.Interface) (string, error) {
	deployments, err := kube.AppsV1().Deployments(f.namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return "", err
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if !f.isThrough(d) {
			return d.Name + " is in a rollout", nil
		}
	}
	pods, err := kube.CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return "", err
	}
	if have, want := len(pods.Items), f.count*int(f.replicas); have != want || len(deployments.Items) != f.count {
		return fmt.Sprintf("%d of %d Deployments, %d of %d pods", len(deployments.Items), f.count, have, want), nil
	}
	return "", nil
}
