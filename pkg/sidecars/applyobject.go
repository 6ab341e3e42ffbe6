package sidecars

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kubectl/pkg/util"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// applier applies objects as kubectl apply does.
type applier struct {
	manager    string
	serverSide bool
	force      bool // takes over fields of other managers, server-side
}

// apply applies an object and gives it as it was, nil where it was not there,
// and as it is now. With dry nothing is kept. Client-side it is a three-way
// merge by the annotation last-applied-configuration (kubectl
// pkg/cmd/apply/patcher.go).
func (a applier) apply(ctx context.Context, client dynamic.ResourceInterface, object *unstructured.Unstructured, dry bool) (before, after *unstructured.Unstructured, err error) {
	var dryRun []string
	if dry {
		dryRun = []string{metav1.DryRunAll}
	}
	before, err = client.Get(ctx, object.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		before, err = nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if a.serverSide {
		after, err = a.applyServerSide(ctx, client, before, object, dryRun)
		return before, after, err
	}
	modified, err := util.GetModifiedConfiguration(object, true, unstructured.UnstructuredJSONScheme)
	if err != nil {
		return nil, nil, err
	}
	if before == nil {
		marked := &unstructured.Unstructured{}
		if err := marked.UnmarshalJSON(modified); err != nil {
			return nil, nil, err
		}
		after, err = client.Create(ctx, marked, metav1.CreateOptions{FieldManager: a.manager, DryRun: dryRun})
		return nil, after, err
	}
	kind, patch, err := threeWay(before, modified)
	if err != nil || string(patch) == "{}" {
		return before, before, err
	}
	after, err = client.Patch(ctx, object.GetName(), kind, patch, metav1.PatchOptions{FieldManager: a.manager, DryRun: dryRun})
	return before, after, err
}

// threeWay makes the patch from what was applied last, what is to be, and what
// is there: a strategic one for kinds that client-go knows.
func threeWay(live *unstructured.Unstructured, modified []byte) (types.PatchType, []byte, error) {
	original, err := util.GetOriginalConfiguration(live)
	if err == nil {
		original, err = withSidecar(original, live)
	}
	if err != nil {
		return "", nil, err
	}
	current, err := json.Marshal(live.Object)
	if err != nil {
		return "", nil, err
	}
	typed, err := scheme.Scheme.New(live.GroupVersionKind())
	if err != nil {
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(original, modified, current)
		return types.MergePatchType, patch, err
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(typed)
	if err != nil {
		return "", nil, fmt.Errorf("read the schema of %s: %w", live.GetKind(), err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(original, modified, current, meta, true)
	return types.StrategicMergePatchType, patch, err
}

// withSidecar gives the manifest applied last with the pod template that is
// there, where that one was injected by hand and the manifest does not know it:
// else what only the old sidecar had would stay beside the new one.
func withSidecar(original []byte, live *unstructured.Unstructured) ([]byte, error) {
	if _, injected := inject.Injected(live); !injected || live.GetKind() == workload.Pod {
		return original, nil
	}
	known := &unstructured.Unstructured{Object: map[string]any{"apiVersion": live.GetAPIVersion(), "kind": live.GetKind()}}
	if len(original) > 0 {
		if err := known.UnmarshalJSON(original); err != nil {
			return nil, err
		}
		if _, injected := inject.Injected(known); injected {
			return original, nil
		}
	}
	path := []string{"spec", "template"}
	if live.GetKind() == workload.CronJob {
		path = []string{"spec", "jobTemplate"}
	}
	template, _, err := unstructured.NestedMap(live.Object, path...)
	if err != nil {
		return nil, err
	}
	if err := unstructured.SetNestedMap(known.Object, template, path...); err != nil {
		return nil, err
	}
	return json.Marshal(known.Object)
}

// same says whether applying changed nothing that matters.
func same(before, after *unstructured.Unstructured) bool {
	strip := func(o *unstructured.Unstructured) map[string]any {
		c := o.DeepCopy()
		for _, f := range []string{"managedFields", "resourceVersion", "generation"} {
			unstructured.RemoveNestedField(c.Object, "metadata", f)
		}
		return c.Object
	}
	return before != nil && equality.Semantic.DeepEqual(strip(before), strip(after))
}
