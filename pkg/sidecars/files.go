package sidecars

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"istio.io/api/annotation"
	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Manifest is one object of a file.
type Manifest struct {
	// Where names the document, for messages.
	Where string
	// Given is the object as the file has it, Object as it is applied: with the
	// new sidecar where it gets one.
	Given, Object *unstructured.Unstructured
	// Injected says that Object bears a new sidecar.
	Injected bool
	// Plain is why an object with a pod template gets none.
	Plain string
	Notes []inject.Note
}

// ReadManifests reads all objects of the sources in their order, those of Lists
// one by one. The error names the document that is broken; sources without any
// object are a *gate.BadInput.
func ReadManifests(ctx context.Context, sources []inject.Source) ([]Manifest, error) {
	var manifests []Manifest
	for _, source := range sources {
		found, err := readSource(ctx, source)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, found...)
	}
	if len(manifests) == 0 {
		return nil, gate.BadInputf("there is no object in what -f names; give files with manifests, or -R for the folders below")
	}
	return manifests, nil
}

func readSource(ctx context.Context, source inject.Source) ([]Manifest, error) {
	in, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var manifests []Manifest
	documents := inject.NewDocuments(source.Name, in)
	for {
		doc, err := documents.Next()
		switch {
		case errors.Is(err, io.EOF):
			return manifests, nil
		case err != nil:
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case doc.Object == nil:
			continue
		}
		objects := []*unstructured.Unstructured{doc.Object}
		if doc.Object.IsList() {
			objects = objects[:0]
			err = doc.Object.EachListItem(func(item runtime.Object) error {
				if object, ok := item.(*unstructured.Unstructured); ok {
					objects = append(objects, object)
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", doc.Where(), err)
			}
		}
		for _, object := range objects {
			if object.GetAPIVersion() == "" || object.GetKind() == "" || object.GetName() == "" {
				return nil, fmt.Errorf("%s: an object needs apiVersion, kind and metadata.name", doc.Where())
			}
			manifests = append(manifests, Manifest{Where: doc.Where(), Given: object, Object: object})
		}
	}
}

// inject gives every manifest that is to have a sidecar a new one, in place of
// an old one that it may have. settings says by what each is injected.
func injectManifests(ctx context.Context, istioctl *inject.Istioctl, manifests []Manifest, settings func(*Manifest) (inject.Settings, error)) error {
	groups := map[string][]*Manifest{}
	by := map[string]inject.Settings{}
	var order []string
	for i := range manifests {
		m := &manifests[i]
		wanted, why := wantsSidecar(m.Given)
		if m.Plain = why; !wanted {
			continue
		}
		s, err := settings(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Where, err)
		}
		raw, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Where, err)
		}
		if by[string(raw)] = s; groups[string(raw)] == nil {
			order = append(order, string(raw))
		}
		groups[string(raw)] = append(groups[string(raw)], m)
	}
	for _, key := range order {
		members := groups[key]
		objects := make([]*unstructured.Unstructured, len(members))
		for i, m := range members {
			objects[i] = m.Given
		}
		results, err := inject.Reinject(ctx, istioctl, by[key], objects)
		if err != nil {
			return err
		}
		for i, m := range members {
			if results[i].Err != nil {
				return fmt.Errorf("%s: %w", m.Where, results[i].Err)
			}
			m.Object, m.Injected, m.Notes = results[i].After, true, results[i].Notes
		}
	}
	return nil
}

// templateOf gives the pod template of an object of a known kind; ok is false
// for all other objects.
func templateOf(object *unstructured.Unstructured) (*corev1.PodTemplateSpec, bool) {
	path := []string{"spec", "template"}
	switch object.GetKind() {
	case workload.Pod:
		path = nil
	case workload.CronJob:
		path = []string{"spec", "jobTemplate", "spec", "template"}
	case workload.Deployment, workload.StatefulSet, workload.DaemonSet, workload.ReplicaSet, workload.ReplicationController,
		workload.Job, workload.Rollout, workload.DeploymentConfig:
	default:
		return nil, false
	}
	raw := object.Object
	if path != nil {
		raw, _, _ = unstructured.NestedMap(object.Object, path...)
	}
	template := &corev1.PodTemplateSpec{}
	if raw == nil || runtime.DefaultUnstructuredConverter.FromUnstructured(raw, template) != nil {
		return nil, false
	}
	return template, true
}

// wantsSidecar says whether an object of a file gets a sidecar, and why one with
// a pod template does not, by the rules of kube-inject (istio
// pkg/kube/inject/inject.go, injectRequired). One that has a sidecar gets a new
// one.
func wantsSidecar(object *unstructured.Unstructured) (wanted bool, why string) {
	template, ok := templateOf(object)
	if !ok {
		return false, ""
	}
	if _, injected := inject.Injected(object); injected {
		return true, ""
	}
	proxy, has := workload.ProxyOf(template.Annotations, &template.Spec)
	value, labelled := template.Labels[label.SidecarInject.Name]
	if !labelled {
		value = template.Annotations[annotation.SidecarInject.Name]
	}
	switch {
	case isFalse(value):
		return false, label.SidecarInject.Name + " is " + value
	case template.Spec.HostNetwork:
		return false, "its pods use the host's network"
	case mesh.IgnoredNamespace(object.GetNamespace()):
		return false, "nothing is injected into " + object.GetNamespace()
	case has && leftToInjector(proxy.Image):
		return false, "the webhook injects it"
	}
	return true, ""
}

// RenderManifests injects the manifests by settings that are complete, and asks
// no cluster. Its error is a *gate.BadInput where a file of settings is missing, and
// names both versions where istioctl is of another minor than the values' tag and
// force does not say to go on.
func RenderManifests(ctx context.Context, r *Reinjection, force bool, sources []inject.Source) ([]Manifest, error) {
	if missing := r.Given.Missing(); len(missing) > 0 {
		return nil, gate.BadInputf("without a cluster istioctl needs all of its settings; missing: %s", strings.Join(missing, ", "))
	}
	manifests, err := ReadManifests(ctx, sources)
	if err != nil {
		return nil, err
	}
	istioctl, version, err := findIstioctl(ctx, r)
	if err == nil && !force {
		err = sameMinor(version, r.Given, "", "")
	}
	if err != nil {
		return nil, err
	}
	return manifests, injectManifests(ctx, istioctl, manifests, func(m *Manifest) (inject.Settings, error) {
		s := r.Given
		s.Native = nativeOffline(m.Given)
		return s, nil
	})
}

// nativeOffline says whether a manifest gets a native sidecar where no cluster tells:
// one that has one keeps it, and for others istioctl's own variable decides.
func nativeOffline(object *unstructured.Unstructured) bool {
	if template, ok := templateOf(object); ok {
		if proxy, has := workload.ProxyOf(template.Annotations, &template.Spec); has {
			return proxy.Native
		}
	}
	native, _ := strconv.ParseBool(os.Getenv("ENABLE_NATIVE_SIDECARS")) // unset is no
	return native
}
