package crds

import (
	"context"
	"fmt"

	"helm.sh/helm/v4/pkg/chart/common"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// sameRelease says whether the release is already what the chart makes of its
// values. Charts render some fields for an installation that they leave out in
// an upgrade, so a release that was installed is compared with both.
func (w *work) sameRelease(ctx context.Context, c *cluster.Cluster, stored []*unstructured.Unstructured, rendered *helm.Rendered, as helm.Release, caps *common.Capabilities) (bool, error) {
	if w.release == nil || !w.release.Deployed() || w.release.ChartName != w.chart.Name || w.release.ChartVersion != w.chart.Version {
		return false, nil
	}
	if sameObjects(stored, rendered.Objects) {
		return true, nil
	}
	installed, err := helm.Render(ctx, c, w.chart, w.values, as, false, caps)
	if err != nil {
		return false, err
	}
	return sameObjects(stored, installed.Objects), nil
}

// servedBy refuses definitions of an API version that the server does not
// have: v1beta1 ended with Kubernetes 1.22.
func servedBy(c *cluster.Cluster, targets []target) error {
	checked := map[schema.GroupVersion]bool{}
	for _, t := range targets {
		version := t.Raw.GroupVersionKind().GroupVersion()
		if checked[version] {
			continue
		}
		checked[version] = true
		groups, err := c.Discovery.ServerGroups()
		if err != nil {
			return fmt.Errorf("read the API server's resources: %w", err)
		}
		served := false
		for _, group := range groups.Groups {
			for _, v := range group.Versions {
				served = served || v.GroupVersion == version.String()
			}
		}
		if !served {
			return gate.BadInputf("the chart's definitions are of %s, which this API server does not have; take a chart for its Kubernetes", version)
		}
	}
	return nil
}
