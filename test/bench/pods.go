package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"istio.io/api/label"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// The Deployments whose pods become more and more.
const crowd = 200

const (
	mostMemory = 160.0 // MiB, at the goal's number of pods
	goalPods   = 10000
	mostGrowth = 1.10 // of the memory, from there to the most pods
)

// measured is what the contenders took at one number of pods.
type measured struct {
	pods int
	by   []*contender
}

// inventory reads more and more pods. Nothing runs them: they are written as
// they would be when they ran, and the controllers that would disagree are
// stopped.
func (b *bench) inventory(ctx context.Context) error {
	f := fleet{namespace: "crowd", count: crowd}
	kube, err := b.kube()
	if err != nil {
		return err
	}
	pod, err := b.injectedPod(ctx)
	if err != nil {
		return err
	}
	if err := b.CreateNamespace(ctx, f.namespace, map[string]string{"istio-injection": "enabled"}); err != nil {
		return err
	}
	for _, part := range []string{lab.Kwok, lab.ControllerManager, lab.Scheduler} {
		if err := b.StopPart(part); err != nil {
			return err
		}
	}
	if err := each(ctx, crowd, func(ctx context.Context, i int) error {
		_, err := kube.AppsV1().Deployments(f.namespace).Create(ctx, f.deployment(i), metav1.CreateOptions{})
		return err
	}); err != nil {
		return err
	}
	if err := b.inject(ctx); err != nil { // from now on all of them are stale
		return err
	}
	var all []measured
	have := 0
	for _, n := range b.pods {
		if b.profiles != "" && n != goalPods {
			continue
		}
		b.say("creating pods up to %d", n)
		if err := b.crowd(ctx, kube, f, pod, have/crowd, n/crowd); err != nil {
			return err
		}
		have = n
		m := measured{n, b.readers(f)}
		if err := b.takeTurns(ctx, b.rounds, m.by, nil); err != nil {
			return err
		}
		all = append(all, m)
	}
	if b.profiles != "" {
		return nil
	}
	if err := b.analyze(ctx, f, have); err != nil {
		return err
	}
	b.inventoryGoals(all)
	return nil
}

// readers are the contenders: the limit, the inventory alone, and the commands.
func (b *bench) readers(f fleet) []*contender {
	probe := filepath.Join(b.tools, "probe")
	run := func(args ...string) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) {
			s, _, err := b.child(ctx, "", args...)
			return s, err
		}
	}
	ours := func(what string, args ...string) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) {
			s, _, err := b.ours(ctx, what, args...)
			return s, err
		}
	}
	inventory := []string{probe, "inventory"}
	if b.profiles != "" {
		inventory = []string{probe, "-profile", filepath.Join(b.profiles, "inventory"), "inventory"}
	}
	return []*contender{
		{name: "bare paged protobuf list", do: run(probe, "list")},
		{name: "inventory", do: run(inventory...)},
		{name: "`sidecars --dry-run`, the plan", do: ours("plan", "sidecars", "-n", f.namespace, "--dry-run", "-o", "name")},
		{name: "`status -A`", do: ours("status", "status", "-A")},
	}
}

// analyze is istioctl's way to find stale proxies, at the most pods there are. It
// takes turns with ours, so that both have the same moments of the machine.
func (b *bench) analyze(ctx context.Context, f fleet, pods int) error {
	ours := &contender{name: "status -A", do: func(ctx context.Context) (sample, error) {
		s, _, err := b.ours(ctx, "status", "status", "-A")
		return s, err
	}}
	theirs := &contender{name: "istioctl analyze", do: func(ctx context.Context) (sample, error) {
		// Its exit code tells of findings, of which there are many.
		s, _, err := b.child(ctx, "", "bash", "-c", `istioctl analyze -n "$0" >/dev/null 2>&1 || test $? = 79`, f.namespace)
		return s, err
	}}
	if err := b.takeTurns(ctx, min(2, b.rounds), []*contender{ours, theirs}, nil); err != nil {
		return err
	}
	b.say("%s", b.report.faster(fmt.Sprintf("find the stale proxies of %d pods, `status -A`", pods), "`istioctl analyze`", "s",
		ours.took.of(wall), theirs.took.of(wall), 1))
	return nil
}

func (b *bench) inventoryGoals(all []measured) {
	t := table{
		title: fmt.Sprintf("More and more pods, of %d Deployments", crowd),
		text:  "The bare list and the inventory alone are run inside the same program, so that both have the same start-up.",
		head:  []string{"pods", "", "wall", "CPU", "peak memory", "of the bare list"},
	}
	var at *measured
	for i, m := range all {
		if m.pods == goalPods || at == nil {
			at = &all[i]
		}
		for _, c := range m.by {
			row := append([]string{fmt.Sprint(m.pods)}, c.took.row(c.name)...)
			t.rows = append(t.rows, append(row, ratio(c.took.of(wall), m.by[0].took.of(wall)).text("×")))
		}
	}
	last := all[len(all)-1]
	b.say("%s", b.report.atMost(fmt.Sprintf("inventory of %d pods", at.pods), "one bare paged protobuf list", "s",
		at.by[1].took.of(wall), at.by[0].took.of(wall), 1.3))
	for _, c := range at.by[1:] {
		b.say("%s", b.report.bounded(fmt.Sprintf("its peak memory at %d pods: %s", at.pods, c.name), "MiB", c.took.of(peak), mostMemory))
	}
	for i, c := range last.by[1:] {
		g := b.report.atMost(fmt.Sprintf("its peak memory at %d pods: %s", last.pods, c.name), fmt.Sprintf("at %d", at.pods), "MiB",
			[]float64{spreadOf(c.took.of(peak)).Median}, []float64{spreadOf(at.by[i+1].took.of(peak)).Median}, mostGrowth)
		b.say("%s", g)
	}
	b.report.tables = append(b.report.tables, t)
}

// injectedPod gives a pod as the real injector makes it.
func (b *bench) injectedPod(ctx context.Context) (*corev1.Pod, error) {
	f := fleet{namespace: "model", count: 1, replicas: 1}
	if err := b.launch(ctx, f); err != nil {
		return nil, err
	}
	pods, err := b.Client().CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("%d pods instead of one model", len(pods.Items))
	}
	return &pods.Items[0], nil
}

// crowd gives each Deployment its pods from one number to another, and a status
// that says they are all there.
func (b *bench) crowd(ctx context.Context, kube kubernetes.Interface, f fleet, model *corev1.Pod, from, to int) error {
	const hash = "5f4dcc3b5a"
	pods := kube.CoreV1().Pods(f.namespace)
	step := to - from
	if err := each(ctx, crowd*step, func(ctx context.Context, n int) error {
		name := f.name(n / step)
		set := name + "-" + hash
		yes := true
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: set + "-" + strconv.Itoa(from+n%step), Namespace: f.namespace, GenerateName: set + "-",
			Annotations: model.Annotations,
			Labels: map[string]string{
				"app": name, appsv1.DefaultDeploymentUniqueLabelKey: hash, "security.istio.io/tlsMode": "istio",
				"service.istio.io/canonical-name": name, "service.istio.io/canonical-revision": "latest",
				label.SidecarInject.Name: "false", // they are injected already: the webhook is not asked
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set, UID: types.UID("00000000-0000-4000-8000-000000000000"), Controller: &yes,
			}},
		}, Spec: *model.Spec.DeepCopy()}
		made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		made.Status = model.Status
		_, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{})
		return err
	}); err != nil {
		return err
	}
	replicas := int32(to)
	return each(ctx, crowd, func(ctx context.Context, i int) error {
		d, err := kube.AppsV1().Deployments(f.namespace).Get(ctx, f.name(i), metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Spec.Replicas = &replicas
		if d, err = kube.AppsV1().Deployments(f.namespace).Update(ctx, d, metav1.UpdateOptions{}); err != nil {
			return err
		}
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
		}
		_, err = kube.AppsV1().Deployments(f.namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
		return err
	})
}
