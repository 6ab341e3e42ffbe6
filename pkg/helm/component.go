// Package helm finds Istio's charts and releases, and upgrades, installs,
// rolls back and uninstalls them with the Helm SDK.
package helm

import (
	"slices"
	"strings"
)

// Component is a part of Istio that has a chart of its own.
type Component string

// The components, by the names that the command line uses. IstioInit and Istio
// are the two charts of Istio 1.1 to 1.5.
const (
	Base      Component = "base"
	Istiod    Component = "istiod"
	CNI       Component = "cni"
	Ztunnel   Component = "ztunnel"
	Gateway   Component = "gateway"
	IstioInit Component = "istio-init"
	Istio     Component = "istio"
)

// chartNames are the names in Chart.yaml, the one of today first. Istio's
// charts were renamed in 1.12 (manifests/charts/UPDATING-CHARTS.md).
var chartNames = map[Component][]string{
	Base:      {"base"},
	Istiod:    {"istiod", "istio-discovery"},
	CNI:       {"cni", "istio-cni"},
	Ztunnel:   {"ztunnel"},
	Gateway:   {"gateway"},
	IstioInit: {"istio-init"},
	Istio:     {"istio"},
}

// ComponentOf gives the component that a chart of this name installs, and
// false for a chart that is none of Istio's. Vendors' names that end in one of
// the legacy names (ack-istio-init) count.
func ComponentOf(chartName string) (Component, bool) {
	for component, names := range chartNames {
		if slices.Contains(names, chartName) {
			return component, true
		}
	}
	if strings.HasSuffix(chartName, "-istio-init") {
		return IstioInit, true
	}
	return "", false
}
