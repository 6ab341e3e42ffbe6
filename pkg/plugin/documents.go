package plugin

import (
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/preflight"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// documentVersion stands in every document and every event. Within it fields and
// values are added, never renamed or removed, and none changes its meaning.
const documentVersion = "istio-upgrade/v1"

// Document is what programs read of this one.
type Document struct {
	Name  string // of the schema's file
	Title string
	// Value is an empty document.
	Value any
	// Parts are what a field of any type may hold.
	Parts map[string][]any
	// Constants are the fields that always have one value.
	Constants map[string]any
	// Known are values of a field to which later releases may add.
	Known map[string][]any
}

// Documents gives all that the commands print as JSON or write for programs.
func Documents() []Document {
	version := func(kind string) map[string]any {
		return map[string]any{"apiVersion": documentVersion, "kind": kind}
	}
	return []Document{
		{
			Name: "report", Title: "What -o json prints of a plan and of what came of it", Value: document{}, Constants: version("Report"),
			Parts: map[string][]any{
				"plan":   {&crds.Plan{}, &controlplane.Plan{}, &controlplane.RollbackPlan{}, &sidecars.Plan{}, &sidecars.FilesPlan{}},
				"result": {&crds.Result{}, &controlplane.Result{}, &sidecars.Result{}},
				"left":   {[]sidecars.Item{}, []sidecars.FileObject{}},
			},
			Known: map[string][]any{"step": {"crds", "control-plane", "sidecars", "rollback", "all"}},
		},
		{
			Name: "event", Title: "A line of the file that --events names", Value: eventLine{},
			Constants: map[string]any{"apiVersion": documentVersion},
			Known: map[string][]any{
				"step": {"crds", "control-plane", "sidecars", "rollback", "all"},
				"event": {
					runStarted, runFinished, progress.StepStarted, progress.StepFinished, progress.Planned, progress.Started,
					progress.Updated, progress.Waiting, progress.Done, progress.Skipped, progress.Failed, progress.Warning,
					progress.Paused, progress.Resumed,
				},
			},
		},
		{
			Name: "check", Title: "What check prints with -o json", Value: checkDocument{}, Constants: version("Check"),
		},
		{
			Name: "status", Title: "What status prints with -o json", Value: meshStatus{}, Constants: version("Status"),
		},
		{
			Name: "version", Title: "What version prints with -o json", Value: versions{}, Constants: version("Version"),
		},
	}
}

// SchemaID is the name by which a document's schema goes.
func SchemaID(name string) string {
	return "https://github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/docs/schemas/" + name + ".schema.json"
}

// checkDocument is what check prints as JSON.
type checkDocument struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Cluster    cluster.Identity  `json:"cluster"`
	Tag        string            `json:"tag,omitempty"`
	Checks     []preflight.Check `json:"checks"`
}
