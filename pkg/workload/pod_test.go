package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// template is a workload of a kind with an application in its template.
func template(group, kind, name string) *Workload {
	w := &Workload{Ref: Ref{group, kind, "shop", name}, UID: "u-1", Desired: 2}
	w.Template.Labels = map[string]string{"app": name}
	w.Template.Annotations = map[string]string{"sidecar.istio.io/inject": "true"}
	w.Template.Spec.Containers = []corev1.Container{{Name: name}}
	return w
}

// TestPodOfIdentity: what the injector and admission read of a pod is what the
// kind's own controller gives it.
func TestPodOfIdentity(t *testing.T) {
	for _, tc := range []struct {
		w              *Workload
		name, generate string
		ownerAPI       string
		owner          string
		labels         []string // besides the template's
	}{
		{template("apps", Deployment, "web"), "", "web-" + askedHash + "-", "apps/v1", "ReplicaSet/web-" + askedHash, []string{"pod-template-hash"}},
		{template("argoproj.io", Rollout, "web"), "", "web-" + askedHash + "-", "apps/v1", "ReplicaSet/web-" + askedHash, []string{"rollouts-pod-template-hash"}},
		{
			template("apps", StatefulSet, "db"), "db-2", "db-", "apps/v1", "StatefulSet/db",
			[]string{"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-revision-hash"},
		},
		{template("apps", DaemonSet, "log"), "", "log-", "apps/v1", "DaemonSet/log", []string{"controller-revision-hash", "pod-template-generation"}},
		{template("apps", ReplicaSet, "rs"), "", "rs-", "apps/v1", "ReplicaSet/rs", nil},
		{template("", ReplicationController, "rc"), "", "rc-", "v1", "ReplicationController/rc", nil},
	} {
		t.Run(tc.w.Kind, func(t *testing.T) {
			pod := tc.w.PodOf("")
			if pod.Namespace != "shop" || pod.Name != tc.name || pod.GenerateName != tc.generate {
				t.Errorf("namespace %q, name %q, generateName %q", pod.Namespace, pod.Name, pod.GenerateName)
			}
			owner := metav1.GetControllerOf(pod)
			if owner == nil || owner.APIVersion != tc.ownerAPI || owner.Kind+"/"+owner.Name != tc.owner || owner.UID == "" {
				t.Errorf("owner %+v, want %s", owner, tc.owner)
			}
			want := map[string]bool{"app": true}
			for _, l := range tc.labels {
				want[l] = true
			}
			for l, v := range pod.Labels {
				if !want[l] || v == "" {
					t.Errorf("label %s=%s is not the controller's", l, v)
				}
				delete(want, l)
			}
			if len(want) > 0 {
				t.Errorf("labels missing: %v", want)
			}
			if d := cmp.Diff(tc.w.Template.Annotations, pod.Annotations); d != "" {
				t.Errorf("annotations (-want +got):\n%s", d)
			}
			if len(tc.w.Template.Labels) != 1 {
				t.Errorf("the workload's own template has been changed: %v", tc.w.Template.Labels)
			}
			// The inventory must find the owner of such a pod again.
			if ref, _ := OwnerOf(pod); ref != tc.w.Ref {
				t.Errorf("belongs to %+v, want %+v", ref, tc.w.Ref)
			}
		})
	}
}

func TestPodOfStatefulSet(t *testing.T) {
	w := template("apps", StatefulSet, "db")
	w.Service, w.Ordinal, w.Claims = "db-headless", 10, []string{"data", "log"}
	w.Status.Replicas = 3 // still scaling down from three
	w.Template.Spec.Volumes = []corev1.Volume{
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	pod := w.PodOf("")
	if pod.Name != "db-13" || pod.Spec.Hostname != "db-13" || pod.Spec.Subdomain != "db-headless" || pod.Labels["apps.kubernetes.io/pod-index"] != "13" {
		t.Errorf("name %q, hostname %q, subdomain %q, labels %v", pod.Name, pod.Spec.Hostname, pod.Spec.Subdomain, pod.Labels)
	}
	claim := func(name string) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
	}
	want := []corev1.Volume{
		w.Template.Spec.Volumes[0],                        // its own stay
		{Name: "data", VolumeSource: claim("data-db-13")}, // a claim takes the place of a volume of its name
		{Name: "log", VolumeSource: claim("log-db-13")},
	}
	if d := cmp.Diff(want, pod.Spec.Volumes); d != "" {
		t.Errorf("volumes (-want +got):\n%s", d)
	}
	if w.Template.Spec.Volumes[1].EmptyDir == nil {
		t.Error("the workload's own template has been changed")
	}
}

func TestPodOfDaemonSet(t *testing.T) {
	w := template("apps", DaemonSet, "log")
	w.Template.Spec.Tolerations = []corev1.Toleration{{Key: "mine"}}
	tolerates := func(pod *corev1.Pod, key string) bool {
		for _, x := range pod.Spec.Tolerations {
			if x.Key == key {
				return true
			}
		}
		return false
	}
	pod := w.PodOf("")
	if pod.Spec.Affinity != nil {
		t.Errorf("without a node there is nothing to bind to: %+v", pod.Spec.Affinity)
	}
	for _, key := range []string{
		"mine", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/disk-pressure",
		"node.kubernetes.io/memory-pressure", "node.kubernetes.io/pid-pressure", "node.kubernetes.io/unschedulable",
	} {
		if !tolerates(pod, key) {
			t.Errorf("does not tolerate %s", key)
		}
	}
	if tolerates(pod, "node.kubernetes.io/network-unavailable") {
		t.Error("only pods on the host's network tolerate that there is none")
	}
	w.Template.Spec.HostNetwork = true
	if !tolerates(w.PodOf(""), "node.kubernetes.io/network-unavailable") {
		t.Error("pods on the host's network tolerate that there is none")
	}

	linux := corev1.NodeSelectorRequirement{Key: "kubernetes.io/os", Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}}
	onNode := []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}
	for _, tc := range []struct {
		name       string
		have, want []corev1.NodeSelectorTerm
	}{
		{"no affinity of its own", nil, []corev1.NodeSelectorTerm{{MatchFields: onNode}}},
		{
			"every term of its own",
			[]corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{linux}}, {}},
			[]corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{linux}, MatchFields: onNode}, {MatchFields: onNode}},
		},
	} {
		if tc.have != nil {
			w.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: tc.have},
			}}
		}
		got := w.PodOf("n1").Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
		if d := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}
