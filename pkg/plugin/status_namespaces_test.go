package plugin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

func TestNamespaceStates(t *testing.T) {
	item := func(namespace, revision string, verdict sidecars.Verdict, pods ...int32) sidecars.Item {
		i := sidecars.Item{Ref: workload.Ref{Namespace: namespace, Kind: "Deployment"}, Revision: revision, Verdict: verdict}
		for _, n := range pods {
			i.Proxies = append(i.Proxies, sidecars.ProxyCount{Pods: n})
		}
		return i
	}
	got := namespaceStates([]sidecars.Item{
		item("shop", "default", sidecars.Fresh, 3),
		item("shop", "canary", sidecars.Stale, 2, 1), // in the middle of a rollout
		item("shop", "default", sidecars.Stale, 2),
		item("bank", "", sidecars.Missing),
	})
	want := []namespaceState{
		{Name: "bank", Revisions: []string{}, Workloads: 1, Verdicts: []verdictCount{{sidecars.Missing, 1, 0}}},
		{Name: "shop", Revisions: []string{"canary", "default"}, Workloads: 3, Proxies: 8, Verdicts: []verdictCount{{sidecars.Stale, 2, 5}, {sidecars.Fresh, 1, 3}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if none := namespaceStates(nil); none == nil {
		t.Error("no namespaces are null in JSON")
	}
	var b strings.Builder
	if err := namespaceTable(got).print(&b, false); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(text, "shop canary,default 3 8 5 stale, 3 fresh") {
		t.Errorf("got %s", text)
	}
}
