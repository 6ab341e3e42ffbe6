package mesh

import (
	"strings"

	"github.com/Masterminds/semver/v3"
)

// SplitImage takes an image reference apart: "hub:5000/istio/pilot",
// "1.31.0-distroless" and "sha256:…" of
// "hub:5000/istio/pilot:1.31.0-distroless@sha256:…". What the reference does
// not have is empty; no default is filled in.
func SplitImage(image string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
		repository, tag = repository[:colon], repository[colon+1:]
	}
	return repository, tag, digest
}

// ImageVersion gives the Istio version that an image's tag names, without the
// variant. It is false for images without a tag and for tags that are no
// version: a digest alone, "latest", "master-20260101".
func ImageVersion(image string) (*semver.Version, bool) {
	_, tag, _ := SplitImage(image)
	return TagVersion(tag)
}

// TagVersion gives the Istio version of a tag such as 1.31.0, v1.31.0,
// 1.31.0-distroless, 1.32-alpha.3f2c9b1 (Istio's own development builds).
func TagVersion(tag string) (*semver.Version, bool) {
	base := BaseTag(tag)
	if !strings.Contains(base, ".") {
		return nil, false
	}
	v, err := semver.NewVersion(base)
	if err != nil || v.Major() > maxMajor {
		return nil, false
	}
	return v, true
}

// maxMajor tells versions from dates such as 2026.11.
const maxMajor = 99

// variants are the image variants that Istio publishes, each a suffix of the
// tag (values global.variant).
var variants = []string{"distroless", "debug"}

// BaseTag gives a tag without its variant: 1.31.4 of 1.31.4-distroless.
func BaseTag(tag string) string {
	base, _ := splitVariant(tag)
	return base
}

// SameButVariant says whether two references name one image by its tag, in whatever
// variant.
func SameButVariant(a, b string) bool {
	repository, tag, digest := SplitImage(a)
	other, its, sum := SplitImage(b)
	return repository == other && tag != "" && BaseTag(tag) == BaseTag(its) && digest == sum
}

// Variant gives a tag's variant: distroless of 1.31.4-distroless, or nothing.
func Variant(tag string) string {
	_, variant := splitVariant(tag)
	return variant
}

func splitVariant(tag string) (base, variant string) {
	for _, v := range variants {
		if rest, ok := strings.CutSuffix(tag, "-"+v); ok {
			return rest, v
		}
	}
	return tag, ""
}
