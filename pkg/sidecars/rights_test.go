package sidecars

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Whatever a move does is asked for before it begins.
func TestNeededRights(t *testing.T) {
	of := func(group, kind string, how How, evict bool) Item {
		return Item{Ref: workload.Ref{Group: group, Kind: kind, Namespace: "shop", Name: "x"}, How: how, evict: evict}
	}
	for _, c := range []struct {
		name string
		item Item
		want []string
	}{
		{"a restart", of("apps", workload.Deployment, Restart, false), []string{"list deployments", "watch deployments", "patch deployments", "watch pods"}},
		{"an eviction", of("apps", workload.StatefulSet, Evict, false), []string{"list statefulsets", "watch statefulsets", "watch pods", "create pods/eviction"}},
		{"by hand, and evicted then", of("apps", workload.StatefulSet, Reinject, true), []string{"list statefulsets", "watch statefulsets", "patch statefulsets", "watch pods", "create pods/eviction"}},
		{"by hand, a CronJob", of("batch", workload.CronJob, Reinject, false), []string{"patch cronjobs"}},
		{"only watched", of("apps", workload.Deployment, Watch, false), []string{"list deployments", "watch deployments", "watch pods"}},
		{"it stays", of("apps", workload.Deployment, Nothing, false), nil},
	} {
		var got []string
		for _, p := range neededRights([]Item{c.item, c.item}) {
			text := p.Verb + " " + p.Resource
			if p.Subresource != "" {
				text += "/" + p.Subresource
			}
			if p.Namespace != "shop" {
				t.Errorf("%s: %+v", c.name, p)
			}
			got = append(got, text)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, fmt.Sprint(got), fmt.Sprint(c.want))
		}
	}
}
