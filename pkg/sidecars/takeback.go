package sidecars

import (
	"context"
	"encoding/json"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
)

// takeBack puts an object back that was written: patch gives what does so to it
// as it is. It carries the resourceVersion of what it replaces. Where someone has
// changed the pod template since it was written, it is theirs and left as it is;
// the error says so, and names the file in which the object is kept as it was.
func takeBack(ctx context.Context, c *cluster.Cluster, client dynamic.ResourceInterface, written *unstructured.Unstructured, kept, manager string, patch func(live *unstructured.Unstructured) ([]byte, error)) error {
	for attempt := 1; ; attempt++ {
		live, err := cluster.Reading(ctx, c, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return client.Get(ctx, written.GetName(), metav1.GetOptions{})
		})
		if err != nil {
			return fmt.Errorf("read it again: %w", err)
		}
		body, err := patch(live)
		if err != nil || body == nil {
			return err // nothing is left to put back, as after a write whose answer was lost
		}
		changed, err := inject.TemplatePatch(written, live)
		if err != nil {
			return err
		}
		if changed != nil {
			return fmt.Errorf("someone has changed it meanwhile, and it is left as it is; as it was before this run it stands in %s", kept)
		}
		err = c.Persist(ctx, func(ctx context.Context) error {
			_, err := client.Patch(ctx, written.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager})
			return err
		})
		if err == nil || !apierrors.IsConflict(err) || attempt == rewriteAttempts {
			return err
		}
	}
}

// wayBack is the merge patch that takes back what applying changed in an object,
// from what it was and what it was made: what others have written beside that
// stays. It is for the version of live alone.
func wayBack(was, made, live *unstructured.Unstructured) ([]byte, error) {
	from, err := json.Marshal(restorable(made).Object)
	if err != nil {
		return nil, err
	}
	target := restorable(was)
	target.SetResourceVersion(live.GetResourceVersion())
	to, err := json.Marshal(target.Object)
	if err != nil {
		return nil, err
	}
	return jsonpatch.CreateMergePatch(from, to)
}
