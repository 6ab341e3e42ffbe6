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
		Cure:   "run kubectl istio-upgrade crds --tag " + tag + " first",
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
		Cure:   "bring them to the version of their control plane first, by kubectl istio-upgrade sidecars",
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
// Tiller's storage, a GitOps owner, an operation that never ended.
func releaseRefusals(r ReleasePlan, owners mesh.Owners, o Options) []gate.Refusal {
	if r.release.Helm2 {
		return []gate.Refusal{{
			Object: r.object(),
			Reason: "it was stored by Helm 2 (Tiller), which Helm of today cannot upgrade",
			Cure:   "convert it with helm 2to3 convert " + r.Name + " (the Helm plugin 2to3)",
		}}
	}
	var refusals []gate.Refusal
	if by := owners.GitOps(); by != "" {
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
func noRelease(plane mesh.ControlPlane, tag string) gate.Refusal {
	refusal := gate.Refusal{
		Object: fmt.Sprintf("deployment/%s in %s", plane.Deployment, plane.Namespace),
		Reason: "it belongs to no Helm release; it was installed by " + plane.Owners.String(),
	}
	revision := ""
	if plane.Revision != mesh.DefaultRevision {
		revision = " --revision " + plane.Revision
	}
	switch owners := plane.Owners; {
	case owners.GitOps() != "":
		refusal.Cure = "change the version there: " + owners.GitOps()
	case owners.Operator != "" && !strings.HasPrefix(owners.Operator, "IstioOperator"):
		refusal.Cure = "change the version in " + owners.Operator
	case owners.Istioctl || owners.Operator != "":
		refusal.Cure = "run istioctl upgrade" + revision + " with the istioctl of " + tag + ", then kubectl istio-upgrade sidecars"
	default:
		refusal.Cure = "upgrade it as it was installed, then run kubectl istio-upgrade sidecars"
	}
	return refusal
}

// dyingHubs are registries that stop serving Istio, and the last minor version
// that they have (istio.io/blog/2026/retirement-of-gcp).
var dyingHubs = map[string]*semver.Version{
	"gcr.io/istio-release":      semver.MustParse("1.30.99"),
	"registry.istio.io/release": nil,
}

// pinWarnings shows values that hold an image back, or that name a registry
// which no longer serves the target.
func pinWarnings(r ReleasePlan, target *semver.Version) []string {
	var warnings []string
	if image := imageOf(r.rendered.Objects); image != "" {
		if v, ok := mesh.ImageVersion(image); !ok || !v.Equal(target) {
			warnings = append(warnings, fmt.Sprintf("%s: its values pin the image %s, whatever global.tag says", r.object(), image))
		}
	}
	values := leaves(r.values)
	for _, path := range []string{"global.proxy.image", "global.proxy_init.image", "pilot.image", "image"} {
		image, _ := values[path].(string)
		if strings.Contains(image, "/") {
			warnings = append(warnings, fmt.Sprintf("%s: the value %s pins the image %s", r.object(), path, image))
		}
	}
	for _, path := range []string{"global.hub", "pilot.hub", "hub"} {
		hub, _ := values[path].(string)
		last, dying := dyingHubs[strings.TrimSuffix(hub, "/")]
		switch {
		case dying && last != nil && last.LessThan(target):
			warnings = append(warnings, fmt.Sprintf("%s: the value %s names the registry %s, which has no images of %s; use docker.io/istio", r.object(), path, hub, target))
		case dying:
			warnings = append(warnings, fmt.Sprintf("%s: the value %s names the registry %s, which is being shut down; use docker.io/istio", r.object(), path, hub))
		}
	}
	return warnings
}

// pinRefusal stands in the way where the values hold istiod below the target:
// the sidecars, which read global.tag alone, would be newer than it.
func pinRefusal(r ReleasePlan, target *semver.Version) []gate.Refusal {
	v, ok := mesh.TagVersion(r.TagTo)
	if !ok || !v.LessThan(target) || r.Component != helm.Istiod && r.Component != helm.Istio {
		return nil
	}
	cure := "change the value that pins it"
	for _, path := range []string{"pilot.tag", "tag", "pilot.image", "image"} {
		if _, pins := leaves(r.values)[path]; pins {
			cure = fmt.Sprintf("give --set %s=null, or another value", path)
			break
		}
	}
	return []gate.Refusal{{
		Object: r.object(), Forceable: true, Cure: cure,
		Reason: fmt.Sprintf("its values hold istiod at %s, so that sidecars of %s would be newer than it", v, target),
	}}
}

// chartWarning says that a chart taken as it is belongs to another version.
func chartWarning(ch *helm.Chart, target *semver.Version) []string {
	v, err := semver.NewVersion(ch.Version)
	if err != nil || ch.Placeholder || v.Major() == target.Major() && v.Minor() == target.Minor() {
		return nil
	}
	return []string{fmt.Sprintf("the chart %s from %s is not of the target's version %s", ch, ch.From, target)}
}
