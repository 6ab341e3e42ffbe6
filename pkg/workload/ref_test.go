package workload

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	for word, want := range map[string]string{
		"deploy": Deployment, "Deployment": Deployment, "deployments.apps": Deployment, "deployments.v1.apps": Deployment,
		"sts": StatefulSet, "statefulsets": StatefulSet,
		"ds": DaemonSet, "daemonset.apps": DaemonSet,
		"rs": ReplicaSet, "rc": ReplicationController, "cj": CronJob, "jobs": Job, "po": Pod,
		"rollouts.argoproj.io": Rollout, "dc": DeploymentConfig,
		"service": "", "": "", "cluster.postgresql.cnpg.io": "",
	} {
		if got, ok := ParseKind(word); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", word, got, ok, want)
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
