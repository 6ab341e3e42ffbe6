package lab

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// legacyJobPrefix begins the names of the Jobs that bring the CRDs of Istio 1.1 to 1.5
// (istio/istio: install/kubernetes/helm/istio-init/templates/job-crd-*.yaml).
const legacyJobPrefix = "istio-init-crd"

// LegacyJobs does, until ctx ends or the cluster is stopped, what the pods of the legacy istio-init Jobs would do: kubectl
// apply of a file of their ConfigMap, with the rights of their service account. A Job is complete when that is done, and
// not before; without LegacyJobs these Jobs run on for ever. An apply that fails is tried again, as a restarted container would.
func (c *Cluster) LegacyJobs(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	todo := make(chan *corev1.Pod, 100)
	factory := informers.NewSharedInformerFactory(c.client, 0)
	informer := factory.Core().V1().Pods().Informer()
	offer := func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok && waitsForApply(pod) {
			select {
			case todo <- pod:
			case <-ctx.Done():
			}
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: offer, UpdateFunc: func(_, obj any) { offer(obj) },
	}); err != nil {
		cancel()
		return fmt.Errorf("watching the legacy Jobs' pods: %w", err)
	}
	factory.Start(ctx.Done())

	var wg sync.WaitGroup
	wg.Go(func() {
		done := map[types.UID]bool{}
		for {
			select {
			case <-ctx.Done():
				return
			case pod := <-todo:
				if done[pod.UID] {
					continue
				}
				if err := c.applyForJob(ctx, pod); err != nil {
					fmt.Fprintf(c.log, "lab: the Job's pod %s/%s failed: %v\n", pod.Namespace, pod.Name, err)
					continue
				}
				done[pod.UID] = true
			}
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closers = append(c.closers, func() error { cancel(); factory.Shutdown(); wg.Wait(); return nil })
	return nil
}

func waitsForApply(p *corev1.Pod) bool {
	return strings.HasPrefix(p.Labels["job-name"], legacyJobPrefix) && p.Status.Phase == corev1.PodRunning &&
		p.DeletionTimestamp == nil && p.Annotations[appliedAnnotation] == ""
}

// appliedAnnotation on a legacy Job's pod lets it be completed (stages/pod-complete.yaml).
const appliedAnnotation = "lab/applied"

func (c *Cluster) applyForJob(ctx context.Context, pod *corev1.Pod) error {
	for _, container := range pod.Spec.Containers {
		manifest, err := c.manifestOf(ctx, pod, container)
		if err != nil {
			return err
		}
		as := "system:serviceaccount:" + pod.Namespace + ":" + pod.Spec.ServiceAccountName
		if _, err := c.Kubectl(ctx, []byte(manifest), "apply", "--as", as, "-f", "-"); err != nil {
			// The annotation changes, so the pod comes again.
			return errors.Join(err, c.annotatePod(ctx, pod, "lab/apply-error", err.Error()))
		}
	}
	return c.annotatePod(ctx, pod, appliedAnnotation, "true")
}

// manifestOf finds the text behind a container's command "kubectl apply -f FILE", whose file lies in a mounted ConfigMap.
func (c *Cluster) manifestOf(ctx context.Context, pod *corev1.Pod, container corev1.Container) (string, error) {
	command := append(append([]string{}, container.Command...), container.Args...)
	if len(command) < 2 {
		return "", fmt.Errorf("the container %s has no command of the form kubectl apply -f FILE", container.Name)
	}
	file := command[len(command)-1]
	for _, mount := range container.VolumeMounts {
		if path.Clean(mount.MountPath) != path.Dir(file) {
			continue
		}
		for _, volume := range pod.Spec.Volumes {
			if volume.Name != mount.Name || volume.ConfigMap == nil {
				continue
			}
			cm, err := c.client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, volume.ConfigMap.Name, metav1.GetOptions{})
			if err != nil {
				return "", fmt.Errorf("reading the Job's ConfigMap: %w", err)
			}
			if text, ok := cm.Data[path.Base(file)]; ok {
				return text, nil
			}
		}
	}
	return "", fmt.Errorf("no ConfigMap is mounted that has %s", file)
}

func (c *Cluster) annotatePod(ctx context.Context, pod *corev1.Pod, key, value string) error {
	patch := `{"metadata":{"annotations":{` + quote(key) + `:` + quote(value) + `}}}`
	if _, err := c.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("marking the pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
