package controlplane

import (
	"context"
	"maps"
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// ProxyVersion is one version of proxies that run, and pods that run it.
type ProxyVersion struct {
	Version string `json:"version"`
	// Revision is that of the control plane which injects the pods; empty where
	// it is not known or there are several.
	Revision string `json:"revision,omitempty"`
	// Pods are some of the pods, as namespace/name; Count is how many there
	// are in all.
	Pods  []string `json:"pods"`
	Count int      `json:"count"`

	of map[workload.Ref][]string // the pods named, by their workload
	in map[workload.Ref]int      // how many there are of each
}

// without leaves the pods of some workloads out.
func (p ProxyVersion) without(refs []workload.Ref) ProxyVersion {
	p.Pods = slices.Clone(p.Pods)
	for _, ref := range refs {
		p.Count -= p.in[ref]
		p.Pods = slices.DeleteFunc(p.Pods, func(pod string) bool { return slices.Contains(p.of[ref], pod) })
	}
	return p
}

// without leaves the pods of some workloads out of all versions.
func without(proxies []ProxyVersion, refs []workload.Ref) []ProxyVersion {
	var out []ProxyVersion
	for _, p := range proxies {
		if rest := p.without(refs); rest.Count > 0 {
			out = append(out, rest)
		}
	}
	return out
}

// ReadProxies gives the versions of the proxies in all namespaces. The error is
// the API server's; it being forbidden can be told by apierrors.IsForbidden.
func ReadProxies(ctx context.Context, c *cluster.Cluster) ([]ProxyVersion, error) {
	inventory, err := workload.Read(ctx, c, "")
	if err != nil {
		return nil, err
	}
	injectors, err := mesh.ReadInjectors(ctx, c.Kube)
	if err != nil {
		return nil, err
	}
	return countProxies(inventory, injectors), nil
}

// countProxies sums an inventory up by version and revision, in that order. It
// is a pure function.
func countProxies(inventory *workload.Inventory, injectors []mesh.Injector) []ProxyVersion {
	templates := map[workload.Ref]map[string]string{}
	for _, w := range inventory.Workloads {
		templates[w.Ref] = w.Template.Labels
	}
	type key struct{ version, revision string }
	sums := map[key]*ProxyVersion{}
	for ref, pods := range inventory.Pods {
		labels, known := templates[ref]
		if !known {
			labels = pods.Labels
		}
		revision := revisionOf(mesh.Serving(injectors, inventory.Namespaces[ref.Namespace].Labels, labels, ref.Namespace))
		for proxy, sample := range pods.Proxies {
			v, ok := mesh.ImageVersion(proxy.Image)
			if !ok {
				continue
			}
			k := key{v.String(), revision}
			if sums[k] == nil {
				sums[k] = &ProxyVersion{
					Version: k.version, Revision: revision, Pods: []string{},
					of: map[workload.Ref][]string{}, in: map[workload.Ref]int{},
				}
			}
			sums[k].add(ref, sample)
		}
	}
	out := []ProxyVersion{}
	for _, k := range slices.SortedFunc(maps.Keys(sums), func(a, b key) int {
		return slices.Compare([]string{a.version, a.revision}, []string{b.version, b.revision})
	}) {
		slices.Sort(sums[k].Pods)
		out = append(out, *sums[k])
	}
	return out
}

// add counts the pods of a workload.
func (p *ProxyVersion) add(ref workload.Ref, sample *workload.Sample) {
	p.Count += int(sample.Count)
	p.in[ref] += int(sample.Count)
	for _, name := range sample.Names {
		p.Pods = append(p.Pods, ref.Namespace+"/"+name)
		p.of[ref] = append(p.of[ref], ref.Namespace+"/"+name)
	}
}

// revisionOf gives the one revision of injectors, or "".
func revisionOf(serving []mesh.Injector) string {
	revision := ""
	for _, i := range serving {
		if revision != "" && i.Revision != revision {
			return ""
		}
		revision = i.Revision
	}
	return revision
}

// belongs tells whether the proxies may talk to the control plane of a
// revision.
func (p ProxyVersion) belongs(revision string) bool {
	return p.Revision == "" || revision == "" || p.Revision == revision
}
