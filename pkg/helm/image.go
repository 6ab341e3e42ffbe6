package helm

import (
	"context"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/registry"
)

// ImageState says what a registry answers when it is asked for an image.
type ImageState string

// What ResolveImage finds.
const (
	ImageThere   ImageState = "there"
	ImageAbsent  ImageState = "absent"  // the registry answered that it has none of that name and tag
	ImageUnknown ImageState = "unknown" // it could not be asked, or wants a login
)

// ResolveImage asks the registry of an image ("docker.io/istio/pilot:1.31.0")
// for its manifest, by one HEAD with the user's registry logins. The error says
// why it is unknown. What a cluster's nodes can reach may be more, or less.
func ResolveImage(ctx context.Context, image string) (ImageState, error) {
	host, rest, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = "docker.io", image // as container engines complete names
	}
	if host == "docker.io" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	source, err := ParseSource(registry.OCIScheme + "://" + host)
	if err != nil {
		return ImageUnknown, err
	}
	client, err := source.registryClient(ctx)
	if err != nil {
		return ImageUnknown, err
	}
	_, err = within(ctx, func() (struct{}, error) {
		_, err := client.Resolve(host + "/" + rest)
		return struct{}{}, err
	})
	switch {
	case err == nil:
		return ImageThere, nil
	case ctx.Err() == nil && notFound(err):
		return ImageAbsent, nil
	}
	return ImageUnknown, fmt.Errorf("ask the registry %s for %s: %w", host, image, err)
}
