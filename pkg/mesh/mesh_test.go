package mesh

import (
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

func pilot(name, container, image string, labels map[string]string) *appsv1.Deployment {
	two := int32(2)
	labels["istio"] = "pilot"
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{Replicas: &two, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: container, Image: image}, {Name: "istio-proxy", Image: "proxyv2:1.0.0"}},
		}}},
		Status: appsv1.DeploymentStatus{ReadyReplicas: 1, UpdatedReplicas: 2},
	}
}

func TestReadControlPlanes(t *testing.T) {
	minimum := int32(2)
	c := &cluster.Cluster{Kube: fake.NewClientset(
		pilot("istiod-canary", "discovery", "docker.io/istio/pilot:1.31.0-distroless", map[string]string{"istio.io/rev": "canary"}),
		pilot("istio-pilot", "discovery", "docker.io/istio/pilot:1.4.10", map[string]string{}),
		pilot("lookalike", "app", "docker.io/istio/pilot:1.4.10", map[string]string{}),
		&autoscalingv1.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-pilot"},
			Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
				MinReplicas: &minimum, MaxReplicas: 5,
				ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{Kind: "Deployment", Name: "istio-pilot"},
			},
		},
	)}
	got, err := ReadControlPlanes(t.Context(), c, "istio-system")
	if err != nil {
		t.Fatal(err)
	}
	want := []ControlPlane{
		{
			Revision: "canary", Namespace: "istio-system", Deployment: "istiod-canary",
			Image: "docker.io/istio/pilot:1.31.0-distroless", Tag: "1.31.0-distroless", Version: "1.31.0",
			Replicas: 2, Ready: 1, Updated: 2, Tags: []string{},
		},
		{
			Revision: "default", Namespace: "istio-system", Deployment: "istio-pilot",
			Image: "docker.io/istio/pilot:1.4.10", Tag: "1.4.10", Version: "1.4.10",
			Replicas: 2, Ready: 1, Updated: 2, HPAMin: 2, HPAMax: 5, Tags: []string{}, Legacy: true,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func definition(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: object}
}

const virtualServices = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: virtualservices.networking.istio.io
  labels: {app.kubernetes.io/managed-by: Helm, app.kubernetes.io/version: 1.30.2, helm.sh/chart: base-1.30.2}
  annotations: {meta.helm.sh/release-name: istio-base, meta.helm.sh/release-namespace: istio-system}
spec:
  group: networking.istio.io
  names: {kind: VirtualService, plural: virtualservices}
  scope: Namespaced
  versions:
  - {name: v1alpha3, served: true, storage: false}
  - {name: v1, served: true, storage: true}
  - {name: v1beta1, served: true, storage: false}
status:
  storedVersions: [v1beta1, v1]
  conditions: [{type: Established, status: "True"}]
`

func TestNewCRD(t *testing.T) {
	crd, err := NewCRD(definition(t, virtualServices))
	if err != nil {
		t.Fatal(err)
	}
	if crd.Storage() != "v1" || crd.Served() != "v1" || !crd.Established || !crd.Namespaced || crd.Version != "1.30.2" {
		t.Errorf("got %+v", crd)
	}
	if crd.Owners.Helm == nil || *crd.Owners.Helm != (Ref{Namespace: "istio-system", Name: "istio-base"}) {
		t.Errorf("owners: %+v", crd.Owners)
	}
}

// TestOldCRD reads what an API server before 1.16 gives: one schema beside the
// versions.
func TestOldCRD(t *testing.T) {
	crd, err := NewCRD(definition(t, `
apiVersion: apiextensions.k8s.io/v1beta1
kind: CustomResourceDefinition
metadata: {name: rules.config.istio.io}
spec:
  group: config.istio.io
  version: v1alpha2
  names: {kind: rule, plural: rules}
  scope: Namespaced
  validation: {openAPIV3Schema: {type: object, properties: {spec: {type: object}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if crd.Served() != "v1alpha2" || crd.Storage() != "v1alpha2" {
		t.Errorf("versions: %+v", crd.Versions)
	}
	if s := crd.Object.Spec.Versions[0].Schema; s == nil || s.OpenAPIV3Schema.Properties["spec"].Type != "object" {
		t.Errorf("schema lost: %+v", s)
	}
}

func crdClients(t *testing.T, texts ...string) *cluster.Cluster {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var metas, objects []runtime.Object
	for _, text := range texts {
		object := definition(t, text)
		objects = append(objects, object)
		metas = append(metas, &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: object.GetAPIVersion(), Kind: object.GetKind()},
			ObjectMeta: metav1.ObjectMeta{Name: object.GetName()},
		})
	}
	kinds := map[schema.GroupVersionResource]string{CRDResource("v1"): "CustomResourceDefinitionList"}
	return &cluster.Cluster{
		Kube:     fake.NewClientset(),
		Metadata: metadatafake.NewSimpleMetadataClient(scheme, metas...),
		Dynamic:  dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, objects...),
	}
}

const foreign = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.notistio.io}
spec: {group: notistio.io, names: {kind: Widget, plural: widgets}, scope: Cluster, versions: []}
`

func TestReadLeavesOthersAlone(t *testing.T) {
	m, err := Read(t.Context(), crdClients(t, virtualServices, foreign), "istio-system")
	if err != nil {
		t.Fatal(err)
	}
	if len(m.CRDs) != 1 || m.CRDs[0].Kind != "VirtualService" || len(m.Unreadable) != 0 || !m.Installed() {
		t.Errorf("got %+v", m)
	}
}

// TestReadWithFewRights is a user who may see deployments of one namespace.
func TestReadWithFewRights(t *testing.T) {
	c := crdClients(t, virtualServices)
	client := fake.NewClientset(pilot("istiod", "discovery", "pilot:1.31.0", map[string]string{}))
	forbidden := func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetResource().Resource == "deployments" && a.GetNamespace() != "" {
			return false, nil, nil
		}
		return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", nil)
	}
	client.PrependReactor("list", "*", forbidden)
	c.Kube = client
	c.Metadata.(*metadatafake.FakeMetadataClient).PrependReactor("list", "*", forbidden)
	m, err := Read(t.Context(), c, "istio-system")
	if err != nil {
		t.Fatal(err)
	}
	if len(m.ControlPlanes) != 1 || m.ControlPlanes[0].Version != "1.31.0" {
		t.Errorf("control planes: %+v", m.ControlPlanes)
	}
	if diff := cmp.Diff([]string{"webhook configurations", "customresourcedefinitions"}, m.Unreadable); diff != "" {
		t.Error(diff)
	}
}

func TestResolve(t *testing.T) {
	m := &Mesh{ControlPlanes: []ControlPlane{{Revision: "default"}, {Revision: "canary"}}}
	m.Injectors = readInjectors(t,
		configuration("a", "canary", "", "canary"), configuration("b", "canary", "prod", "prod"))
	for name, want := range map[string]string{"default": "default", "canary": "canary", "prod": "canary"} {
		if got, ok := m.Resolve(name); !ok || got != want {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if _, ok := m.Resolve("gone"); ok {
		t.Error("a name that nobody has was found")
	}
	if diff := cmp.Diff([]string{"prod"}, TagsOf(m.Injectors, "canary")); diff != "" {
		t.Error(diff)
	}
}

func TestOwnersOf(t *testing.T) {
	for _, c := range []struct {
		name                string
		labels, annotations map[string]string
		want, gitOps        string
		count               int
	}{
		{"none", map[string]string{"operator.istio.io/component": "Pilot", owningResourceLabel: "unknown"}, nil, "nobody", "", 0},
		{"helm", nil, map[string]string{HelmReleaseNameAnnotation: "istiod", HelmReleaseNamespaceAnnotation: "istio-system"}, "Helm release istiod in istio-system", "", 1},
		{"istioctl", map[string]string{"operator.istio.io/managed": "Reconcile"}, nil, "istioctl", "", 1},
		{"operator", map[string]string{"operator.istio.io/managed": "Reconcile", owningResourceLabel: "installed-state"}, nil, "IstioOperator installed-state", "", 1},
		{"argo", nil, map[string]string{argoTracking: "mesh:apps/Deployment:istio-system/istiod"}, "Argo CD Application mesh", "Argo CD Application mesh", 1},
		{"flux", map[string]string{"helm.toolkit.fluxcd.io/name": "istiod", "helm.toolkit.fluxcd.io/namespace": "flux-system", "kustomize.toolkit.fluxcd.io/name": "all"}, map[string]string{HelmReleaseNameAnnotation: "istiod"}, "Flux HelmRelease istiod in flux-system and Helm release istiod", "Flux HelmRelease istiod in flux-system", 1},
		{"mixed", map[string]string{"operator.istio.io/version": "1.20.0"}, map[string]string{HelmReleaseNameAnnotation: "istiod"}, "Helm release istiod and istioctl", "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := OwnersOf(&metav1.ObjectMeta{Labels: c.labels, Annotations: c.annotations})
			if got.String() != c.want || got.GitOps() != c.gitOps || got.Count() != c.count {
				t.Errorf("got %q, %q, %d", got, got.GitOps(), got.Count())
			}
		})
	}
}

func TestCRDsBehind(t *testing.T) {
	full := func(version string, names ...string) []CRD {
		var crds []CRD
		for _, name := range append(names, v1Kinds...) {
			crds = append(crds, CRD{Name: name, ChartVersion: version, Versions: []VersionInfo{{Name: "v1", Served: true}}})
		}
		return crds
	}
	unserved := full("")
	unserved[3].Versions[0].Served = false
	// istioctl of before 1.24 left them, and the plain file was applied since.
	left := full("", "trafficextensions.extensions.istio.io")
	for i := range left {
		left[i].Version = "1.23.0"
	}
	leftover := CRD{Name: "istiooperators.install.istio.io", Version: "1.23.0", ChartVersion: "1.23.0"}
	for _, c := range []struct {
		name   string
		crds   []CRD
		target string
		want   int
	}{
		{"none at all", nil, "1.31.0", 1},
		{"as it should be", full("1.31.0", "trafficextensions.extensions.istio.io"), "1.31.4", 0},
		{"labels of the minor before", full("1.30.2", "trafficextensions.extensions.istio.io"), "1.31.0", len(v1Kinds) + 1},
		{"newer than the target", full("1.31.0"), "1.29.0", 0},
		{"a kind is missing", full("1.30.0"), "1.30.0-rc.0", 1},
		{"v1 is not served", unserved, "1.24.0", 1},
		{"v1 is not yet read", unserved, "1.23.0", 0},
		{"a leftover that no chart brings on", append(full("1.31.0", "trafficextensions.extensions.istio.io"), leftover), "1.31.0", 0},
		{"labels of a former istioctl", left, "1.31.0", 0},
		{"one more kind of today's charts", append(full("1.31.0", "trafficextensions.extensions.istio.io"), CRD{Name: "envoyfilters.networking.istio.io", ChartVersion: "1.30.2"}), "1.31.0", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CRDsBehind(c.crds, semver.MustParse(c.target)); len(got) != c.want {
				t.Errorf("got %d: %q", len(got), got)
			}
		})
	}
}

// What istioctl wrote is shown, and proves nothing.
func TestCRDVersions(t *testing.T) {
	for name, c := range map[string]struct {
		labels      map[string]string
		shown, sure string
	}{
		"none":          {nil, "", ""},
		"chart":         {map[string]string{"app.kubernetes.io/version": "1.31.0", "operator.istio.io/version": "1.23.0"}, "1.31.0", "1.31.0"},
		"chart's name":  {map[string]string{"helm.sh/chart": "base-1.30.2"}, "1.30.2", "1.30.2"},
		"a placeholder": {map[string]string{"helm.sh/chart": "base-1.0.0"}, "", ""},
		"istioctl":      {map[string]string{"operator.istio.io/version": "1.23.0"}, "1.23.0", ""},
	} {
		object := definition(t, virtualServices)
		object.SetLabels(c.labels)
		crd, err := NewCRD(object)
		if err != nil {
			t.Fatal(err)
		}
		if crd.Version != c.shown || crd.ChartVersion != c.sure {
			t.Errorf("%s: %q and %q, want %q and %q", name, crd.Version, crd.ChartVersion, c.shown, c.sure)
		}
	}
}

// Helm's upgrade knows one spelling of the policy, its uninstall several.
func TestVanishing(t *testing.T) {
	stored := definition(t, virtualServices)
	for name, c := range map[string]struct {
		policy string // of the live object
		next   []*unstructured.Unstructured
		goes   bool
		kept   bool // by an uninstall
	}{
		"no policy":          {"", nil, true, false},
		"kept":               {"keep", nil, false, true},
		"kept in capitals":   {"Keep", nil, true, true},
		"kept with a space":  {"keep ", nil, true, true},
		"in the next chart":  {"", []*unstructured.Unstructured{stored}, false, false},
		"of some other kind": {"delete", nil, true, false},
	} {
		live := CRD{Name: stored.GetName(), Object: &apiextensionsv1.CustomResourceDefinition{}}
		live.Object.Annotations = map[string]string{KeepAnnotation: c.policy}
		if got := Vanishing([]*unstructured.Unstructured{stored}, c.next, []CRD{live}); (len(got) > 0) != c.goes {
			t.Errorf("%s: vanishing %v", name, got)
		}
		if got := Kept(live.Object.Annotations); got != c.kept {
			t.Errorf("%s: kept %v", name, got)
		}
	}
	if got := Vanishing([]*unstructured.Unstructured{stored}, nil, nil); len(got) > 0 {
		t.Errorf("what is not there vanishes: %v", got)
	}
}
