package mesh

import (
	"fmt"
	"slices"

	"github.com/Masterminds/semver/v3"
)

// readsV1 is the first istiod that reads networking, security and telemetry
// objects in version v1, which CRDs serve from 1.22 on (release notes of 1.24).
var readsV1 = semver.MustParse("1.24.0-0")

// newKinds are CRDs that an istiod of the version and later watches and that
// older charts do not have.
var newKinds = []struct {
	since *semver.Version
	name  string
}{
	{semver.MustParse("1.30.0-0"), "trafficextensions.extensions.istio.io"},
}

// v1Kinds are the CRDs that must serve v1 for an istiod from readsV1 on.
var v1Kinds = []string{
	"authorizationpolicies.security.istio.io", "destinationrules.networking.istio.io",
	"gateways.networking.istio.io", "peerauthentications.security.istio.io",
	"requestauthentications.security.istio.io", "serviceentries.networking.istio.io",
	"sidecars.networking.istio.io", "telemetries.telemetry.istio.io",
	"virtualservices.networking.istio.io", "workloadentries.networking.istio.io",
	"workloadgroups.networking.istio.io",
}

// otherKinds are CRDs of today's charts beside v1Kinds and newKinds.
var otherKinds = []string{
	"envoyfilters.networking.istio.io", "proxyconfigs.networking.istio.io", "wasmplugins.extensions.istio.io",
}

// OfToday tells whether Istio's charts of today define a CRD. Others, such as
// istiooperators.install.istio.io, are left over, and nothing brings them on.
func OfToday(name string) bool {
	for _, kind := range newKinds {
		if kind.name == name {
			return true
		}
	}
	return slices.Contains(v1Kinds, name) || slices.Contains(otherKinds, name)
}

// CRDsBehind says what of the CRDs is too old for a control plane of the
// target version, one sentence each without a final period; empty where they
// will do. It judges by what is certain without the target's own CRDs:
// versions that the target reads, CRDs that it watches, and the minor version
// that the labels of Istio's charts name.
func CRDsBehind(crds []CRD, target *semver.Version) []string {
	behind := []string{}
	if len(crds) == 0 {
		return append(behind, "no CustomResourceDefinition of Istio is installed")
	}
	find := func(name string) *CRD {
		if at := slices.IndexFunc(crds, func(c CRD) bool { return c.Name == name }); at >= 0 {
			return &crds[at]
		}
		return nil
	}
	if !target.LessThan(readsV1) {
		for _, name := range v1Kinds {
			crd := find(name)
			if crd == nil {
				behind = append(behind, name+" is missing")
				continue
			}
			if !slices.ContainsFunc(crd.Versions, func(v VersionInfo) bool { return v.Name == "v1" && v.Served }) {
				behind = append(behind, fmt.Sprintf("%s does not serve v1, which Istio %s reads", name, target))
			}
		}
	}
	for _, kind := range newKinds {
		if !target.LessThan(kind.since) && find(kind.name) == nil {
			behind = append(behind, kind.name+" is missing")
		}
	}
	for _, crd := range crds {
		v, err := semver.NewVersion(crd.ChartVersion)
		if err == nil && OfToday(crd.Name) && (v.Major() < target.Major() || v.Major() == target.Major() && v.Minor() < target.Minor()) {
			behind = append(behind, fmt.Sprintf("%s is of Istio %s", crd.Name, crd.ChartVersion))
		}
	}
	return behind
}
