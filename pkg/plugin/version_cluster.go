package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apimachineryversion "k8s.io/apimachinery/pkg/version"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

const (
	// answerPatience is how long version waits for a sign of the API server.
	answerPatience = 2 * time.Second
	// readPatience is how long it reads from one that answers.
	readPatience = 20 * time.Second
)

// clusterVersions are those of what runs in the cluster.
type clusterVersions struct {
	cluster.Identity
	Kubernetes    string           `json:"kubernetes"`
	ControlPlanes []planeVersion   `json:"controlPlanes"`
	CRDs          []countedVersion `json:"crds"`
	Proxies       []countedVersion `json:"proxies"`
}

// planeVersion is that of one control plane, as its image's tag says.
type planeVersion struct {
	Namespace string `json:"namespace"`
	Revision  string `json:"revision"`
	Tag       string `json:"tag"`
}

// countedVersion is a version and how many bear it.
type countedVersion struct {
	Version string `json:"version"`
	Count   int    `json:"count"`
}

// readCluster gives the versions in the context's cluster. It is not an error
// that there is none, that it does not answer or does not let us read: note says
// so, and what could be read is given.
func (o *versionOptions) readCluster(ctx context.Context) (v *clusterVersions, note string) {
	c, err := o.connect()
	if errors.Is(err, cluster.ErrNoKubeconfig) {
		return nil, ""
	}
	if err != nil {
		return nil, err.Error()
	}
	v = &clusterVersions{Identity: c.Identity(), ControlPlanes: []planeVersion{}, CRDs: []countedVersion{}, Proxies: []countedVersion{}}
	if v.Kubernetes, err = serverVersion(ctx, c); err != nil {
		return nil, fmt.Sprintf("context %s is left out, its API server does not answer: %s; --client asks no cluster", c.Context, plainCause(err))
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	var m *mesh.Mesh
	var proxies []controlplane.ProxyVersion
	group := errgroup.Group{}
	group.Go(func() (err error) { m, err = mesh.Read(ctx, c, o.istioNamespace); return err })
	group.Go(func() (err error) { proxies, err = controlplane.ReadProxies(ctx, c); return err })
	if err := group.Wait(); err != nil {
		note = fmt.Sprintf("not all of context %s could be read: %s", c.Context, plainCause(err))
	}
	v.add(m, proxies)
	return v, note
}

// add sums up what was read; either may be missing.
func (v *clusterVersions) add(m *mesh.Mesh, proxies []controlplane.ProxyVersion) {
	if m != nil {
		for _, p := range m.ControlPlanes {
			v.ControlPlanes = append(v.ControlPlanes, planeVersion{p.Namespace, p.Revision, p.Tag})
		}
		counts := map[string]int{}
		for i := range m.CRDs {
			counts[cmp.Or(m.CRDs[i].Version, "unknown")]++
		}
		v.CRDs = counted(counts)
	}
	counts := map[string]int{}
	for _, p := range proxies {
		counts[p.Version] += p.Count
	}
	v.Proxies = counted(counts)
}

func counted(counts map[string]int) []countedVersion {
	list := []countedVersion{}
	for _, version := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, countedVersion{version, counts[version]})
	}
	return list
}

// serverVersion asks the API server for its version, which everyone may.
func serverVersion(ctx context.Context, c *cluster.Cluster) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	raw, err := c.Kube.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var info apimachineryversion.Info
	if err := json.Unmarshal(raw, &info); err != nil {
		return "", fmt.Errorf("read its version: %w", err)
	}
	return info.GitVersion, nil
}

// plainCause words the error of a reading that was given little time.
func plainCause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	return err.Error()
}
