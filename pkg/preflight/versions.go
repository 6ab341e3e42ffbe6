package preflight

import (
	"fmt"

	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// kubernetesMinors are the minor versions of Kubernetes that releases of Istio
// support (istio.io, "Supported releases"), by the minor version of Istio.
var kubernetesMinors = map[uint64][2]uint64{
	26: {29, 33}, 27: {29, 33}, 28: {30, 34}, 29: {31, 35}, 30: {32, 36}, 31: {32, 36},
}

// versions judges how the versions in play go together: Kubernetes and the
// target (or what runs), and proxies and their control planes in both directions.
func versions(f Facts) []Check {
	return append(serverSkew(f), proxySkew(f)...)
}

func serverSkew(f Facts) []Check {
	server, err := semver.NewVersion(f.Kubernetes)
	if err != nil {
		return nil
	}
	tag := f.Tag
	if tag == "" && len(f.Mesh.ControlPlanes) > 0 {
		tag = f.Mesh.ControlPlanes[0].Tag
	}
	istio, ok := mesh.TagVersion(tag)
	if !ok || istio.Major() != 1 {
		return nil
	}
	bounds, known := kubernetesMinors[istio.Minor()]
	if !known {
		return nil
	}
	check := Check{Category: "versions", Name: fmt.Sprintf("Istio %d.%d on Kubernetes %d.%d", istio.Major(), istio.Minor(), server.Major(), server.Minor()), Level: OK}
	if server.Minor() < bounds[0] || server.Minor() > bounds[1] {
		check.Level, check.Cause = Warning, fmt.Sprintf("it is tested with Kubernetes 1.%d to 1.%d", bounds[0], bounds[1])
		check.Cure = "try it on a cluster that may fail, or bring Kubernetes there first"
	}
	return []Check{check}
}

// proxySkew judges the proxies that run by the control plane that runs.
func proxySkew(f Facts) []Check {
	if f.Sidecars == nil || len(f.Mesh.ControlPlanes) == 0 {
		return nil
	}
	planes := map[string]*semver.Version{}
	for i := range f.Mesh.ControlPlanes {
		p := &f.Mesh.ControlPlanes[i]
		if v, ok := mesh.TagVersion(p.Tag); ok {
			planes[p.Revision] = v
		}
	}
	found := map[mesh.SkewKind][]string{}
	for i := range f.Sidecars.Items {
		item := &f.Sidecars.Items[i]
		plane := planes[item.Revision]
		if plane == nil {
			continue
		}
		if kind := worstSkew(item, plane); kind != mesh.SkewNone {
			found[kind] = append(found[kind], item.In())
		}
	}
	if len(found) == 0 {
		return []Check{{Category: "versions", Name: "proxies go with their control planes", Level: OK}}
	}
	var checks []Check
	if names := found[mesh.ProxyTooNew]; len(names) > 0 {
		checks = append(checks, Check{
			Category: "versions", Name: fmt.Sprintf("%d with a proxy newer than its control plane", len(names)), Level: Warning,
			Cause: some(names), Cure: "upgrade the control plane; a proxy must never lead it",
		})
	}
	if names := found[mesh.ProxyTooOld]; len(names) > 0 {
		checks = append(checks, Check{
			Category: "versions", Name: fmt.Sprintf("%d with a proxy more than one minor version behind its control plane", len(names)), Level: Warning,
			Cause: some(names), Cure: "run sidecars before the control plane goes further",
		})
	}
	return checks
}

// worstSkew gives how a workload's proxies stand to the control plane.
func worstSkew(item *sidecars.Item, plane *semver.Version) mesh.SkewKind {
	worst := mesh.SkewNone
	for _, p := range item.Proxies {
		if v, ok := mesh.TagVersion(p.Version); ok {
			if kind := mesh.ProxySkew(v, plane); kind != mesh.SkewNone {
				worst = kind
			}
		}
	}
	return worst
}
