package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// FailMode is a way in which pods do not become ready.
type FailMode string

// The ways. Each is also a value of the annotation (or label) lab/fail of a pod; with the annotation lab/fail-tag beside it,
// only a pod whose proxy has that tag fails.
const (
	FailImagePull  FailMode = "image-pull"  // ImagePullBackOff of the first container with the proxy's image
	FailCrash      FailMode = "crash"       // CrashLoopBackOff of the proxy
	FailNeverReady FailMode = "never-ready" // runs, and its readiness probe never answers
	FailCreating   FailMode = "creating"    // ContainerCreating, with the kubelet's event FailedCreatePodSandBox
)

var failModes = []FailMode{FailImagePull, FailCrash, FailNeverReady, FailCreating}

// Failing says which pods fail and how.
type Failing struct {
	Mode      FailMode
	Namespace string            // "" is every namespace
	Labels    map[string]string // that a pod must have; none is every pod
	ProxyTag  string            // of the proxy's image, or its beginning; "" is every pod
}

// FailPods has pods fail from now on, until restore is called; then they become ready. Pods that are ready already are left
// as they are.
func (c *Cluster) FailPods(ctx context.Context, f Failing) (restore func(context.Context) error, err error) {
	name := fmt.Sprintf("fail-%s-%d", f.Mode, time.Now().UnixNano())
	stage, err := failStage(name, f.Mode, f.expressions())
	if err != nil {
		return nil, err
	}
	if err := c.createStage(ctx, stage); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := c.dynamic.Resource(stageResource).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("deleting the stage %s: %w", name, err)
		}
		return c.wakePods(ctx, f)
	}, nil
}

// wakePods touches the pods that failed, because kwok looks at a pod again only when it changes; again and again until
// they are ready, because it may not know yet that the stage is gone, but not for long: a pod may have other reasons.
func (c *Cluster) wakePods(ctx context.Context, f Failing) error {
	for range 10 {
		left, err := c.wakeOnce(ctx, f)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waking the pods that failed: %w", ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// wakeOnce touches the pods that are not ready, and says how many there were.
func (c *Cluster) wakeOnce(ctx context.Context, f Failing) (int, error) {
	pods, err := c.client.CoreV1().Pods(f.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(f.Labels).String(),
	})
	if err != nil {
		return 0, fmt.Errorf("listing the pods that failed: %w", err)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"lab/woken":"%d"}}}`, time.Now().UnixNano())
	left := 0
	for _, p := range pods.Items {
		if podReady(&p) || p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
			continue
		}
		left++
		if _, err := c.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return left, fmt.Errorf("waking the pod %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	return left, nil
}

func (f Failing) expressions() []any {
	var all []any
	if f.Namespace != "" {
		all = append(all, jq(".metadata.namespace == "+quote(f.Namespace)))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Labels)) {
		all = append(all, jq(".metadata.labels["+quote(k)+"] == "+quote(f.Labels[k])))
	}
	if f.ProxyTag != "" {
		all = append(all, jq(proxyTagStarts(quote(f.ProxyTag))))
	}
	return all
}

// annotatedToFail matches the pods that ask for a failure by themselves.
func annotatedToFail(mode FailMode) []any {
	return []any{
		jq(`(.metadata.annotations["lab/fail"] // .metadata.labels["lab/fail"]) == ` + quote(string(mode))),
		jq(`(.metadata.annotations["lab/fail-tag"] // .metadata.labels["lab/fail-tag"] // "") as $tag | $tag == "" or (` + proxyTagStarts("$tag") + `)`),
	}
}

func proxyTagStarts(tag string) string {
	return `[.spec.containers[]?, .spec.initContainers[]?] | any(.name == "istio-proxy" and (.image | split(":") | last | startswith(` + tag + `)))`
}

// failStage is a stage that puts matching pods into a failing state. Its weight puts it before pod-ready.
func failStage(name string, mode FailMode, match []any) (*unstructured.Unstructured, error) {
	if !slices.Contains(failModes, mode) {
		return nil, fmt.Errorf("no such way to fail: %q", mode)
	}
	status, err := stageFiles.ReadFile("stages/failing.tpl")
	if err != nil {
		return nil, fmt.Errorf("reading the failing pods' status: %w", err)
	}
	match = append([]any{
		jq(".metadata.deletionTimestamp == null"),
		jq(`.status.phase == "Pending" or .status.phase == "Running"`),
		jq(`[.status.conditions[]? | select(.type == "Ready" and .status == "True")] == []`),
	}, match...)
	steps := []any{map[string]any{"patch": map[string]any{
		"subresource": "status", "root": "status",
		"template": `{{ $mode := ` + quote(string(mode)) + " }}\n" + strings.TrimSpace(string(status)),
	}}}
	if event := failEvents[mode]; event != nil {
		steps = append(steps, map[string]any{"event": event})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kwok.x-k8s.io/v1alpha1",
		"kind":       "Stage",
		"metadata":   map[string]any{"name": name},
		"spec": map[string]any{
			"resourceRef": map[string]any{"apiGroup": "v1", "kind": "Pod"},
			"weight":      int64(1000),
			"selector":    map[string]any{"matchExpressions": match},
			"steps":       steps,
		},
	}}, nil
}

// failEvents are those that a kubelet writes for such a pod.
var failEvents = map[FailMode]map[string]any{
	FailImagePull: {"type": "Warning", "reason": "Failed", "message": "Error: ImagePullBackOff"},
	FailCrash:     {"type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container istio-proxy in pod"},
	FailCreating: {
		"type": "Warning", "reason": "FailedCreatePodSandBox",
		"message": `Failed to create pod sandbox: plugin type="istio-cni" name="istio-cni" failed (add): no answer from its agent`,
	},
	FailNeverReady: {"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: HTTP probe failed with statuscode: 503"},
}
