package controlplane

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// configured judges an injector that could not be asked by its ConfigMap: the
// injectors of Istio 1.0 to 1.5 refuse dry-runs, and read hub, tag and image
// from there. The warning says so. That it gives another tag is an error: the
// ConfigMap is the release's own, so that it does not change by itself.
func (v verifier) configured(ctx context.Context, unable string) (image, warning string, err error) {
	name := mesh.InjectorConfigMap
	if v.revision != mesh.DefaultRevision {
		name += "-" + v.revision
	}
	given, err := mesh.ReadInjection(ctx, v.c.Kube, v.istioNamespace, v.revision)
	switch {
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case apierrors.IsNotFound(err):
		return "", fmt.Sprintf("%s, and there is no ConfigMap %s in %s that says what it gives out", unable, name, v.istioNamespace), nil
	case err != nil:
		return "", fmt.Sprintf("%s, and its ConfigMap %s in %s cannot be read: %v", unable, name, v.istioNamespace, err), nil
	}
	image = given.ImageFor(nil)
	if image == "" {
		return "", fmt.Sprintf("%s, and its ConfigMap %s in %s does not say what it gives out", unable, name, v.istioNamespace), nil
	}
	says := fmt.Sprintf("%s; by its ConfigMap %s in %s it gives out %s", unable, name, v.istioNamespace, image)
	if v.bears(image) {
		return image, says, nil
	}
	if v.anyAnswer {
		return "", says, nil
	}
	return "", "", fmt.Errorf("the injector does not give out %s: %s", v.wanted(), says)
}
