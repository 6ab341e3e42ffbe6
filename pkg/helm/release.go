package helm

import (
	"slices"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"istio.io/api/label"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Release is one revision of a Helm release of one of Istio's charts.
type Release struct {
	Name         string         `json:"name"`
	Namespace    string         `json:"namespace"`
	Revision     int            `json:"revision"`
	Status       string         `json:"status"`
	Description  string         `json:"description,omitempty"`
	Updated      time.Time      `json:"updated,omitzero"`
	ChartName    string         `json:"chartName"`
	ChartVersion string         `json:"chartVersion"`
	AppVersion   string         `json:"appVersion,omitempty"`
	Component    Component      `json:"component"`
	Values       map[string]any `json:"values"`
	// IstioRevision is the control plane revision that the release belongs to;
	// "default" where it names none.
	IstioRevision string `json:"istioRevision"`
	// RollbackTo is the revision that this one is a copy of, where it is a rollback;
	// 0 where it is none (Helm's release.Info).
	RollbackTo int `json:"rollbackTo,omitempty"`
	// ServerSide is true where the revision was written by server-side apply.
	ServerSide bool `json:"serverSide"`
	// Helm2 is true for a release that Tiller stored, which Helm 3 and 4 cannot
	// touch. Only its name, namespace, revision and status are known.
	Helm2 bool `json:"helm2,omitempty"`
	// Manifest is what the revision wrote; Hooks are the manifests of its hooks.
	Manifest string   `json:"-"`
	Hooks    []string `json:"-"`
	// StoredBy is the field manager that wrote the record of the revision last.
	StoredBy string `json:"-"`
	// Labels and Annotations are those of the record: GitOps tools mark it.
	Labels map[string]string `json:"-"`
	// Chart is the chart as it was stored with the revision: without its
	// subcharts, which Helm does not store.
	Chart *Chart `json:"-"`
}

// Pending tells whether an operation on the release began and has not ended.
func (r Release) Pending() bool { return common.Status(r.Status).IsPending() }

// Deployed tells whether the revision is the one in force.
func (r Release) Deployed() bool { return r.Status == common.StatusDeployed.String() }

// Failed tells whether Helm, or we, called the revision a failure.
func (r Release) Failed() bool { return r.Status == common.StatusFailed.String() }

// Uninstalled tells whether the release is gone, and its records were kept.
func (r Release) Uninstalled() bool { return r.Status == uninstalled }

// Superseded tells whether the revision was in force before.
func (r Release) Superseded() bool { return r.Status == common.StatusSuperseded.String() }

// String names the release as events and errors do.
func (r Release) String() string { return "release " + r.Name + " in " + r.Namespace }

// fromHelm takes over what is known of a revision, and false where its chart is
// none of Istio's.
func fromHelm(stored *release.Release) (Release, bool) {
	if stored == nil || stored.Chart == nil || stored.Chart.Metadata == nil || stored.Info == nil {
		return Release{}, false
	}
	metadata := stored.Chart.Metadata
	component, ok := ComponentOf(metadata.Name)
	if !ok || !isIstios(metadata) {
		return Release{}, false
	}
	r := Release{
		Name: stored.Name, Namespace: stored.Namespace, Revision: stored.Version,
		Status: stored.Info.Status.String(), Description: stored.Info.Description, Updated: stored.Info.LastDeployed.UTC(),
		ChartName: metadata.Name, ChartVersion: metadata.Version, AppVersion: metadata.AppVersion,
		Component: component, Values: stored.Config, Manifest: stored.Manifest, RollbackTo: stored.Info.RollbackRevision,
		ServerSide: stored.ApplyMethod == string(release.ApplyMethodServerSideApply),
		Chart: &Chart{
			Component: component, Name: metadata.Name, Version: metadata.Version,
			Placeholder: slices.Contains(placeholders, metadata.Version), From: "the release itself",
			Chart: stored.Chart, load: func() (*chart.Chart, error) { return stored.Chart, nil },
		},
		Labels: stored.Labels,
	}
	if r.Values == nil {
		r.Values = map[string]any{}
	}
	for _, hook := range stored.Hooks {
		r.Hooks = append(r.Hooks, hook.Manifest)
	}
	r.IstioRevision = istioRevision(r)
	return r, true
}

// istioRevision reads the control plane revision from the release's values,
// and else from the label of its objects. A gateway's is the revision that its
// values choose.
func istioRevision(r Release) string {
	for _, path := range [][]string{{"revision"}, {"global", "revision"}} {
		if revision := stringAt(r.Values, path...); revision != "" {
			return revision
		}
	}
	if r.Component == Istiod {
		objects, err := ParseManifest(r.Manifest)
		if err == nil {
			for _, o := range objects {
				if revision := o.GetLabels()[label.IoIstioRev.Name]; o.GetKind() == "Deployment" && revision != "" {
					return revision
				}
			}
		}
	}
	return "default"
}

// stringAt gives the string at a path of nested maps, or "".
func stringAt(values map[string]any, path ...string) string {
	for i, key := range path {
		if i == len(path)-1 {
			text, _ := values[key].(string)
			return text
		}
		next, ok := values[key].(map[string]any)
		if !ok {
			return ""
		}
		values = next
	}
	return ""
}

// Meta gives the metadata of the release's record.
func (r Release) Meta() metav1.Object {
	return &metav1.ObjectMeta{Name: r.Name, Namespace: r.Namespace, Labels: r.Labels}
}
