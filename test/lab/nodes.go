package lab

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// kwok works on that many pods and nodes at a time (its own default is 4).
const kwokConfig = `apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  podPlayStageParallelism: 32
  nodePlayStageParallelism: 4
`

// Versions that the nodes' kubelets claim to be. istiod gives out native sidecars when every kubelet is 1.33 or
// newer, and the classic form when it cannot read a version (istio.io/istio: pkg/kube/inject, native sidecar detection).
const (
	kubeletNative  = kubernetesVersion
	kubeletClassic = "kwok"
)

func (c *Cluster) makeNodes(ctx context.Context) error {
	kubelet := kubeletClassic
	if c.opts.NativeSidecars {
		kubelet = kubeletNative
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("10k"),
		corev1.ResourceMemory: resource.MustParse("100Ti"),
		corev1.ResourcePods:   resource.MustParse("100k"),
	}
	for i := range c.opts.Nodes {
		name := fmt.Sprintf("node-%d", i+1)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
			Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
				"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", // older charts select on these
				corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3+1), corev1.LabelTopologyRegion: "lab",
			},
		}}
		made, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating %s: %w", name, err)
		}
		made.Status.Capacity, made.Status.Allocatable = room, room
		made.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)},
			{Type: corev1.NodeHostName, Address: name},
		}
		made.Status.NodeInfo = corev1.NodeSystemInfo{
			Architecture: "amd64", OperatingSystem: "linux", KubeletVersion: kubelet,
			KernelVersion: "lab", OSImage: "lab", ContainerRuntimeVersion: "lab://1",
		}
		if _, err := c.client.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("giving %s its capacity: %w", name, err)
		}
	}
	return nil
}

// RaiseKubelets has the nodes' kubelets claim a version for which istiod injects native sidecars, as after an upgrade
// of the nodes.
func (c *Cluster) RaiseKubelets(ctx context.Context) error {
	patch := fmt.Sprintf(`{"status":{"nodeInfo":{"kubeletVersion":%q}}}`, kubeletNative)
	for i := range c.opts.Nodes {
		name := fmt.Sprintf("node-%d", i+1)
		if _, err := c.client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			return fmt.Errorf("raising the kubelet of %s: %w", name, err)
		}
	}
	return nil
}

func (c *Cluster) awaitNodes(ctx context.Context) error {
	return c.await(ctx, "the nodes", time.Minute, func(ctx context.Context) error {
		nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, n := range nodes.Items {
			if !nodeReady(&n) {
				return fmt.Errorf("%s is not ready", n.Name)
			}
		}
		return nil
	})
}

// nodeReady: the scheduler uses a node once it is ready and the controller manager took the taint away.
func nodeReady(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady {
			return false
		}
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status == corev1.ConditionTrue
		}
	}
	return false
}
