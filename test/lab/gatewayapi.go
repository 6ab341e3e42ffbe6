package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// InstallGatewayAPI creates the definitions of the Gateway API, those of the version that istiod is built with. An
// istiod that runs already sees them come, and from then on makes a Deployment and a Service of every Gateway of the
// class istio.
func (c *Cluster) InstallGatewayAPI(ctx context.Context) error {
	source, err := sourceDir()
	if err != nil {
		return err
	}
	module, err := downloadModule(ctx, filepath.Join(source, "parts"), "sigs.k8s.io/gateway-api")
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(module, "config", "crd", "standard", "gateway.networking.k8s.io_*.yaml"))
	if err != nil {
		return fmt.Errorf("finding the definitions of the Gateway API: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("finding the definitions of the Gateway API: none in %s", module)
	}
	slices.Sort(files)
	texts := make([]string, 0, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a definition of the Gateway API: %w", err)
		}
		texts = append(texts, string(text))
	}
	_, err = c.Kubectl(ctx, []byte(strings.Join(texts, "\n---\n")), "create", "-f", "-")
	return err
}
