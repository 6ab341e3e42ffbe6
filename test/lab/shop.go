package lab

import (
	"context"
	"embed"
	"fmt"
	"time"
)

//go:embed shop
var shopFiles embed.FS

// ShopNamespaces are the namespaces of the demonstration's shop, with the number of pods in each.
var ShopNamespaces = []struct {
	Name string
	Pods int
}{{"shop", 21}, {"payments", 14}, {"platform", 14}}

// ApplyShop applies the demonstration's workloads (shop/*.yaml), which need Istio to be installed, pauses the one that is to be
// found paused, and returns when all pods are ready. The number of log agents is that of the nodes; 3 are expected.
func (c *Cluster) ApplyShop(ctx context.Context) error {
	if err := c.applyShopFile(ctx, "namespaces"); err != nil {
		return err
	}
	for _, ns := range ShopNamespaces {
		if err := c.CreateNamespace(ctx, ns.Name, nil); err != nil {
			return err
		}
	}
	if err := c.CreateVolumes(ctx, 3, "1Gi"); err != nil {
		return err
	}
	for _, name := range []string{"mesh", "shop", "payments", "platform"} {
		if err := c.applyShopFile(ctx, name); err != nil {
			return err
		}
	}
	for _, ns := range ShopNamespaces {
		if err := c.AwaitPods(ctx, ns.Name, "", ns.Pods, time.Minute); err != nil {
			return err
		}
	}
	// Not in the manifest: a Deployment that is born paused never gets pods.
	_, err := c.Kubectl(ctx, nil, "rollout", "pause", "--namespace", "shop", "deployment/wishlist")
	return err
}

func (c *Cluster) applyShopFile(ctx context.Context, name string) error {
	manifest, err := shopFiles.ReadFile("shop/" + name + ".yaml")
	if err != nil {
		return fmt.Errorf("reading the shop: %w", err)
	}
	_, err = c.Kubectl(ctx, manifest, "apply", "-f", "-")
	return err
}
