package sidecars

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"istio.io/api/label"

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

	manifest *Manifest
	client   dynamic.ResourceInterface
	before   *unstructured.Unstructured
	live     *workload.Workload // nil where it is not there, or no workload
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
	made := map[string]bool{}
	for i := range manifests {
		if k := manifests[i].Given.GetKind(); k == "Namespace" || k == "CustomResourceDefinition" {
			made[manifests[i].Given.GetName()] = true
		}
	}
	how := applier{manager: o.FieldManager, serverSide: f.ServerSide, force: o.Force}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelQuestions)
	for i := range plan.Objects {
		group.Go(func() error { return plan.Objects[i].examine(groupCtx, how, made, &o) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i := range plan.Objects {
		plan.Warnings = append(plan.Warnings, plan.Objects[i].warnings()...)
	}
	return plan, nil
}

// locate finds the API resource of each object, and its namespace where the
// file names none.
func (p *FilesPlan) locate(c *cluster.Cluster, manifests []Manifest, only string) error {
	mapper, err := c.Mapper()
	if err != nil {
		return err
	}
	for i := range manifests {
		m := &manifests[i]
		gvk := m.Given.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Where, err)
		}
		object := FileObject{Source: m.Where, manifest: m}
		resource := c.Dynamic.Resource(mapping.Resource)
		object.client = resource
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if m.Given.GetNamespace() == "" {
				m.Given.SetNamespace(c.Namespace)
			}
			if only != "" && m.Given.GetNamespace() != only {
				return gate.BadInputf("%s: %s is in namespace %s, not in %s as -n says", m.Where, m.Given.GetName(), m.Given.GetNamespace(), only)
			}
			object.client = resource.Namespace(m.Given.GetNamespace())
		}
		object.Ref = workload.Ref{Group: gvk.Group, Kind: gvk.Kind, Namespace: m.Given.GetNamespace(), Name: m.Given.GetName()}
		p.Objects = append(p.Objects, object)
	}
	return nil
}

// inject runs istioctl over the manifests, by the settings of the control plane
// that each belongs to.
func (p *FilesPlan) inject(ctx context.Context, c *cluster.Cluster, o *Options, manifests []Manifest) error {
	if !slices.ContainsFunc(manifests, func(m Manifest) bool { wanted, _ := wantsSidecar(m.Given); return wanted }) {
		return nil
	}
	istioctl, version, err := findIstioctl(ctx, o.ByHand)
	if err != nil {
		return err
	}
	p.Istioctl = &Istioctl{Path: istioctl.Path, Version: version}
	seen := &observation{injections: map[string]injection{}}
	if err := seen.readInjectors(ctx, c, o); err != nil {
		return err
	}
	a := &asker{c: c, manager: o.FieldManager}
	forms := &forms{a: a, injectors: seen, known: map[string]bool{}, native: map[string]bool{}}
	namespaces := map[string]workload.Namespace{}
	served := map[string]bool{}
	err = injectManifests(ctx, istioctl, manifests, func(m *Manifest) (inject.Settings, error) {
		namespace := m.Given.GetNamespace()
		if _, ok := namespaces[namespace]; !ok {
			ns, err := c.Kube.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
				return inject.Settings{}, fmt.Errorf("read namespace %s: %w", namespace, err)
			}
			namespaces[namespace] = workload.Namespace{}
			if err == nil {
				namespaces[namespace] = workload.Namespace{Labels: ns.Labels, Annotations: ns.Annotations}
			}
		}
		template, _ := templateOf(m.Given)
		s := &subject{facts: facts{
			Ref: workload.Ref{Kind: m.Given.GetKind(), Namespace: namespace, Name: m.Given.GetName()}, Namespace: namespaces[namespace],
			W: &workload.Workload{Template: *template},
		}}
		s.Serving = mesh.Serving(seen.injectors, s.Namespace.Labels, template.Labels, namespace)
		if s.serves() {
			served[namespace] = true
		}
		key := likeness{revision: s.revision(), native: forms.of(ctx, s)}
		settings, err := seen.settings(ctx, a, o, key)
		if err == nil && !o.Force {
			err = sameMinor(version, settings, seen.injections[key.revision].Tag, "")
		}
		return settings, err
	})
	for _, namespace := range slices.Sorted(maps.Keys(served)) {
		p.Warnings = append(p.Warnings, "a webhook serves namespace "+namespace+" and injects what these files inject again: apply the originals there, or label the pods "+label.SidecarInject.Name+"=false")
	}
	return err
}

// examine asks what applying the object would do.
func (f *FileObject) examine(ctx context.Context, how applier, made map[string]bool, o *Options) error {
	object := f.manifest.Object
	f.Injected, f.Reason = f.manifest.Injected, f.manifest.Plain
	if template, ok := templateOf(object); ok {
		if proxy, has := workload.ProxyOf(template.Annotations, &template.Spec); has {
			to := formOf(proxy)
			f.To = &to
		}
	}
	before, after, err := how.apply(ctx, f.client, object, true)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && (apierrors.IsNotFound(err) && made[f.Namespace]):
		f.Action = Created
		return nil
	case err != nil:
		return fmt.Errorf("%s: %s would be refused: %w", f.Source, f.In(), err)
	}
	f.before = before
	switch {
	case before == nil:
		f.Action = Created
		return nil
	case same(before, after):
		f.Action = Unchanged
		return nil
	}
	f.Action = Changed
	if f.live = workloadOf(before); f.live == nil {
		return nil
	}
	if template, ok := templateOf(before); ok {
		if proxy, has := workload.ProxyOf(template.Annotations, &template.Spec); has {
			from := formOf(proxy)
			f.From = &from
		}
	}
	if f.live.Desired > 0 {
		why := ""
		f.Impact, why = impactOf(f.live, Restart, answer{}, surroundings{Room: noLimit, Disruptions: noLimit})
		if f.Impact == Outage && !o.AllowDowntime {
			f.Held = why + "; --allow-downtime applies it all the same"
		}
	}
	return nil
}

// warnings names what of the file seems older than the live object, and who
// else writes it.
func (f *FileObject) warnings() []string {
	var out []string
	if f.live == nil {
		return out
	}
	if from, ok := sourceOf(f.live); ok {
		out = append(out, f.In()+" comes from "+from.name+"; "+from.cure)
	}
	var differs []string
	if template, ok := templateOf(f.manifest.Given); ok {
		for i := range template.Spec.Containers {
			given := &template.Spec.Containers[i]
			for j := range f.live.Template.Spec.Containers {
				runs := &f.live.Template.Spec.Containers[j]
				if runs.Name == given.Name && runs.Name != workload.ProxyContainer && runs.Image != given.Image {
					differs = append(differs, fmt.Sprintf("container %s runs %s, the file says %s", runs.Name, runs.Image, given.Image))
				}
			}
		}
	}
	if n, ok, _ := unstructured.NestedInt64(f.manifest.Given.Object, "spec", "replicas"); ok && n != int64(f.live.Desired) && f.live.Kind != workload.DaemonSet {
		differs = append(differs, fmt.Sprintf("it has %d replicas, the file says %d", f.live.Desired, n))
	}
	if len(differs) > 0 {
		out = append(out, f.In()+" is not as in its file, which may be older: "+strings.Join(differs, "; "))
	}
	return out
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
