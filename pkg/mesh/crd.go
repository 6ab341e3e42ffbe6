package mesh

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"istio.io/api/label"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// CRD is one CustomResourceDefinition of a *.istio.io group.
type CRD struct {
	Name           string        `json:"name"`
	Group          string        `json:"group"`
	Kind           string        `json:"kind"`
	Plural         string        `json:"plural"`
	Namespaced     bool          `json:"namespaced"`
	Versions       []VersionInfo `json:"versions"`
	StoredVersions []string      `json:"storedVersions"`
	Established    bool          `json:"established"`
	UID            types.UID     `json:"uid"`
	Owners         Owners        `json:"owners"`
	// Version is the Istio version that the labels name, which charts from
	// 1.24 on and istioctl set; empty otherwise. A hint, not a proof.
	Version string `json:"version,omitempty"`
	// ChartVersion is the version that the labels of Istio's charts name; empty
	// otherwise. It leaves out what istioctl of before 1.24 wrote, which stays
	// where newer definitions are applied over it.
	ChartVersion string `json:"-"`
	// Managers are the field managers that wrote it, sorted.
	Managers []string `json:"managers"`
	// Object is the whole definition, converted to v1.
	Object *apiextensionsv1.CustomResourceDefinition `json:"-"`
	// Raw is the definition as the API server gave it.
	Raw *unstructured.Unstructured `json:"-"`
}

// VersionInfo is one version of a CRD.
type VersionInfo struct {
	Name    string `json:"name"`
	Served  bool   `json:"served"`
	Storage bool   `json:"storage"`
}

// Storage gives the version in which new objects are stored.
func (c CRD) Storage() string {
	for _, v := range c.Versions {
		if v.Storage {
			return v.Name
		}
	}
	return ""
}

// Served gives a version by which objects can be read: the storage version
// where it is served, else the first that is. Empty where none is.
func (c CRD) Served() string {
	served := ""
	for _, v := range c.Versions {
		if v.Served && (v.Storage || served == "") {
			served = v.Name
		}
	}
	return served
}

// Resource gives the resource by which the CRD's objects are read.
func (c CRD) Resource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: c.Group, Version: c.Served(), Resource: c.Plural}
}

// IsIstioGroup says whether an API group is Istio's: *.istio.io.
func IsIstioGroup(group string) bool { return strings.HasSuffix(group, ".istio.io") }

// parallelReads bounds how many definitions are fetched at a time.
const parallelReads = 16

// CRDResource gives the resource of CustomResourceDefinitions in a version of
// apiextensions.k8s.io.
func CRDResource(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: version, Resource: "customresourcedefinitions"}
}

// ReadCRDs gives the CRDs of all *.istio.io groups, by name. Names come from
// one list of metadata, so that the schemas of other products are not read.
// API servers without apiextensions.k8s.io/v1 (before 1.16) are read in
// v1beta1. The error is the API server's, wrapped.
func ReadCRDs(ctx context.Context, c *cluster.Cluster) ([]CRD, error) {
	resource := CRDResource("v1")
	list, err := c.Metadata.Resource(resource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		resource = CRDResource("v1beta1")
		list, err = c.Metadata.Resource(resource).List(ctx, metav1.ListOptions{})
	}
	if err != nil {
		return []CRD{}, fmt.Errorf("list customresourcedefinitions: %w", err)
	}
	var names []string
	for _, item := range list.Items {
		if _, group, ok := strings.Cut(item.Name, "."); ok && IsIstioGroup(group) {
			names = append(names, item.Name)
		}
	}
	slices.Sort(names)
	crds := make([]*CRD, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for i, name := range names {
		group.Go(func() error {
			raw, err := c.Dynamic.Resource(resource).Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) { // deleted meanwhile
				return nil
			}
			if err != nil {
				return fmt.Errorf("get customresourcedefinition %s: %w", name, err)
			}
			crd, err := NewCRD(raw)
			crds[i] = crd
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return []CRD{}, err
	}
	found := []CRD{}
	for _, crd := range crds {
		if crd != nil {
			found = append(found, *crd)
		}
	}
	return found, nil
}

// NewCRD reads a definition of either API version. The error says what is
// wrong with it.
func NewCRD(raw *unstructured.Unstructured) (*CRD, error) {
	object, err := toV1(raw)
	if err != nil {
		return nil, fmt.Errorf("read customresourcedefinition %s: %w", raw.GetName(), err)
	}
	crd := &CRD{
		Name: object.Name, Group: object.Spec.Group, UID: object.UID,
		Kind: object.Spec.Names.Kind, Plural: object.Spec.Names.Plural,
		Namespaced:     object.Spec.Scope == apiextensionsv1.NamespaceScoped,
		Versions:       []VersionInfo{},
		StoredVersions: append([]string{}, object.Status.StoredVersions...),
		Owners:         OwnersOf(object), ChartVersion: chartVersion(object.Labels),
		Managers: []string{}, Object: object, Raw: raw,
	}
	crd.Version = cmp.Or(crd.ChartVersion, firstVersion(object.Labels[label.OperatorVersion.Name]))
	for _, v := range object.Spec.Versions {
		crd.Versions = append(crd.Versions, VersionInfo{Name: v.Name, Served: v.Served, Storage: v.Storage})
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == apiextensionsv1.Established {
			crd.Established = condition.Status == apiextensionsv1.ConditionTrue
		}
	}
	for _, field := range object.ManagedFields {
		crd.Managers = append(crd.Managers, field.Manager)
	}
	slices.Sort(crd.Managers)
	crd.Managers = slices.Compact(crd.Managers)
	return crd, nil
}

// toV1 converts by the API server's own code, which moves the schema that
// v1beta1 may keep beside the versions into each of them.
func toV1(raw *unstructured.Unstructured) (*apiextensionsv1.CustomResourceDefinition, error) {
	converter := runtime.DefaultUnstructuredConverter
	object := &apiextensionsv1.CustomResourceDefinition{}
	if raw.GroupVersionKind().Version != "v1beta1" {
		return object, converter.FromUnstructured(raw.Object, object)
	}
	old, internal := &apiextensionsv1beta1.CustomResourceDefinition{}, &apiextensions.CustomResourceDefinition{}
	if err := converter.FromUnstructured(raw.Object, old); err != nil {
		return nil, err
	}
	apiextensionsv1beta1.SetDefaults_CustomResourceDefinition(old)
	apiextensionsv1beta1.SetDefaults_CustomResourceDefinitionSpec(&old.Spec)
	if err := apiextensionsv1beta1.Convert_v1beta1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(old, internal, nil); err != nil {
		return nil, err
	}
	return object, apiextensionsv1.Convert_apiextensions_CustomResourceDefinition_To_v1_CustomResourceDefinition(internal, object, nil)
}

// chartVersion reads the version that charts from 1.24 on write to a CRD's
// labels; empty where there is none.
func chartVersion(labels map[string]string) string {
	return firstVersion(labels["app.kubernetes.io/version"], strings.TrimPrefix(labels["helm.sh/chart"], "base-"))
}

// firstVersion gives the first of the values that is a version, and "" where
// none is.
func firstVersion(values ...string) string {
	for _, value := range values {
		if v, ok := TagVersion(value); ok && !IsPlaceholder(value) {
			return v.String()
		}
	}
	return ""
}

// IsPlaceholder says whether a chart's version is the one that Istio's source
// tree (1.0.0) or its charts up to 1.5 (1.1.0) bear whatever they hold.
func IsPlaceholder(version string) bool { return version == "1.0.0" || version == "1.1.0" }
