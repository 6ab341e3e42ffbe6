package workload

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestRefIsNamedAsKubectlDoes(t *testing.T) {
	for _, tc := range []struct {
		ref  Ref
		want string
	}{
		{Ref{"apps", Deployment, "shop", "web"}, "deployment/web in shop"},
		{Ref{"", Pod, "shop", "web"}, "pod/web in shop"},
		{Ref{"batch", CronJob, "shop", "report"}, "cronjob/report in shop"},
		{Ref{"argoproj.io", Rollout, "shop", "web"}, "rollout/web in shop"},
		{Ref{"apps.openshift.io", DeploymentConfig, "shop", "web"}, "deploymentconfig/web in shop"},
		{Ref{"postgresql.cnpg.io", "Cluster", "data", "db"}, "cluster.postgresql.cnpg.io/db in data"},
	} {
		if got := tc.ref.In(); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.ref, got, tc.want)
		}
	}
}

func TestRefsAreOrderedByNamespaceKindName(t *testing.T) {
	want := []Ref{
		{"apps", Deployment, "a", "z"},
		{"apps", DaemonSet, "b", "a"},
		{"apps", Deployment, "b", "a"},
		{"apps", Deployment, "b", "b"},
		{"apps", StatefulSet, "b", "a"},
	}
	got := []Ref{want[3], want[4], want[0], want[2], want[1]}
	slices.SortFunc(got, Ref.Compare)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestParseKind(t *testing.T) {
	for word, want := range map[string]schema.GroupKind{
		"deploy": {Group: "apps", Kind: Deployment}, "Deployment": {Group: "apps", Kind: Deployment},
		"deployments.apps": {Group: "apps", Kind: Deployment}, "deployments.v1.apps": {Group: "apps", Kind: Deployment},
		"sts": {Group: "apps", Kind: StatefulSet}, "ds": {Group: "apps", Kind: DaemonSet}, "daemonset.apps": {Group: "apps", Kind: DaemonSet},
		"rs": {Group: "apps", Kind: ReplicaSet}, "rc": {Kind: ReplicationController}, "po": {Kind: Pod}, "pods.v1": {Kind: Pod},
		"cj": {Group: "batch", Kind: CronJob}, "jobs": {Group: "batch", Kind: Job},
		"rollouts.argoproj.io": {Group: RolloutGroup, Kind: Rollout}, "ro": {Group: RolloutGroup, Kind: Rollout},
		"dc": {Group: DeploymentConfigGroup, Kind: DeploymentConfig}, "deploymentconfigs.apps.openshift.io": {Group: DeploymentConfigGroup, Kind: DeploymentConfig},
		// Other groups have kinds of the same names.
		"statefulsets.apps.kruise.io": {Group: "apps.kruise.io", Kind: StatefulSet}, "sts.v1beta1.apps.kruise.io": {Group: "apps.kruise.io", Kind: StatefulSet},
		"cluster.postgresql.cnpg.io": {Group: "postgresql.cnpg.io", Kind: "cluster"},
		"service":                    {}, "": {}, "deployments.batch": {}, ".argoproj.io": {},
	} {
		if got, ok := ParseKind(word); got != want || ok != (want != schema.GroupKind{}) {
			t.Errorf("%q: %v, %v; want %v", word, got, ok, want)
		}
	}
}

func TestResourceGoesByTheGroupToo(t *testing.T) {
	for _, tc := range []struct {
		ref  Ref
		want string
	}{
		{Ref{Group: "apps", Kind: StatefulSet}, "statefulsets.apps"},
		{Ref{Kind: ReplicationController}, "replicationcontrollers"},
		{Ref{Group: RolloutGroup, Kind: Rollout}, "rollouts.argoproj.io"},
		{Ref{Group: "apps.kruise.io", Kind: StatefulSet}, ""},
		{Ref{Group: "batch", Kind: CronJob}, ""},
	} {
		got, ok := tc.ref.Resource()
		if ok != (tc.want != "") || ok && got.GroupResource().String() != tc.want {
			t.Errorf("%v: %v, %v; want %q", tc.ref, got, ok, tc.want)
		}
	}
}

func TestOwnerOf(t *testing.T) {
	pod := func(apiVersion, kind, name string, labels map[string]string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-x", Labels: labels}}
		if kind != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, Controller: &yes}}
		}
		return p
	}
	hash := map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: "5d4f"}
	notController := pod("apps/v1", ReplicaSet, "web-5d4f", hash)
	notController.OwnerReferences[0].Controller = nil
	for _, tc := range []struct {
		name    string
		pod     *corev1.Pod
		want    Ref
		certain bool
	}{
		{"bare", pod("", "", "", nil), Ref{"", Pod, "shop", "web-x"}, true},
		{"an owner that is no controller", notController, Ref{"", Pod, "shop", "web-x"}, true},
		{"of a Deployment", pod("apps/v1", ReplicaSet, "my-web-5d4f", hash), Ref{"apps", Deployment, "shop", "my-web"}, false},
		{"of a Rollout", pod("apps/v1", ReplicaSet, "web-77", map[string]string{"rollouts-pod-template-hash": "77"}), Ref{"argoproj.io", Rollout, "shop", "web"}, false},
		{"of a ReplicaSet made by hand", pod("apps/v1", ReplicaSet, "web", nil), Ref{"apps", ReplicaSet, "shop", "web"}, true},
		{"of a ReplicaSet whose name is not of that hash", pod("apps/v1", ReplicaSet, "web-other", hash), Ref{"apps", ReplicaSet, "shop", "web-other"}, true},
		{"of another group's ReplicaSet", pod("extra.example/v1", ReplicaSet, "web-5d4f", hash), Ref{"extra.example", ReplicaSet, "shop", "web-5d4f"}, true},
		{"of a StatefulSet", pod("apps/v1", StatefulSet, "db", hash), Ref{"apps", StatefulSet, "shop", "db"}, true},
		{"of a ReplicationController", pod("v1", ReplicationController, "old", nil), Ref{"", ReplicationController, "shop", "old"}, true},
		{"of a custom resource", pod("postgresql.cnpg.io/v1", "Cluster", "db", nil), Ref{"postgresql.cnpg.io", "Cluster", "shop", "db"}, true},
		{"of a node", pod("v1", Node, "n1", nil), Ref{"", Node, "shop", "n1"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, certain := OwnerOf(tc.pod)
			if got != tc.want || certain != tc.certain {
				t.Errorf("%+v, certain %v; want %+v, %v", got, certain, tc.want, tc.certain)
			}
		})
	}
}
