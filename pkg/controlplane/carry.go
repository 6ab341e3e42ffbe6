package controlplane

import (
	"context"
	"fmt"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// carryOver gives Helm's writes what others have written to the same objects
// and must not be lost on the way: istiod's fields of the webhooks, and the
// replicas of a Deployment that changes hands between chart and autoscaler.
func carryOver(c *cluster.Cluster, serverSide bool) helm.Adjust {
	return carrying(c, serverSide, false)
}

// carryBack is carryOver on the way back, on which no values can be given: there
// the replicas of what runs stay where the former revision had fewer.
func carryBack(c *cluster.Cluster, serverSide bool) helm.Adjust {
	return carrying(c, serverSide, true)
}

func carrying(c *cluster.Cluster, serverSide, back bool) helm.Adjust {
	return func(ctx context.Context, originals, targets kube.ResourceList) error {
		for _, info := range targets {
			target, ok := info.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			kind := target.GetKind()
			isWebhook := kind == "MutatingWebhookConfiguration" || kind == "ValidatingWebhookConfiguration"
			if !isWebhook && kind != workload.Deployment && kind != autoscaler {
				continue
			}
			there, err := liveOf(info)
			if err != nil {
				return err
			}
			if there == nil {
				continue
			}
			original := originalOf(originals, info)
			if isWebhook {
				carryWebhooks(original, there, target)
				continue
			}
			if err := carryRaise(ctx, c, there, target); err != nil {
				return err
			}
			if kind == autoscaler {
				continue
			}
			if back {
				if err := keepReplicas(there, target); err != nil {
					return err
				}
			}
			if err := carryReplicas(ctx, c, original, there, target, serverSide); err != nil {
				return err
			}
		}
		return nil
	}
}

// liveOf gets the object as it is, nil where it is not there.
func liveOf(info *resource.Info) (*unstructured.Unstructured, error) {
	object, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s %s: %w", info.Mapping.GroupVersionKind.Kind, info.Name, err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", info.Mapping.GroupVersionKind.Kind, info.Name, err)
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// originalOf finds what the revision before wrote, nil where it wrote none.
func originalOf(originals kube.ResourceList, info *resource.Info) *unstructured.Unstructured {
	if found := originals.Get(info); found != nil {
		if object, ok := found.Object.(*unstructured.Unstructured); ok {
			return object
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{}}
}

// carryWebhooks keeps what istiod fills in: the caBundle that a chart renders
// empty or no longer renders, and Fail where a chart renders Ignore or no
// longer a policy. Without that a write would break admission until istiod has
// mended it (istio/istio:pkg/webhooks). It is a pure function but for target.
func carryWebhooks(original, there, target *unstructured.Unstructured) {
	was, is := webhooksByName(original), webhooksByName(there)
	list, _, _ := unstructured.NestedSlice(target.Object, "webhooks")
	for _, item := range list {
		hook, _ := item.(map[string]any)
		name, _ := hook["name"].(string)
		now := is[name]
		if now == nil {
			continue
		}
		keep(now, was[name], hook, emptyBundle, "clientConfig", "caBundle")
		keep(now, was[name], hook, func(v string) bool { return v == "Ignore" }, "failurePolicy")
	}
	if len(list) > 0 {
		target.Object["webhooks"] = list
	}
}

// emptyBundle knows the two ways of rendering no caBundle: nothing, and a line
// feed in base64.
func emptyBundle(v string) bool { return v == "" || v == "Cg==" }

// keep puts what is there into a rendered webhook, where it renders the field
// weakly, or where it stopped rendering it.
func keep(now, was, hook map[string]any, weak func(string) bool, path ...string) {
	value, _, _ := unstructured.NestedString(now, path...)
	if value == "" || weak(value) {
		return
	}
	rendered, renders, _ := unstructured.NestedString(hook, path...)
	_, rendered1, _ := unstructured.NestedString(was, path...)
	if renders && weak(rendered) || !renders && rendered1 {
		_ = unstructured.SetNestedField(hook, value, path...) // fails on a parent that is no map only
	}
}

func webhooksByName(o *unstructured.Unstructured) map[string]map[string]any {
	byName := map[string]map[string]any{}
	list, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
	for _, item := range list {
		hook, _ := item.(map[string]any)
		if name, _ := hook["name"].(string); name != "" {
			byName[name] = hook
		}
	}
	return byName
}
