package plugin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

const statusExample = `  # What runs in the whole mesh
  kubectl istio-upgrade status

  # One line a workload, in one namespace
  kubectl istio-upgrade status -n shop -o wide`

type statusOptions struct {
	*session
	look lookFlags
}

func newStatusCommand(s *session) *cobra.Command {
	o := &statusOptions{session: s}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs now: CRDs, control planes, proxies by version",
		Long: `Show what runs now: CRDs, control planes, injectors, and proxies by version and
verdict. Looks at all namespaces unless -n names one; reads only.`,
		Example: statusExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.look.validate(o.session); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	o.look.add(cmd.Flags())
	return cmd
}

// meshStatus is what status prints as JSON.
type meshStatus struct {
	APIVersion    string              `json:"apiVersion"`
	Kind          string              `json:"kind"`
	Cluster       cluster.Identity    `json:"cluster"`
	Installed     bool                `json:"installed"`
	CRDs          []mesh.CRD          `json:"crds"`
	ControlPlanes []controlPlaneState `json:"controlPlanes"`
	Injectors     []mesh.Injector     `json:"injectors"`
	Namespaces    []namespaceState    `json:"namespaces"`
	Sidecars      *sidecars.Plan      `json:"sidecars,omitempty"`
	Unreadable    []string            `json:"unreadable"`
}

// controlPlaneState is a control plane and the release that it comes with.
type controlPlaneState struct {
	mesh.ControlPlane
	Release string `json:"release,omitempty"`
	Chart   string `json:"chart,omitempty"`
}

func (o *statusOptions) run(ctx context.Context) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	read := o.reading()
	status, err := o.read(ctx, c)
	read()
	if err != nil {
		return err
	}
	switch {
	case o.look.output.structured():
		return o.look.output.print(o.Out, status)
	case o.look.output.name():
		for i := range status.Sidecars.Items {
			if _, err := fmt.Fprintln(o.Out, status.Sidecars.Items[i].String()); err != nil {
				return err
			}
		}
		return nil
	case !status.Installed && len(status.Unreadable) == 0:
		_, err := fmt.Fprintln(o.Out, escape("Istio is not installed in context "+c.Context+" ("+c.Server+"): no control plane, no injector, no CRDs."))
		return err
	}
	return status.show(o.Out, o.look.output.wide())
}

func (o *statusOptions) read(ctx context.Context, c *cluster.Cluster) (*meshStatus, error) {
	m, err := mesh.Read(ctx, c, o.istioNamespace)
	if err != nil {
		return nil, err
	}
	status := &meshStatus{
		APIVersion: documentVersion, Kind: "Status", Cluster: c.Identity(), Installed: m.Installed(),
		CRDs: m.CRDs, Injectors: m.Injectors, Unreadable: m.Unreadable, ControlPlanes: []controlPlaneState{},
	}
	releases, err := helm.Releases(ctx, c, o.istioNamespace)
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	status.CRDs = crds.WithOwners(m.CRDs, releases, o.istioNamespace)
	for _, plane := range m.ControlPlanes {
		state := controlPlaneState{ControlPlane: plane}
		for _, r := range releases {
			if r.Namespace == plane.Namespace && r.IstioRevision == plane.Revision && (r.Component == helm.Istiod || r.Component == helm.Istio) {
				state.Release, state.Chart = r.Name, r.ChartName+"-"+r.ChartVersion
			}
		}
		status.ControlPlanes = append(status.ControlPlanes, state)
	}
	options := sidecars.Options{Injectors: m.Injectors, IstioNamespace: o.istioNamespace, Namespace: *o.config.Namespace, FieldManager: sidecars.DefaultFieldManager}
	if slices.Contains(m.Unreadable, mesh.WebhookConfigurations) {
		options.Injectors = nil // not none, but not known
	}
	status.Sidecars, err = sidecars.NewPlan(ctx, c, options)
	if apierrors.IsForbidden(err) && options.Namespace == "" && !o.look.all {
		options.Namespace = c.Namespace
		status.Sidecars, err = sidecars.NewPlan(ctx, c, options)
	}
	if err != nil {
		return nil, err
	}
	status.Namespaces = namespaceStates(status.Sidecars.Items)
	status.Installed = status.Installed || len(status.Sidecars.Items) > 0
	return status, nil
}

// show prints the tables.
func (s *meshStatus) show(w io.Writer, wide bool) error {
	fmt.Fprintln(w, escape(fmt.Sprintf("Status: context %s, server %s, %s", s.Cluster.Context, s.Cluster.Server, s.Sidecars.Scope)))
	tables := []struct {
		title string
		table *table
	}{
		{"CRDs", s.crdTable()},
		{"Control planes", s.controlPlaneTable()},
		{"Injectors", s.injectorTable()},
		{"Namespaces", namespaceTable(s.Namespaces)},
		{"Proxies", s.proxyTable()},
		{"Verdicts", s.verdictTable()},
	}
	if wide {
		tables = append(tables, struct {
			title string
			table *table
		}{"Workloads", s.workloadTable()})
	}
	for _, t := range tables {
		if len(t.table.Rows) == 0 {
			continue
		}
		fmt.Fprintln(w, "\n"+t.title)
		if err := t.table.print(w, wide); err != nil {
			return err
		}
	}
	for _, text := range append(slices.Clone(s.Unreadable), s.Sidecars.Warnings...) {
		fmt.Fprintln(w, "‼ "+escape(text))
	}
	return nil
}

// crdTable sums the definitions up by owner and version.
func (s *meshStatus) crdTable() *table {
	type group struct{ owner, version string }
	counts, stored := map[group]int{}, map[group]map[string]bool{}
	for i := range s.CRDs {
		crd := &s.CRDs[i]
		g := group{ownerText(crd.Owners), cmp.Or(crd.Version, "unknown")}
		counts[g]++
		if stored[g] == nil {
			stored[g] = map[string]bool{}
		}
		for _, v := range crd.StoredVersions {
			stored[g][v] = true
		}
	}
	t := newTable("COUNT", "VERSION", "OWNER", "STORED")
	for _, g := range slices.SortedFunc(maps.Keys(counts), func(a, b group) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.version, b.version))
	}) {
		t.row(counts[g], g.version, g.owner, strings.Join(slices.Sorted(maps.Keys(stored[g])), ","))
	}
	return t
}

func ownerText(o mesh.Owners) string {
	switch {
	case o.Flux != "":
		return "Flux " + o.Flux
	case o.ArgoCD != "":
		return "Argo CD " + o.ArgoCD
	case o.Helm != nil:
		return "release " + o.Helm.Name + " in " + o.Helm.Namespace
	case o.Operator != "":
		return "operator " + o.Operator
	case o.Istioctl:
		return "istioctl"
	}
	return "nobody"
}

func (s *meshStatus) controlPlaneTable() *table {
	t := newTable("REVISION", "DEPLOYMENT", "TAG", "READY", "CHART", "TAGS", "+NAMESPACE", "+RELEASE")
	for _, p := range s.ControlPlanes {
		t.row(p.Revision, p.Deployment, p.Tag, fmt.Sprintf("%d/%d", p.Ready, p.Replicas), cmp.Or(p.Chart, ownerText(p.Owners)),
			strings.Join(p.Tags, ","), p.Namespace, p.Release)
	}
	return t
}

func (s *meshStatus) injectorTable() *table {
	type line struct{ configuration, revision, tag string }
	var lines []line
	for _, i := range s.Injectors {
		if !i.Deactivated {
			lines = append(lines, line{i.Configuration, i.Revision, i.Tag})
		}
	}
	lines = slices.Compact(lines)
	t := newTable("WEBHOOK", "REVISION", "TAG")
	for _, l := range lines {
		t.row(l.configuration, l.revision, l.tag)
	}
	return t
}

// proxyTable counts the proxies by version and form.
func (s *meshStatus) proxyTable() *table {
	type form struct{ version, form string }
	pods, workloads := map[form]int{}, map[form]int{}
	for i := range s.Sidecars.Items {
		for _, p := range s.Sidecars.Items[i].Proxies {
			f := form{proxyName(p.ProxyForm), map[bool]string{true: "native", false: "classic"}[p.Native]}
			pods[f] += int(p.Pods)
			workloads[f]++
		}
	}
	t := newTable("PROXY", "FORM", "WORKLOADS", "PODS")
	for _, f := range slices.SortedFunc(maps.Keys(pods), func(a, b form) int {
		return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.form, b.form))
	}) {
		t.row(f.version, f.form, workloads[f], pods[f])
	}
	return t
}

func (s *meshStatus) verdictTable() *table {
	counts := s.Sidecars.Count()
	t := newTable("VERDICT", "WORKLOADS", "MEANING")
	for _, v := range sidecars.Verdicts {
		if counts[v] > 0 {
			t.row(string(v), counts[v], verdictMeanings[v])
		}
	}
	return t
}

var verdictMeanings = map[sidecars.Verdict]string{
	sidecars.Excluded: "an annotation says to leave it alone",
	sidecars.Loses:    "a new pod would have no sidecar",
	sidecars.Pinned:   "it fixes its proxy's image itself",
	sidecars.Frozen:   "its template holds a sidecar without its marks",
	sidecars.ByHand:   "injected by hand",
	sidecars.Mixed:    "injected by hand, and by a webhook again",
	sidecars.Missing:  "it should have a proxy and has none",
	sidecars.Stale:    "its proxies are not what the injector gives",
	sidecars.Fresh:    "up to date",
	sidecars.Left:     "needs a person, or nothing at all",
}

func (s *meshStatus) workloadTable() *table {
	t := newTable("NAMESPACE", "WORKLOAD", "PODS", "PROXY", "VERDICT", "REVISION", "REASON")
	items := slices.SortedFunc(slices.Values(s.Sidecars.Items), func(a, b sidecars.Item) int { return a.Compare(b.Ref) })
	for i := range items {
		item := &items[i]
		t.row(item.Namespace, item.String(), pods(item), fromTo(item), string(item.Verdict), item.Revision, why(item))
	}
	return t
}
