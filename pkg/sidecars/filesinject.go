package sidecars

import (
	"context"
	"fmt"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// inject runs istioctl over the manifests, by the settings of the control plane
// that each belongs to. Where ProxyConfig objects apply, the webhook is asked,
// unless the user gave settings.
func (p *FilesPlan) inject(ctx context.Context, c *cluster.Cluster, o *Options, manifests []Manifest) error {
	if !slices.ContainsFunc(manifests, func(m Manifest) bool { wanted, _ := wantsSidecar(m.Given); return wanted }) {
		return nil
	}
	istioctl, version, err := findIstioctl(ctx, o.ByHand)
	if err != nil {
		return err
	}
	p.Istioctl = &Istioctl{Path: istioctl.Path, Version: version}
	seen := &observation{injections: map[string]mesh.Injection{}}
	if err := seen.readInjectors(ctx, c, o); err != nil {
		return err
	}
	if err := seen.readProxyConfigs(ctx, c); err != nil {
		return err
	}
	if p.namespaces, err = readNamespaces(ctx, c, manifests); err != nil {
		return err
	}
	p.injectors = seen.injectors
	a := &asker{c: c, manager: o.FieldManager}
	forms := &forms{a: a, injectors: seen, known: map[string]bool{}, native: map[string]bool{}}
	served := map[string]bool{}
	passedOver := 0
	err = injectManifests(ctx, istioctl, manifests, func(m *Manifest) (inject.Settings, error) {
		namespace := m.Given.GetNamespace()
		template, _ := templateOf(m.Given)
		s := &subject{facts: facts{
			Ref: workload.Ref{Kind: m.Given.GetKind(), Namespace: namespace, Name: m.Given.GetName()}, Namespace: p.namespaces[namespace],
			W: &workload.Workload{Template: *template},
		}}
		s.Serving = mesh.Serving(seen.injectors, s.Namespace.Labels, template.Labels, namespace)
		if s.serves() {
			served[namespace] = true
		}
		s.own, s.unresolved = seen.revisionByHand(s)
		if s.unresolved != "" && len(o.ByHand.Given.Missing()) > 0 {
			return inject.Settings{}, fmt.Errorf("%s %s: %s", s.Ref.Kind, s.Ref.Name, s.unresolved)
		}
		key := likeness{revision: s.revision(), native: forms.of(ctx, s)}
		key.webhook = len(o.ByHand.Given.Missing()) == 3 && seen.configured(s, o)
		passedOver += btoi(!key.webhook && seen.configured(s, o))
		settings, err := seen.settings(ctx, a, o, key)
		if err == nil && !o.Force {
			err = sameMinor(version, settings, seen.injections[key.revision].Tag, "")
		}
		return settings, err
	})
	p.Warnings = append(p.Warnings, configsPassedOver(passedOver)...)
	for _, namespace := range slices.Sorted(maps.Keys(served)) {
		p.Warnings = append(p.Warnings, "a webhook serves namespace "+namespace+" and injects what these files inject again: apply the originals there, or label the pods "+label.SidecarInject.Name+"=false")
	}
	return err
}

// readNamespaces reads the labels of the manifests' namespaces, as they will be
// once the files are applied. Those that the user may not read have none.
func readNamespaces(ctx context.Context, c *cluster.Cluster, manifests []Manifest) (map[string]workload.Namespace, error) {
	known := map[string]workload.Namespace{}
	for i := range manifests {
		name := manifests[i].Given.GetNamespace()
		if _, read := known[name]; read || name == "" {
			continue
		}
		ns, err := c.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			return nil, fmt.Errorf("read namespace %s: %w", name, err)
		}
		known[name] = workload.Namespace{Labels: map[string]string{}}
		if err == nil {
			known[name] = workload.Namespace{Labels: ns.Labels, Annotations: ns.Annotations}
		}
	}
	for i := range manifests {
		object := manifests[i].Given
		if n, used := known[object.GetName()]; used && object.GetKind() == "Namespace" {
			labels := maps.Clone(n.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			maps.Copy(labels, object.GetLabels())
			known[object.GetName()] = workload.Namespace{Labels: labels, Annotations: n.Annotations}
		}
	}
	return known, nil
}
