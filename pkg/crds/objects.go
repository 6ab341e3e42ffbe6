package crds

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// pageSize is how many objects are read with one request.
const pageSize = 500

// eachObject calls do for every object of a definition, in pages. Where the
// API server's continue token expires in between, restart is called, and all
// objects come again from one list. A definition that serves no version has
// objects that nobody can read: it is an error.
func eachObject(ctx context.Context, c *cluster.Cluster, crd mesh.CRD, restart func() error, do func(*unstructured.Unstructured) error) error {
	if crd.Served() == "" {
		return fmt.Errorf("read the objects of %s: no version of it is served", crd.Name)
	}
	resource := c.Dynamic.Resource(crd.Resource())
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := resource.List(ctx, options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" {
			if err := restart(); err != nil {
				return err
			}
			options = metav1.ListOptions{}
			continue
		}
		if apierrors.IsNotFound(err) { // the definition is not yet, or no longer, served
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", crd.Name, err)
		}
		for i := range page.Items {
			if err := do(&page.Items[i]); err != nil {
				return err
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}
