package helm

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// stored is a revision to put into the fake cluster.
type stored struct {
	namespace, name, chart, home string
	revision                     int
	status                       common.Status
	values                       map[string]any
}

// clusterOf gives a cluster whose storage holds these revisions, and further
// objects.
func clusterOf(t *testing.T, revisions []stored, more ...*corev1.ConfigMap) *cluster.Cluster {
	t.Helper()
	kube := fake.NewClientset()
	for _, r := range revisions {
		rel := &release.Release{
			Name: r.name, Namespace: r.namespace, Version: r.revision, Config: r.values,
			Info:  &release.Info{Status: r.status},
			Chart: &chart.Chart{Metadata: &chart.Metadata{Name: r.chart, Version: "1.30.2", Home: r.home}},
		}
		key := fmt.Sprintf("sh.helm.release.v1.%s.v%d", r.name, r.revision)
		if err := driver.NewSecrets(kube.CoreV1().Secrets(r.namespace)).Create(key, rel); err != nil {
			t.Fatal(err)
		}
	}
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var objects []runtime.Object
	secrets, err := kube.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range secrets.Items {
		objects = append(objects, partial("Secret", &secrets.Items[i].ObjectMeta))
	}
	for _, cm := range more {
		objects = append(objects, partial("ConfigMap", &cm.ObjectMeta))
	}
	return &cluster.Cluster{Kube: kube, Metadata: metadatafake.NewSimpleMetadataClient(scheme, objects...)}
}

func partial(kind string, meta *metav1.ObjectMeta) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: kind}, ObjectMeta: *meta}
}

const istioHome = "https://istio.io"

func TestReleases(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, []stored{
		{"istio-system", "istiod", "istiod", istioHome, 1, common.StatusSuperseded, nil},
		{"istio-system", "istiod", "istiod", istioHome, 10, common.StatusPendingUpgrade, map[string]any{"revision": "canary"}},
		{"istio-system", "istiod", "istiod", istioHome, 9, common.StatusDeployed, nil},
		{"istio-system", "gone", "istiod", istioHome, 1, common.StatusUninstalled, nil},
		{"gw", "istiod", "gateway", istioHome, 1, common.StatusFailed, nil},
		{"gw", "web", "gateway", "https://example.com", 1, common.StatusDeployed, nil},
		{"shop", "nginx", "nginx", "", 1, common.StatusDeployed, nil},
	}, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: "kube-system", Name: "istio.v3",
		Labels: map[string]string{"OWNER": "TILLER", "NAME": "istio", "VERSION": "3", "STATUS": "DEPLOYED"},
	}})
	got, err := Releases(t.Context(), c, "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got {
		names = append(names, fmt.Sprintf("%s/%s %d %s %s %s helm2=%v", r.Namespace, r.Name, r.Revision, r.Component, r.Status, r.IstioRevision, r.Helm2))
	}
	want := []string{
		"gw/istiod 1 gateway failed default helm2=false",
		"istio-system/istiod 10 istiod pending-upgrade canary helm2=false",
		"kube-system/istio 3 istio deployed default helm2=true",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, []stored{
		{"istio-system", "istiod", "istiod", istioHome, 2, common.StatusSuperseded, nil},
		{"istio-system", "istiod", "istiod", istioHome, 11, common.StatusDeployed, nil},
		{"istio-system", "istiod", "istiod", istioHome, 9, common.StatusFailed, nil},
		{"istio-system", "other", "istiod", istioHome, 30, common.StatusDeployed, nil},
	})
	history, err := History(t.Context(), c, "istio-system", "istiod")
	if err != nil {
		t.Fatal(err)
	}
	var revisions []int
	for _, r := range history {
		revisions = append(revisions, r.Revision)
	}
	if diff := cmp.Diff([]int{11, 9, 2}, revisions); diff != "" {
		t.Error(diff)
	}
	last, err := Last(t.Context(), c, "istio-system", "istiod")
	if err != nil || last.Revision != 11 {
		t.Errorf("Last = %d, %v", last.Revision, err)
	}
}

func TestParseManifest(t *testing.T) {
	t.Parallel()
	objects, err := ParseManifest("---\n# Source: a\napiVersion: v1\nkind: A\nspec: {replicas: 3}\n---\n# empty\n---\napiVersion: v1\nkind: B\n")
	if err != nil || len(objects) != 2 || objects[0].GetKind() != "A" {
		t.Fatalf("got %v, %v", objects, err)
	}
	if n, ok := objects[0].Object["spec"].(map[string]any)["replicas"].(int64); !ok || n != 3 {
		t.Errorf("a whole number is no int64: %v", objects[0].Object)
	}
	if _, err := ParseManifest("---\na: ["); err == nil {
		t.Error("broken YAML was taken")
	}
}
