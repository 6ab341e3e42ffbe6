package preflight

import (
	"fmt"
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// releases judges Istio's Helm releases: none in the middle of something, none
// whose last revision failed, none of Helm 2.
func releases(all []helm.Release) []Check {
	if len(all) == 0 {
		return nil
	}
	var checks []Check
	for i := range all {
		r := &all[i]
		check := Check{Category: "releases", Name: r.String(), Level: Warning}
		converted := func(other helm.Release) bool { return r.Helm2 && !other.Helm2 && other.Name == r.Name }
		switch {
		case slices.ContainsFunc(all, converted):
			continue // helm 2to3 convert keeps the old records
		case r.Helm2:
			check.Cause = "it was stored by Helm 2 (Tiller), which Helm of today cannot upgrade"
			check.Cure = "convert it with helm 2to3 convert " + r.Name
		case r.Pending():
			check.Level, check.Cause = Failure, fmt.Sprintf("an operation on its revision %d did not end: %s", r.Revision, r.Status)
			check.Cure = "run the command that was stopped again, with --recover where that was not kubectl istio-upgrade"
		case r.Failed():
			check.Cause = fmt.Sprintf("its revision %d failed: %s", r.Revision, r.Description)
			check.Cure = "mend the cause and run the same command again, or go back by rollback"
		default:
			continue
		}
		checks = append(checks, check)
	}
	if len(checks) == 0 {
		checks = append(checks, Check{Category: "releases", Name: fmt.Sprintf("%d of Istio's charts are healthy", len(all)), Level: OK})
	}
	return checks
}
