package workload

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// samplePods is how many names of pods are kept of each kind: memory must not
// grow with the number of pods.
const samplePods = 5

// Pods sums up the live pods of one workload: those that have neither finished
// nor are being deleted.
type Pods struct {
	Total, Ready int32
	// Proxies counts the pods by the proxy that runs in them.
	Proxies map[Proxy]*Sample
	// Bare counts the pods without a proxy.
	Bare Sample
	// Startup is how long the quickest of the ready pods took from its creation
	// to being ready, which no later loss of readiness makes longer; 0 unknown.
	Startup time.Duration
	// Node is the name of a node that one of the pods runs on.
	Node string
	// Trouble says why a pod is not ready, in words, "" where none is in
	// trouble or nothing is known.
	Trouble string
	// Labels and Annotations are those of one pod, kept only for owners that
	// have no template to ask: bare pods and owners of unknown kinds.
	Labels, Annotations map[string]string
	// Mirror is true for the pods of a node's static manifests.
	Mirror bool
}

// Sample counts pods and keeps the names of some.
type Sample struct {
	Count int32
	Names []string
	// Digest is the sha256 of the image that the kubelet reports, "" unknown.
	Digest string
	// Trouble says why one of them does not come up where it hangs on what
	// injection brought, "" where none does.
	Trouble string
}

func (s *Sample) add(name string) {
	s.Count++
	if len(s.Names) < samplePods {
		s.Names = append(s.Names, name)
	}
}

// HasProxy says whether a proxy runs in any of the pods.
func (p *Pods) HasProxy() bool { return p != nil && len(p.Proxies) > 0 }

// add takes a live pod into the sum.
func (p *Pods) add(pod *corev1.Pod) {
	p.Total++
	if Ready(pod) {
		p.Ready++
		p.Startup = quicker(p.Startup, startup(pod))
	} else if p.Trouble == "" {
		p.Trouble = Trouble(pod)
	}
	if p.Node == "" {
		p.Node = pod.Spec.NodeName
	}
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	p.Mirror = p.Mirror || mirror
	proxy, ok := ProxyOf(pod.Annotations, &pod.Spec)
	if !ok {
		p.Bare.add(pod.Name)
		return
	}
	sample := p.Proxies[proxy]
	if sample == nil {
		sample = &Sample{}
		p.Proxies[proxy] = sample
	}
	sample.add(pod.Name)
	if sample.Trouble == "" && !Ready(pod) {
		sample.Trouble = trouble(pod, proxy.injected)
	}
	if digest := Digest(ImageIDOf(&pod.Status)); digest != "" {
		sample.Digest = digest
	}
}

// startup is how long a ready pod took to be so, at least 1 s: the API's times
// are in whole seconds.
func startup(pod *corev1.Pod) time.Duration {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
			return max(c.LastTransitionTime.Sub(pod.CreationTimestamp.Time), time.Second)
		}
	}
	return 0
}

// quicker gives the shorter of two times, 0 being unknown.
func quicker(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// merge takes another sum into this one: a Deployment in the middle of a
// rollout has the pods of several ReplicaSets.
func (p *Pods) merge(o *Pods) {
	p.Total += o.Total
	p.Ready += o.Ready
	p.Mirror = p.Mirror || o.Mirror
	p.Startup = quicker(p.Startup, o.Startup)
	if p.Node == "" {
		p.Node = o.Node
	}
	if p.Trouble == "" {
		p.Trouble = o.Trouble
	}
	mergeSample(&p.Bare, &o.Bare)
	for proxy, sample := range o.Proxies {
		if mine := p.Proxies[proxy]; mine != nil {
			mergeSample(mine, sample)
		} else {
			p.Proxies[proxy] = sample
		}
	}
}

func mergeSample(into, from *Sample) {
	into.Count += from.Count
	into.Names = append(into.Names, from.Names[:min(len(from.Names), samplePods-len(into.Names))]...)
	if from.Digest != "" {
		into.Digest = from.Digest
	}
	into.Trouble = cmp.Or(into.Trouble, from.Trouble)
}

// Sorted gives the proxies of the pods, most pods first, and of equally many
// always in the same order.
func (p *Pods) Sorted() []Proxy {
	if p == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(p.Proxies), func(a, b Proxy) int {
		return cmp.Or(
			cmp.Compare(p.Proxies[b].Count, p.Proxies[a].Count), cmp.Compare(a.Image, b.Image),
			cmp.Compare(form(a), form(b)), cmp.Compare(a.Containers, b.Containers))
	})
}

// form orders the classic form before the native one.
func form(p Proxy) int {
	if p.Native {
		return 1
	}
	return 0
}

// Trouble says in words why a pod does not come up, "" where it merely starts:
// an image that cannot be pulled, a container that crashes or cannot be made.
func Trouble(pod *corev1.Pod) string {
	return trouble(pod, func(string) bool { return true })
}

// trouble is Trouble of the containers with these names.
func trouble(pod *corev1.Pod, counts func(name string) bool) string {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			waiting := list[i].State.Waiting
			if waiting == nil || !fatalWaiting[waiting.Reason] || !counts(list[i].Name) || strings.Contains(waiting.Message, cachesNotFilled) {
				continue
			}
			text := waiting.Reason + " of container " + list[i].Name
			if waiting.Message != "" {
				text += ": " + waiting.Message
			}
			return text
		}
	}
	return ""
}

// Unschedulable says in words why a pod fits no node, "" where it has one or
// waits for nothing. It may pass by itself: nodes come and go.
func Unschedulable(pod *corev1.Pod) string {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return "fits no node: " + c.Message
		}
	}
	return ""
}

// cachesNotFilled stands in the message of a container that waits for a ConfigMap
// or a Secret which the kubelet has not read yet: it tries again at once
// (kubernetes pkg/kubelet/util/manager/watch_based_manager.go).
const cachesNotFilled = "failed to sync"

// fatalWaiting are the reasons of a waiting container that do not go away by
// waiting a little (kubernetes pkg/kubelet/images, pkg/kubelet/kuberuntime).
// ErrImagePull is left out: ImagePullBackOff follows it where it lasts.
var fatalWaiting = map[string]bool{
	"ImagePullBackOff":           true,
	"InvalidImageName":           true,
	"ErrImageNeverPull":          true,
	"ImageInspectError":          true,
	"CrashLoopBackOff":           true,
	"CreateContainerConfigError": true,
	"CreateContainerError":       true,
	"RunContainerError":          true,
	"PreCreateHookError":         true,
	"PreStartHookError":          true,
	"PostStartHookError":         true,
}
