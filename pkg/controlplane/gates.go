package controlplane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// skewRefusal judges the way from the version that runs to the target.
func skewRefusal(object, running string, target *semver.Version) []gate.Refusal {
	from, ok := mesh.TagVersion(running)
	if !ok {
		return nil
	}
	switch mesh.Skew(from, target) {
	case mesh.Downgrade:
		return []gate.Refusal{{
			Object: object, Forceable: true,
			Reason: fmt.Sprintf("it runs %s, so that %s is a downgrade", from, target),
			Cure:   "use kubectl istio-upgrade rollback",
		}}
	case mesh.SkippedMinor:
		return []gate.Refusal{{
			Object: object, Forceable: true,
			Reason: fmt.Sprintf("it runs %s, so that %s skips a minor version", from, target),
			Cure:   fmt.Sprintf("go to a release of %s first", mesh.NextMinor(from)),
		}}
	}
	return nil
}

// crdRefusal says what of the CRDs is behind the target.
func crdRefusal(behind []string, tag string) []gate.Refusal {
	if len(behind) == 0 {
		return nil
	}
	reason := behind[0]
	if more := len(behind) - 1; more > 0 {
		reason += fmt.Sprintf(" (and %d more)", more)
	}
	return []gate.Refusal{{
		Object: "CRDs", Forceable: true,
		Reason: "they are behind the target: " + reason,
		Cure:   "run kubectl istio-upgrade crds --tag " + tag + " first, with the same --charts",
	}}
}

// maxNamed bounds how many pods a refusal names.
const maxNamed = 5

// proxyRefusal names the proxies that a control plane of the target version no
// longer supports. It is a pure function.
func proxyRefusal(proxies []ProxyVersion, revision string, target *semver.Version) []gate.Refusal {
	var pods []string
	count := 0
	var oldest *semver.Version
	for _, p := range proxies {
		v, ok := mesh.TagVersion(p.Version)
		if !ok || !p.belongs(revision) || mesh.ProxySkew(v, target) != mesh.ProxyTooOld {
			continue
		}
		pods, count = append(pods, p.Pods...), count+p.Count
		if oldest == nil || v.LessThan(oldest) {
			oldest = v
		}
	}
	if oldest == nil {
		return nil
	}
	return []gate.Refusal{{
		Object: fmt.Sprintf("%d proxies", count), Forceable: true,
		Reason: fmt.Sprintf("they are too old for a control plane of %s, the oldest being %s: %s", target, oldest, named(pods, count)),
		Cure:   "bring them to the version of their control plane first: kubectl istio-upgrade sidecars -A, or -n with their namespaces",
	}}
}

// named lists the first few of many.
func named(pods []string, count int) string {
	slices.Sort(pods)
	shown := pods[:min(maxNamed, len(pods))]
	text := strings.Join(shown, ", ")
	if more := count - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// releaseRefusals judges what is known of a release before it is rendered:
// Tiller's storage, an owner in the cluster or in Git, an operation that never
// ended.
func releaseRefusals(r ReleasePlan, owners mesh.Owners, o Options) []gate.Refusal {
	if r.release.Helm2 {
		return []gate.Refusal{{
			Object: r.object(),
			Reason: "it was stored by Helm 2 (Tiller), which Helm of today cannot upgrade",
			Cure:   "convert it with helm 2to3 convert " + r.Name + " (the Helm plugin 2to3)",
		}}
	}
	var refusals []gate.Refusal
	if by := owners.Keeper(); by != "" {
		refusals = append(refusals, gate.Refusal{
			Object: r.object(),
			Reason: "it is owned by " + by + ", which would undo the upgrade",
			Cure:   "change the version there: " + by,
		})
	}
	if p := r.Pending; p != nil && !p.Ours && !o.Recover {
		reason := fmt.Sprintf("an operation on it did not end: %s for %ds", p.Status, p.Age)
		if p.LastGood > 0 {
			reason += fmt.Sprintf("; the last good revision is %d", p.LastGood)
		}
		refusals = append(refusals, gate.Refusal{
			Object: r.object(), Reason: reason,
			Cure: "if nobody works on it any more, give --recover to go on from there",
		})
	}
	return refusals
}

// noRelease words that a control plane was not installed by Helm.
func noRelease(plane mesh.ControlPlane, broken []helm.Undecodable, tag string) gate.Refusal {
	refusal := gate.Refusal{
		Object: fmt.Sprintf("deployment/%s in %s", plane.Deployment, plane.Namespace),
		Reason: "it belongs to no Helm release; it was installed by " + plane.Owners.String(),
	}
	for _, b := range broken {
		if owner := plane.Owners.Helm; owner != nil && owner.Name == b.Release && owner.Namespace == b.Namespace {
			refusal.Reason = "the record of its Helm release cannot be decoded: secret " + b.Record + " in " + b.Namespace + " (" + b.Reason + ")"
			refusal.Cure = "run helm rollback " + b.Release + " -n " + b.Namespace + " to a revision that can, or restore the record"
			return refusal
		}
	}
	revision := ""
	if plane.Revision != mesh.DefaultRevision {
		revision = " --revision " + plane.Revision
	}
	switch owners := plane.Owners; {
	case owners.GitOps() != "":
		refusal.Cure = "change the version there: " + owners.GitOps()
	case owners.Operated() != "":
		refusal.Cure = "change the version in " + owners.Operated()
	case owners.Istioctl || owners.Operator != "":
		refusal.Cure = "run istioctl upgrade" + revision + " with the istioctl of " + tag + ", then kubectl istio-upgrade sidecars"
	default:
		refusal.Cure = "upgrade it as it was installed, then run kubectl istio-upgrade sidecars"
	}
	return refusal
}
