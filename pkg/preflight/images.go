package preflight

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// Image is what the registry of an image says of it.
type Image struct {
	Name  string
	State helm.ImageState
	// Err says why the state is not known.
	Err error
}

const parallelImages = 4

// AskRegistries asks for each image whether its registry has it. They may take so
// long, all in all.
func AskRegistries(ctx context.Context, names []string, patience time.Duration) []Image {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found := make([]Image, len(names))
	group := errgroup.Group{}
	group.SetLimit(parallelImages)
	for i, name := range names {
		group.Go(func() error {
			state, err := helm.ResolveImage(ctx, name)
			found[i] = Image{Name: name, State: state, Err: err}
			return nil
		})
	}
	_ = group.Wait() // what went wrong stands in each
	return found
}

// images judges what the registries say. That one cannot be asked from here says
// nothing of the nodes; that it has no such image says that pods cannot start.
func images(all []Image) []Check {
	if len(all) == 0 {
		return nil
	}
	var checks []Check
	for _, i := range all {
		switch i.State {
		case helm.ImageAbsent:
			checks = append(checks, Check{
				Category: "images", Name: i.Name, Level: Failure,
				Cause: "its registry has no such image", Cure: "look at --tag and at the hub in the releases' values, or copy the image there",
			})
		case helm.ImageUnknown:
			checks = append(checks, Check{
				Category: "images", Name: i.Name, Level: Warning,
				Cause: fmt.Sprintf("its registry could not be asked from here: %v", i.Err), Cure: "see to it that the nodes can pull it; helm registry login gives this machine a login",
			})
		}
	}
	if len(checks) == 0 {
		checks = append(checks, Check{Category: "images", Name: fmt.Sprintf("%d are in their registries", len(all)), Level: OK})
	}
	return checks
}
