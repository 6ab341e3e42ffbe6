package sidecars

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// made is what the files themselves bring that others of their objects need:
// each with the place at which it comes.
type made struct {
	namespaces map[string]int
	// accounts are ServiceAccounts, as NAMESPACE/NAME: admission refuses pods
	// whose account is not there.
	accounts map[string]int
	kinds    map[schema.GroupVersionKind]customKind
}

// customKind is a kind that a CustomResourceDefinition of the files makes.
type customKind struct {
	definition string // its name
	place      int
	resource   schema.GroupVersionResource
	namespaced bool
}

func madeBy(manifests []Manifest) made {
	m := made{map[string]int{}, map[string]int{}, map[schema.GroupVersionKind]customKind{}}
	for i := range manifests {
		object := manifests[i].Given
		switch object.GroupVersionKind().GroupKind().String() {
		case "Namespace":
			m.namespaces[object.GetName()] = i
		case "ServiceAccount":
			m.accounts[object.GetNamespace()+"/"+object.GetName()] = i
		case "CustomResourceDefinition.apiextensions.k8s.io":
			m.addKinds(object, i)
		}
	}
	return m
}

func (m made) addKinds(definition *unstructured.Unstructured, place int) {
	text := func(path ...string) string {
		value, _, _ := unstructured.NestedString(definition.Object, path...)
		return value
	}
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, v := range versions {
		version, _ := v.(map[string]any)
		name, _ := version["name"].(string)
		group := schema.GroupVersion{Group: text("spec", "group"), Version: name}
		m.kinds[group.WithKind(text("spec", "names", "kind"))] = customKind{
			definition: definition.GetName(), place: place,
			resource: group.WithResource(text("spec", "names", "plural")), namespaced: text("spec", "scope") != "Cluster",
		}
	}
}

// locate finds the API resource of each object, and its namespace where the
// file names none. An object whose kind or namespace is not there yet must come
// after what makes it: the order of the files is kept, as kubectl keeps it.
func (p *FilesPlan) locate(c *cluster.Cluster, manifests []Manifest, only string) error {
	mapper, err := c.Mapper()
	if err != nil {
		return err
	}
	makes := madeBy(manifests)
	for i := range manifests {
		m := &manifests[i]
		gvk := m.Given.GroupVersionKind()
		object := FileObject{Source: m.Where, manifest: m}
		var resource schema.GroupVersionResource
		namespaced := false
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		custom, comes := makes.kinds[gvk]
		var unknown *meta.NoKindMatchError
		switch {
		case err == nil:
			resource, namespaced = mapping.Resource, mapping.Scope.Name() == meta.RESTScopeNameNamespace
		case !comes || !errors.As(err, &unknown):
			return fmt.Errorf("%s: %w", m.Where, err)
		case custom.place > i:
			return gate.BadInputf("%s: %s %s comes before its CustomResourceDefinition %s; move that one up", m.Where, gvk.Kind, m.Given.GetName(), custom.definition)
		default:
			resource, namespaced, object.definition = custom.resource, custom.namespaced, custom.definition
		}
		object.client = c.Dynamic.Resource(resource)
		if namespaced {
			if m.Given.GetNamespace() == "" {
				m.Given.SetNamespace(c.Namespace)
			}
			namespace := m.Given.GetNamespace()
			if only != "" && namespace != only {
				return gate.BadInputf("%s: %s is in namespace %s, not in %s as -n says", m.Where, m.Given.GetName(), namespace, only)
			}
			object.client = c.Dynamic.Resource(resource).Namespace(namespace)
		}
		object.Ref = workload.Ref{Group: gvk.Group, Kind: gvk.Kind, Namespace: m.Given.GetNamespace(), Name: m.Given.GetName()}
		object.resource = resource
		p.Objects = append(p.Objects, object)
	}
	p.makes = madeBy(manifests) // all have their namespace now
	return nil
}
