package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestDeploymentStrategy(t *testing.T) {
	rolling := func(surge, unavailable string) appsv1.DeploymentStrategy {
		return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: new(intstr.Parse(surge)), MaxUnavailable: new(intstr.Parse(unavailable)),
		}}
	}
	for _, tc := range []struct {
		name     string
		strategy appsv1.DeploymentStrategy
		desired  int32
		want     Strategy
	}{
		{"the default of one", appsv1.DeploymentStrategy{}, 1, Strategy{Type: RollingUpdate, MaxSurge: 1}},
		{"the default of ten", appsv1.DeploymentStrategy{}, 10, Strategy{Type: RollingUpdate, MaxSurge: 3, MaxUnavailable: 2}},
		{"numbers", rolling("2", "1"), 10, Strategy{Type: RollingUpdate, MaxSurge: 2, MaxUnavailable: 1}},
		{"no surge", rolling("0", "1"), 2, Strategy{Type: RollingUpdate, MaxUnavailable: 1}},
		{"all at once", rolling("0", "100%"), 4, Strategy{Type: RollingUpdate, MaxUnavailable: 4}},
		{"both come to zero", rolling("0", "10%"), 3, Strategy{Type: RollingUpdate, MaxUnavailable: 1}},
		{"recreate", appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, 3, Strategy{Type: Recreate, MaxUnavailable: 3}},
		{"no percentage and no number", rolling("many", "1"), 3, Strategy{Type: RollingUpdate, MaxUnavailable: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, deploymentStrategy(tc.strategy, tc.desired)); d != "" {
				t.Errorf("strategy (-want +got):\n%s", d)
			}
		})
	}
}

func TestFromDeployment(t *testing.T) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 7}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	d.Status.ObservedGeneration, d.Status.UpdatedReplicas, d.Status.AvailableReplicas = 7, 3, 2
	d.Status.Conditions = []appsv1.DeploymentCondition{
		{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "has timed out"},
		{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "exceeded quota"},
	}
	w := FromDeployment(d)
	want := Status{
		ObservedGeneration: 7, Updated: 3, Available: 2, DeadlineExceeded: true, DeadlineMessage: "has timed out",
		FailureReason: "FailedCreate", FailureMessage: "exceeded quota",
	}
	if d := cmp.Diff(want, w.Status); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	if w.Ref != (Ref{"apps", Deployment, "shop", "web"}) || w.Desired != 1 || w.Deleting || w.Generation != 7 {
		t.Errorf("got %+v", w)
	}
	if !w.Selector.Matches(labels.Set{"app": "web"}) || w.Selector.Matches(labels.Set{"app": "api"}) {
		t.Errorf("selector %s", w.Selector)
	}
	d.Status.Conditions[0].Reason, d.Status.Conditions[1].Status = "DeploymentPaused", corev1.ConditionFalse
	d.Spec.Replicas, d.Spec.Paused, d.DeletionTimestamp = new(int32(0)), true, &metav1.Time{}
	w = FromDeployment(d)
	if w.Status.DeadlineExceeded || w.Status.FailureMessage != "" || w.Desired != 0 || !w.Paused || !w.Deleting {
		t.Errorf("got %+v", w)
	}
}

func TestFromStatefulSet(t *testing.T) {
	for _, tc := range []struct {
		name     string
		strategy appsv1.StatefulSetUpdateStrategy
		replicas *int32
		want     Strategy
	}{
		{"the default", appsv1.StatefulSetUpdateStrategy{}, nil, Strategy{Type: RollingUpdate, MaxUnavailable: 1}},
		{"on delete", appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}, nil, Strategy{Type: OnDelete}},
		{"partition", sts(new(int32(2)), nil), new(int32(3)), Strategy{Type: RollingUpdate, MaxUnavailable: 1, Partition: 2}},
		{"half of four", sts(nil, new(intstr.FromString("50%"))), new(int32(4)), Strategy{Type: RollingUpdate, MaxUnavailable: 2}},
		// The controller rounds down: 60% of 2 leaves one pod up.
		{"sixty percent of two", sts(nil, new(intstr.FromString("60%"))), new(int32(2)), Strategy{Type: RollingUpdate, MaxUnavailable: 1}},
		{"never none", sts(nil, new(intstr.FromString("10%"))), new(int32(3)), Strategy{Type: RollingUpdate, MaxUnavailable: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: tc.replicas, UpdateStrategy: tc.strategy}}
			if d := cmp.Diff(tc.want, FromStatefulSet(s).Strategy); d != "" {
				t.Errorf("strategy (-want +got):\n%s", d)
			}
		})
	}
	s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{
		ServiceName: "db", Ordinals: &appsv1.StatefulSetOrdinals{Start: 5},
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}, {ObjectMeta: metav1.ObjectMeta{Name: "log"}}},
	}}
	w := FromStatefulSet(s)
	if d := cmp.Diff([]string{"data", "log"}, w.Claims); d != "" || w.Service != "db" || w.Ordinal != 5 || w.Desired != 1 {
		t.Errorf("service %q, ordinal %d, desired %d, claims (-want +got):\n%s", w.Service, w.Ordinal, w.Desired, d)
	}
}

func sts(partition *int32, unavailable *intstr.IntOrString) appsv1.StatefulSetUpdateStrategy {
	return appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: partition, MaxUnavailable: unavailable}}
}

func TestFromDaemonSet(t *testing.T) {
	d := &appsv1.DaemonSet{}
	d.Status.DesiredNumberScheduled, d.Status.CurrentNumberScheduled, d.Status.NumberReady = 10, 9, 8
	w := FromDaemonSet(d)
	if d := cmp.Diff(Strategy{Type: RollingUpdate, MaxUnavailable: 1}, w.Strategy); d != "" || w.Desired != 10 || w.Status.Replicas != 9 || w.Status.Ready != 8 {
		t.Errorf("desired %d, status %+v, strategy (-want +got):\n%s", w.Desired, w.Status, d)
	}
	d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: new(intstr.FromString("25%")), MaxUnavailable: new(intstr.FromInt32(0))}
	if d := cmp.Diff(Strategy{Type: RollingUpdate, MaxSurge: 3}, FromDaemonSet(d).Strategy); d != "" {
		t.Errorf("a quarter of ten, up (-want +got):\n%s", d)
	}
	d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
	if d := cmp.Diff(Strategy{Type: OnDelete}, FromDaemonSet(d).Strategy); d != "" {
		t.Errorf("on delete (-want +got):\n%s", d)
	}
}

func TestFromBareControllers(t *testing.T) {
	yes := true
	owner := metav1.OwnerReference{APIVersion: "argoproj.io/v1alpha1", Kind: Rollout, Name: "web", Controller: &yes}
	rs := FromReplicaSet(&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{owner}}})
	if rs.Strategy.Type != OnDelete || rs.Desired != 1 || rs.Owner == nil || rs.Owner.Name != "web" {
		t.Errorf("replicaset: %+v", rs)
	}
	rc := FromReplicationController(&corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Selector: map[string]string{"app": "old"}}})
	if rc.Group != "" || rc.Strategy.Type != OnDelete || !rc.Selector.Matches(labels.Set{"app": "old"}) || rc.Owner != nil {
		t.Errorf("replicationcontroller: %+v", rc)
	}
	job := &batchv1.CronJob{Spec: batchv1.CronJobSpec{Suspend: &yes}}
	job.Spec.JobTemplate.Annotations = map[string]string{"mark": "job", "both": "job"}
	job.Spec.JobTemplate.Spec.Template.Annotations = map[string]string{"both": "pod"}
	cron := FromCronJob(job)
	if d := cmp.Diff(map[string]string{"mark": "job", "both": "pod"}, cron.Template.Annotations); d != "" || !cron.Paused {
		t.Errorf("cronjob paused %v, annotations (-want +got):\n%s", cron.Paused, d)
	}
	if len(job.Spec.JobTemplate.Spec.Template.Annotations) != 1 {
		t.Error("the CronJob that was read has been changed")
	}
}
