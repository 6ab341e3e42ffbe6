package lab

import "context"

// ApplyShop applies the demonstration's workloads.
func (c *Cluster) ApplyShop(context.Context) error { return nil }
