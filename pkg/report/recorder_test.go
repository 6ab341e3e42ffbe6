package report

import (
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// What has no pods is told of in the log, and is no workload of the page.
func TestWhatIsNoWorkload(t *testing.T) {
	r := NewRecorder(&Run{})
	for _, kind := range []string{"customresourcedefinition", "HorizontalPodAutoscaler", "lease"} {
		for _, what := range []progress.Kind{progress.Started, progress.Updated, progress.Waiting, progress.Done} {
			r.Notify(progress.Event{Kind: what, Step: "crds", Object: progress.Object{Kind: kind, Name: "x"}})
		}
	}
	r.Notify(progress.Event{Kind: progress.Started, Step: "sidecars", Object: progress.Object{Kind: "Deployment", Namespace: "shop", Name: "web"}})
	if got := r.run.Workloads; len(got) != 1 || got[0].Name != "web" {
		t.Errorf("workloads: %+v", got)
	}
}
