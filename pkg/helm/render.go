package helm

import (
	"context"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// Rendered is what a chart makes of values.
type Rendered struct {
	// Manifest is the text that Helm would store with the release.
	Manifest string
	// Objects are those of the manifest, in Helm's order; hooks are not among
	// them.
	Objects []*unstructured.Unstructured
	Hooks   []string
}

// Capabilities reads the server's version and API versions, which templates
// ask for.
func Capabilities(c *cluster.Cluster) (*common.Capabilities, error) {
	c.Discovery.Invalidate()
	version, err := c.Discovery.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("read the API server's version: %w", err)
	}
	apis, err := action.GetVersionSet(c.Discovery)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("read the API server's resources: %w", err)
	}
	return &common.Capabilities{
		APIVersions: apis,
		KubeVersion: common.KubeVersion{Version: version.GitVersion, Major: version.Major, Minor: version.Minor},
		HelmVersion: common.DefaultCapabilities.HelmVersion,
	}, nil
}

// Render makes the objects that an upgrade of the release would write, without
// writing: lookups are answered by the server. With upgrade false it renders as
// for an installation. A template that fails, or values that the chart's schema
// refuses, give a *gate.BadInput.
func Render(ctx context.Context, c *cluster.Cluster, ch *Chart, values map[string]any, rel Release, upgrade bool, caps *common.Capabilities) (*Rendered, error) {
	prepare()
	loaded, err := ch.load()
	if err != nil {
		return nil, gate.BadInputf("load a chart from %s: %v", ch.From, err)
	}
	if want := loaded.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, caps.KubeVersion.Version) {
		return nil, gate.BadInputf("the chart %s wants Kubernetes %s and this is %s; upgrade Kubernetes first, or take another Istio", ch, want, caps.KubeVersion.Version)
	}
	values = copyValues(values)
	if err := chartutil.ProcessDependencies(loaded, values); err != nil {
		return nil, gate.BadInputf("the chart %s: %v", ch, err)
	}
	options := common.ReleaseOptions{
		Name: rel.Name, Namespace: rel.Namespace, Revision: rel.Revision + 1, IsUpgrade: upgrade, IsInstall: !upgrade,
	}
	all, err := commonutil.ToRenderValues(loaded, values, options, caps)
	if err != nil {
		return nil, gate.BadInputf("the chart %s refuses the values of release %s: %v", ch, rel.Name, err)
	}
	files, err := engine.New(c.Config).RenderWithContext(ctx, loaded, all)
	if err != nil {
		return nil, gate.BadInputf("the chart %s refuses the values of release %s: %v", ch, rel.Name, err)
	}
	for name := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(files, name)
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, gate.BadInputf("the chart %s renders what is no YAML: %v", ch, err)
	}
	out := &Rendered{}
	var text strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	out.Manifest = text.String()
	for _, h := range hooks {
		out.Hooks = append(out.Hooks, h.Manifest)
	}
	out.Objects, err = ParseManifest(out.Manifest)
	return out, err
}

// ParseManifest gives the objects of a manifest, in its order; documents that
// are empty are left out. The error says which document is no object.
func ParseManifest(manifest string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for i, doc := range strings.Split("\n"+manifest, "\n---") {
		raw, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			return nil, fmt.Errorf("parse document %d of a manifest: %w", i, err)
		}
		if string(raw) == "null" {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw); err != nil {
			return nil, fmt.Errorf("parse document %d of a manifest: %w", i, err)
		}
		objects = append(objects, u)
	}
	return objects, nil
}
