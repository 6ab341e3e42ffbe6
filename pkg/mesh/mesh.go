package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// Mesh is what of Istio is installed in a cluster.
type Mesh struct {
	ControlPlanes []ControlPlane `json:"controlPlanes"`
	Webhooks
	CRDs []CRD `json:"crds"`
	// Unreadable names what the user may not read, so that its absence above
	// means nothing.
	Unreadable []string `json:"unreadable"`
}

// WebhookConfigurations is what Unreadable calls those that may not be read.
const WebhookConfigurations = "webhook configurations"

// Read gives what is installed. A user who may see one namespace only gets
// what there is, and the rest is named in Unreadable; every other error of the
// API server ends it.
func Read(ctx context.Context, c *cluster.Cluster, istioNamespace string) (*Mesh, error) {
	m := &Mesh{Unreadable: []string{}}
	denied := make([]string, 3)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		m.ControlPlanes, err = ReadControlPlanes(ctx, c, istioNamespace)
		return noteDenied(&denied[0], "deployments in "+istioNamespace, err)
	})
	group.Go(func() error {
		hooks, err := ReadWebhooks(ctx, c.Kube)
		m.Webhooks = *hooks
		return noteDenied(&denied[1], WebhookConfigurations, err)
	})
	group.Go(func() (err error) {
		m.CRDs, err = ReadCRDs(ctx, c)
		return noteDenied(&denied[2], "customresourcedefinitions", err)
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("read what is installed: %w", err)
	}
	for _, d := range denied {
		if d != "" {
			m.Unreadable = append(m.Unreadable, d)
		}
	}
	for i := range m.ControlPlanes {
		m.ControlPlanes[i].Tags = TagsOf(m.Injectors, m.ControlPlanes[i].Revision)
	}
	return m, nil
}

// noteDenied turns "forbidden" into a note.
func noteDenied(note *string, what string, err error) error {
	if apierrors.IsForbidden(err) {
		*note = what
		return nil
	}
	return err
}

// Installed says whether anything of Istio was found: a control plane, an
// injector (a remote cluster has only that), or CRDs.
func (m *Mesh) Installed() bool {
	return len(m.ControlPlanes) > 0 || len(m.Injectors) > 0 || len(m.CRDs) > 0
}

// Versions gives the versions of the control planes, each once, sorted by
// their text.
func (m *Mesh) Versions() []string {
	versions := []string{}
	for _, p := range m.ControlPlanes {
		if p.Version != "" {
			versions = append(versions, p.Version)
		}
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

// Revisions gives the real revisions that have a control plane or an injector,
// sorted.
func (m *Mesh) Revisions() []string {
	revisions := []string{}
	for _, p := range m.ControlPlanes {
		revisions = append(revisions, p.Revision)
	}
	for _, i := range m.Injectors {
		revisions = append(revisions, i.Revision)
	}
	slices.Sort(revisions)
	return slices.Compact(revisions)
}

// Resolve gives the real revision of a name that may be a revision or a tag.
// A tag wins over a revision of the same name, because its webhook is what
// answers ("default" is both in most meshes). It is false for a name that is
// neither.
func (m *Mesh) Resolve(name string) (revision string, ok bool) {
	for _, i := range m.Injectors {
		if i.Tag == name {
			return i.Revision, true
		}
	}
	return name, slices.Contains(m.Revisions(), name)
}

// ControlPlane gives the control plane of a revision, nil where it has none
// in this cluster.
func (m *Mesh) ControlPlane(revision string) *ControlPlane {
	for i := range m.ControlPlanes {
		if m.ControlPlanes[i].Revision == revision {
			return &m.ControlPlanes[i]
		}
	}
	return nil
}

// TagsOf gives the revision tags that lead to a revision, sorted.
func TagsOf(injectors []Injector, revision string) []string {
	tags := []string{}
	for _, i := range injectors {
		if i.Tag != "" && i.Revision == revision {
			tags = append(tags, i.Tag)
		}
	}
	slices.SortFunc(tags, strings.Compare)
	return slices.Compact(tags)
}
