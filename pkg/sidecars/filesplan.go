package sidecars

import (
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Files are manifests to be injected and applied.
type Files struct {
	Sources []inject.Source
	// ServerSide applies as kubectl apply --server-side does.
	ServerSide bool
	// Namespace is where all objects must be; empty where each file says.
	Namespace string
}

// FilesPlan says what applying manifests with new sidecars would do.
type FilesPlan struct {
	Cluster  cluster.Identity `json:"cluster"`
	Scope    string           `json:"scope"`
	Istioctl *Istioctl        `json:"istioctl,omitempty"`
	// Objects are all of the files, in their order.
	Objects   []FileObject   `json:"objects"`
	BackupDir string         `json:"backupDir,omitempty"`
	Refusals  []gate.Refusal `json:"refusals"`
	Warnings  []string       `json:"warnings"`

	makes     made
	injectors []mesh.Injector
	// namespaces are those of the manifests, as they will be.
	namespaces map[string]workload.Namespace
}

// FileAction says what applying an object does.
type FileAction string

// The actions.
const (
	Created   FileAction = "created"
	Changed   FileAction = "changed"
	Unchanged FileAction = "unchanged"
)

// FileObject is one object of a FilesPlan.
type FileObject struct {
	workload.Ref
	Source   string     `json:"source"`
	Action   FileAction `json:"action"`
	Injected bool       `json:"injected"`
	From     *ProxyForm `json:"from,omitempty"`
	To       *ProxyForm `json:"to,omitempty"`
	Impact   Impact     `json:"impact,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	// Held is why the object is not applied.
	Held string `json:"held,omitempty"`
	// AdmissionUnknown is true where no dry run of the new pods could be made.
	AdmissionUnknown bool `json:"admissionUnknown,omitempty"`
	// Diff is what changes in the object, as a unified diff.
	Diff string `json:"diff,omitempty"`

	manifest *Manifest
	client   dynamic.ResourceInterface
	resource schema.GroupVersionResource
	// definition is the CustomResourceDefinition of the same files that makes
	// the object's kind; empty where the API server knows it already.
	definition string
	before     *unstructured.Unstructured
	kept       string             // the file that holds before, once there is one
	live       *workload.Workload // nil where it is not there, or no workload
	evict      bool               // its pods are evicted after it is applied
	steady     bool               // its pod template stays as it is
}

// Applying gives the number of objects that the plan creates or changes.
func (p *FilesPlan) Applying() int {
	n := 0
	for i := range p.Objects {
		if p.Objects[i].Action != Unchanged && p.Objects[i].Held == "" {
			n++
		}
	}
	return n
}

// NewFilesPlan injects the manifests and asks the API server, as a dry run, what
// applying them would do. It writes nothing. Errors are those of the manifests,
// of istioctl, and of objects that the API server refuses.
func NewFilesPlan(ctx context.Context, c *cluster.Cluster, o Options, f Files) (*FilesPlan, error) {
	manifests, err := ReadManifests(ctx, f.Sources)
	if err != nil {
		return nil, err
	}
	plan := &FilesPlan{Cluster: c.Identity(), Scope: "files", Objects: []FileObject{}, Refusals: []gate.Refusal{}, Warnings: []string{}}
	if plan.BackupDir, err = backupFolder(o.ByHand.BackupDir, c.Context, o.now()); err != nil {
		return nil, err
	}
	if err := plan.locate(c, manifests, f.Namespace); err != nil {
		return nil, err
	}
	if err := plan.inject(ctx, c, &o, manifests); err != nil {
		return nil, err
	}
	e := &examiner{
		how: newApplier(&o, f), o: &o, makes: plan.makes,
		asker: &asker{c: c, manager: o.FieldManager}, injectors: plan.injectors, namespaces: plan.namespaces,
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for i := range plan.Objects {
		group.Go(func() error { return e.examine(groupCtx, i, &plan.Objects[i]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	plan.Refusals = append(plan.Refusals, e.refusals()...)
	unknown := 0
	for i := range plan.Objects {
		plan.Warnings = append(plan.Warnings, plan.Objects[i].warnings()...)
		unknown += btoi(plan.Objects[i].AdmissionUnknown)
	}
	if unknown > 0 {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("whether the new pods would be admitted is unknown for %d workloads: no dry run of them could be made", unknown))
	}
	return plan, plan.checkRights(ctx, c)
}

// MarshalJSON gives empty lists rather than null.
func (p FilesPlan) MarshalJSON() ([]byte, error) {
	type plain FilesPlan
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	return json.Marshal(plain(p))
}

// InjectFiles injects the manifests by the settings of the control planes that
// they belong to, and applies nothing.
func InjectFiles(ctx context.Context, c *cluster.Cluster, o Options, f Files) ([]Manifest, error) {
	manifests, err := ReadManifests(ctx, f.Sources)
	if err != nil {
		return nil, err
	}
	p := &FilesPlan{}
	if err := p.locate(c, manifests, f.Namespace); err != nil {
		return nil, err
	}
	return manifests, p.inject(ctx, c, &o, manifests)
}
