// Package crds brings Istio's CustomResourceDefinitions to a target version:
// by the Helm release that owns them, by the legacy release istio-init and its
// Jobs, or by server-side apply where there is no release. It deletes no
// definition and no custom resource, ever.
package crds

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// Step is the name of the step in events and refusals.
const Step = "crds"

// The values of Options.DryRun.
const (
	DryRunNone   = "none"
	DryRunClient = "client"
	DryRunServer = "server"
)

// Options say what the step is to do.
type Options struct {
	// Tag is the target: 1.31.0, 1.31.0-distroless.
	Tag string
	// IstioNamespace is where a legacy release is installed that is not there
	// yet, and where to look when other namespaces may not be read.
	IstioNamespace string
	// BackupDir is where the backup goes; empty means a new folder below the
	// user's state folder. NoBackup writes none.
	BackupDir string
	NoBackup  bool
	// AdoptFrom names a Helm release ("name" or "namespace/name") whose
	// definitions are taken over.
	AdoptFrom string
	// External says that another pipeline brings the definitions: they are
	// compared with the target, and nothing is written.
	External bool
	// Diff has the plan hold what changes as unified diffs.
	Diff bool
	// DryRun is none, client or server; empty means none.
	DryRun string
	// Timeout is how long a release, its Jobs or a definition may take without
	// progress; zero means ten minutes.
	Timeout time.Duration
	// FieldManager writes definitions that no Helm release owns; empty means
	// istio-upgrade.
	FieldManager string
	// Force goes on in spite of the refusals that allow it.
	Force bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

func (o Options) timeout() time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return 10 * time.Minute
}

func (o Options) fieldManager() string {
	if o.FieldManager != "" {
		return o.FieldManager
	}
	return "istio-upgrade"
}

// Action is what a plan does as a whole.
type Action string

// The actions.
const (
	// Upgrade upgrades the release of the chart base.
	Upgrade Action = "upgrade"
	// Replace deletes the legacy release istio-init and installs the new chart
	// under its name; Install does the second half, where there is none.
	Replace Action = "replace"
	Install Action = "install"
	// ApplyOnly writes the definitions without a release.
	ApplyOnly Action = "apply"
	// Verify compares and writes nothing.
	Verify Action = "verify"
	// Nothing says that all is as the target wants it.
	Nothing Action = "none"
)

// Plan is what the step would do, and why it must not, where it must not.
type Plan struct {
	Cluster cluster.Identity `json:"cluster"`
	Tag     string           `json:"tag"`
	Source  string           `json:"source"`
	Action  Action           `json:"action"`
	// Release is the Helm release that is upgraded, replaced or installed; nil
	// without one.
	Release *ReleaseChange `json:"release,omitempty"`
	CRDs    []Change       `json:"crds"`
	// Objects counts the custom resources, for each definition that has any.
	Objects []Count `json:"objects"`
	// Invalid lists the stored objects that the target's schema refuses.
	Invalid []InvalidObject `json:"invalid"`
	// LeftoverJobs are Jobs of the names that the new chart uses, which are
	// removed first: "istio-system/istio-init-crd-10-1.5.0".
	LeftoverJobs []string       `json:"leftoverJobs"`
	Refusals     []gate.Refusal `json:"refusals"`
	Warnings     []string       `json:"warnings"`
	// Backup is the folder that the custom resources are written to first;
	// empty where there is no backup.
	Backup string `json:"backup,omitempty"`

	work work
}

// work is what Apply needs of what was found while planning.
type work struct {
	chart   *helm.Chart
	release *helm.Release
	// base is the revision of it that the action goes out from, see goesFrom.
	base helm.Release
	// former is what is left of a legacy release that a run of ours deleted, and
	// was stopped before it had installed the new one.
	former  *helm.Release
	values  map[string]any
	targets []target
	// inTemplates says that Helm itself writes the definitions.
	inTemplates bool
	// manager is the field manager for definitions that we write ourselves.
	manager string
	// stale names the definitions that bear the marks of a release which is gone.
	stale []string
	// same says that the release is already what the chart makes of its values.
	same bool
	// stored are the objects of base.
	stored []*unstructured.Unstructured
	// objects are what the chart renders, jobs the names of the Jobs among them.
	objects []*unstructured.Unstructured
	jobs    []string
}

// ReleaseChange is what happens to a Helm release.
type ReleaseChange struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	ChartFrom string `json:"chartFrom,omitempty"`
	ChartTo   string `json:"chartTo"`
	Action    Action `json:"action"`
}

// What happens to one definition.
const (
	Created    = "created"
	Changed    = "changed"
	Relabelled = "relabelled" // labels or annotations only
	Adopted    = "adopted"    // the release takes it over as it is
	Unchanged  = "unchanged"
	Orphaned   = "orphaned" // the target has none of the name; it stays
)

// Change is what happens to one definition.
type Change struct {
	Name            string   `json:"name"`
	Action          string   `json:"action"`
	VersionsAdded   []string `json:"versionsAdded"`
	VersionsRemoved []string `json:"versionsRemoved"`
	// StorageFrom and StorageTo are set where the storage version moves.
	StorageFrom string `json:"storageFrom,omitempty"`
	StorageTo   string `json:"storageTo,omitempty"`
	// AdoptedFrom says whose the definition was, where a release takes it over:
	// "nobody", or the other release.
	AdoptedFrom string `json:"adoptedFrom,omitempty"`
	// Owner says whose it is: a Helm release, istioctl, nobody.
	Owner string `json:"owner"`
	// Diff is a unified diff of its YAML, where that was asked for.
	Diff string `json:"diff,omitempty"`
}

// Count is the number of objects of a definition.
type Count struct {
	CRD     string `json:"crd"`
	Kind    string `json:"kind"`
	Objects int    `json:"objects"`
}

// InvalidObject is a stored object that the target's schema refuses.
type InvalidObject struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Version is the API version by which it was judged.
	Version string `json:"version"`
	// Errors names the fields, and why.
	Errors []string `json:"errors"`
	// Already says that the present schema refuses it for the same reasons.
	Already bool `json:"already"`
}

// Result is what was done.
type Result struct {
	Action Action `json:"action"`
	// Written are the definitions that now are as the target wants them and
	// were not before.
	Written []string `json:"written"`
	Backup  string   `json:"backup,omitempty"`
	// Objects is the number of custom resources before; all are there afterwards,
	// but those that others deleted meanwhile, which an event names.
	Objects int `json:"objects"`
}

// Brings is the version of Istio whose definitions the chart has: the tag, or
// the chart's own where base is of another minor version. Vendors number their
// istio-init as they like.
func (p *Plan) Brings() string {
	if v, ok := mesh.TagVersion(p.Tag); ok && p.work.chart.Component == helm.Base && p.work.chart.OtherMinor(v) {
		return p.work.chart.Version
	}
	return p.Tag
}

// Writes says whether applying the plan changes the cluster.
func (p *Plan) Writes() bool { return p.Action != Nothing && p.Action != Verify }
