package mesh

import (
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// SkewKind says in which way two versions do not go together.
type SkewKind string

// What Skew and ProxySkew find.
const (
	SkewNone     SkewKind = ""
	Downgrade    SkewKind = "downgrade"
	SkippedMinor SkewKind = "skipped-minor"
	ProxyTooOld  SkewKind = "proxy-too-old"
	ProxyTooNew  SkewKind = "proxy-too-new"
)

// proxyMaxTrail is by how many minor versions a proxy may trail.
const proxyMaxTrail = 1

// Skew judges an upgrade in place from one version to another: never back, and
// one minor version at a time (istio.io, "Upgrade Istio": in-place upgrades
// that skip a minor version are not supported).
func Skew(from, to *semver.Version) SkewKind {
	switch {
	case to.LessThan(from):
		return Downgrade
	case to.Major() != from.Major() || to.Minor() > from.Minor()+1:
		return SkippedMinor
	}
	return SkewNone
}

// ProxySkew judges a proxy against the control plane that it is to talk to:
// the control plane may lead by one minor version and never trails (istio.io,
// "Supported releases", control plane/data plane skew). Patch versions do not
// count.
func ProxySkew(proxy, controlPlane *semver.Version) SkewKind {
	switch {
	case proxy.Major() != controlPlane.Major():
		if proxy.Major() < controlPlane.Major() {
			return ProxyTooOld
		}
		return ProxyTooNew
	case proxy.Minor() > controlPlane.Minor():
		return ProxyTooNew
	case proxy.Minor()+proxyMaxTrail < controlPlane.Minor():
		return ProxyTooOld
	}
	return SkewNone
}

// NextMinor names the minor version after v, which an upgrade that skips it
// must go through: "1.31" of 1.30.2.
func NextMinor(v *semver.Version) string {
	return fmt.Sprintf("%d.%d", v.Major(), v.Minor()+1)
}
