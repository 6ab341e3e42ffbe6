package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// definitions judges the CRDs: established, and owned by one installer, the
// same for all.
func definitions(m *mesh.Mesh) []Check {
	if slices.Contains(m.Unreadable, "customresourcedefinitions") {
		return []Check{{Category: "CRDs", Name: "readable", Level: Warning, Cause: "you may not list CustomResourceDefinitions", Cure: "whether they fit the target is unknown"}}
	}
	check := Check{Category: "CRDs", Name: fmt.Sprintf("%d definitions are established", len(m.CRDs)), Level: OK, Object: "CRDs"}
	owners, contested := map[string]int{}, []string{}
	for i := range m.CRDs {
		crd := &m.CRDs[i]
		if !crd.Established {
			check.Level, check.Cause = Failure, crd.Name+" is not established"
			check.Cure = "kubectl describe crd " + crd.Name
		}
		if mesh.OfToday(crd.Name) { // nothing brings others on, whose ever they are
			owners[crd.Owners.String()]++
		}
		if crd.Owners.Count() > 1 {
			contested = append(contested, crd.Name)
		}
	}
	checks := []Check{check}
	names := slices.Sorted(maps.Keys(owners))
	switch {
	case len(contested) > 0:
		checks = append(checks, Check{
			Category: "CRDs", Name: fmt.Sprintf("%d with more than one owner", len(contested)), Level: Warning,
			Cause: some(contested), Cure: "remove the marks of the installer that is gone",
		})
	case len(names) > 1:
		var parts []string
		for _, name := range names {
			parts = append(parts, fmt.Sprintf("%d of %s", owners[name], name))
		}
		checks = append(checks, Check{
			Category: "CRDs", Name: "one owner has them all", Level: Warning,
			Cause: strings.Join(parts, ", "), Cure: "crds adopts those of nobody; --adopt-from NAME takes over another release's",
		})
	case len(names) == 1:
		checks = append(checks, Check{Category: "CRDs", Name: "they belong to " + names[0], Level: OK})
	}
	return checks
}
