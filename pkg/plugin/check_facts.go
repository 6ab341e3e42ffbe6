package plugin

import (
	"context"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/preflight"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// registryPatience is how long check waits for the registries, all in all.
const registryPatience = 8 * time.Second

// facts reads what the checks judge. That a step cannot be planned is a finding,
// not an error.
func (o *checkOptions) facts(ctx context.Context, c *cluster.Cluster) (preflight.Facts, error) {
	m, err := mesh.Read(ctx, c, o.istioNamespace)
	if err != nil {
		return preflight.Facts{}, err
	}
	f := preflight.Facts{Tag: o.tag, Mesh: m, Denied: map[string][]cluster.Permission{}, Unread: slices.Clone(m.Unreadable)}
	if version, err := c.Discovery.ServerVersion(); err == nil {
		f.Kubernetes = version.GitVersion
	}
	if f.Sidecars, err = o.planSidecars(ctx, c); err != nil {
		return preflight.Facts{}, err
	}
	if o.tag != "" {
		var images []string
		f.Steps, images = o.planSteps(ctx, c)
		f.Images = preflight.AskRegistries(ctx, images, registryPatience)
	}
	if f.Releases, err = helm.Releases(ctx, c, ""); apierrors.IsForbidden(err) {
		f.Releases, err = helm.Releases(ctx, c, o.istioNamespace)
	}
	if apierrors.IsForbidden(err) {
		f.Unread, err = append(f.Unread, helm.StorageResource()+" in "+o.istioNamespace), nil
	}
	if err != nil {
		return preflight.Facts{}, err
	}
	m.CRDs = crds.WithOwners(m.CRDs, f.Releases, o.istioNamespace)
	gateways := gatewaysOf(f.Sidecars)
	var unread []string
	if f.Servers, unread, err = preflight.ReadServers(ctx, c.Kube, o.serverNamespaces(m, gateways), gateways); err != nil {
		return preflight.Facts{}, err
	}
	for _, what := range unread {
		if !slices.Contains(f.Unread, what) {
			f.Unread = append(f.Unread, what)
		}
	}
	if slices.ContainsFunc(f.Sidecars.Items, func(i sidecars.Item) bool { return i.Verdict == sidecars.ByHand }) {
		f.Istioctl = o.findIstioctl(ctx)
	}
	return f, o.askRights(ctx, c, &f)
}

// planSidecars plans the third step, for what the injector gives after an
// upgrade to the tag where there is one. A user who may see one namespace only
// gets the plan of that.
func (o *checkOptions) planSidecars(ctx context.Context, c *cluster.Cluster) (*sidecars.Plan, error) {
	options := sidecars.Options{
		Namespace: *o.config.Namespace, IstioNamespace: o.istioNamespace,
		FieldManager: sidecars.DefaultFieldManager, PreviewTag: o.tag,
	}
	plan, err := sidecars.NewPlan(ctx, c, options)
	if apierrors.IsForbidden(err) && options.Namespace == "" && !o.look.all {
		options.Namespace = c.Namespace
		plan, err = sidecars.NewPlan(ctx, c, options)
	}
	return plan, err
}

// planSteps plans the first two steps as an upgrade to the tag would, and gives
// the images that it brings.
func (o *checkOptions) planSteps(ctx context.Context, c *cluster.Cluster) ([]preflight.Step, []string) {
	change := &changeFlags{dryRun: dryRunClient, timeout: defaultTimeout, fieldManager: sidecars.DefaultFieldManager, wait: true}
	all := &allOptions{session: o.session, changeFlags: *change, targetFlags: o.targetFlags}
	all.noBackup = true
	found := []preflight.Step{{Name: "crds"}, {Name: "control-plane"}}
	var images []string
	stages, err := all.stages(c)
	for i := range found {
		if err != nil {
			found[i].Err = err
			continue
		}
		a, planErr := stages[i](ctx, true)
		found[i].Err, found[i].Refusals, found[i].Warnings = planErr, a.refusals, a.warnings
		if plan, ok := a.plan.(*controlplane.Plan); ok {
			images = plan.Images()
		}
	}
	return found, images
}

// gatewaysOf gives the names of the gateways' Deployments by namespace.
func gatewaysOf(plan *sidecars.Plan) map[string][]string {
	gateways := map[string][]string{}
	for i := range plan.Items {
		if item := &plan.Items[i]; item.Gateway && item.Kind == "Deployment" {
			gateways[item.Namespace] = append(gateways[item.Namespace], item.Name)
		}
	}
	return gateways
}

// serverNamespaces gives the namespaces in which Istio's own Deployments are.
func (o *checkOptions) serverNamespaces(m *mesh.Mesh, gateways map[string][]string) []string {
	namespaces := map[string]bool{o.istioNamespace: true}
	for i := range m.ControlPlanes {
		namespaces[m.ControlPlanes[i].Namespace] = true
	}
	for namespace := range gateways {
		namespaces[namespace] = true
	}
	return slices.Sorted(maps.Keys(namespaces))
}

func (o *checkOptions) findIstioctl(ctx context.Context) *preflight.Istioctl {
	istioctl, err := inject.FindIstioctl(o.istioctl)
	if err != nil {
		return &preflight.Istioctl{Err: err}
	}
	version, err := istioctl.Version(ctx)
	return &preflight.Istioctl{Version: version, Err: err}
}

// askRights notes what the user may not do. What the steps of an upgrade to a
// tag take is known by their plans; without one, the least that they take is
// asked about.
func (o *checkOptions) askRights(ctx context.Context, c *cluster.Cluster, f *preflight.Facts) (err error) {
	for command, wanted := range leastRights(*o.config.Namespace, o.istioNamespace) {
		if o.tag != "" && command != "sidecars" {
			continue
		}
		if f.Denied[command], err = c.Denied(ctx, wanted); err != nil {
			return err
		}
	}
	return nil
}

// leastRights are what the commands take at least, by command. The steps ask for
// the exact set before they write.
func leastRights(namespace, istioNamespace string) map[string][]cluster.Permission {
	return map[string][]cluster.Permission{
		"crds": {
			{Verb: "list", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
			{Verb: "patch", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
			{Verb: "list", Resource: helm.StorageResource(), Namespace: istioNamespace},
		},
		"control-plane": {
			{Verb: "list", Resource: helm.StorageResource(), Namespace: istioNamespace},
			{Verb: "create", Resource: helm.StorageResource(), Namespace: istioNamespace},
			{Verb: "update", Resource: helm.StorageResource(), Namespace: istioNamespace},
			{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: istioNamespace},
			{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: istioNamespace},
		},
		"sidecars": {
			{Verb: "list", Resource: "pods", Namespace: namespace},
			{Verb: "watch", Resource: "pods", Namespace: namespace},
			{Verb: "create", Resource: "pods", Namespace: namespace},
			{Verb: "list", Group: "apps", Resource: "deployments", Namespace: namespace},
			{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: namespace},
			{Verb: "patch", Group: "apps", Resource: "statefulsets", Namespace: namespace},
			{Verb: "patch", Group: "apps", Resource: "daemonsets", Namespace: namespace},
			{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: namespace},
		},
	}
}
