package mesh

import (
	"cmp"
	"fmt"
	"strings"

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

// Compare orders versions of Istio: -1 where a is older than b, 0 where they are the
// same Istio, 1 where a is newer. What stands behind a version is older than it
// where it is an alpha, beta or rc; anything else is a vendor's name for the same
// (1.31.0-asm.2, 1.30.2-fips), which semver alone would take for older.
func Compare(a, b *semver.Version) int {
	if c := cmp.Or(cmp.Compare(a.Major(), b.Major()), cmp.Compare(a.Minor(), b.Minor()), cmp.Compare(a.Patch(), b.Patch())); c != 0 {
		return c
	}
	early, late := preRelease(a), preRelease(b)
	switch {
	case early && late:
		return a.Compare(b)
	case early:
		return -1
	case late:
		return 1
	}
	return 0
}

func preRelease(v *semver.Version) bool {
	for _, kind := range []string{"alpha", "beta", "rc"} {
		if strings.HasPrefix(v.Prerelease(), kind) {
			return true
		}
	}
	return false
}

// Skew judges an upgrade in place from one version to another: never back, and
// one minor version at a time (istio.io, "Upgrade Istio": in-place upgrades
// that skip a minor version are not supported).
func Skew(from, to *semver.Version) SkewKind {
	switch {
	case Compare(to, from) < 0:
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
