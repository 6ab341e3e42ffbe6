package workload

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestRolling: the counts are those that the controllers show in each moment.
func TestRolling(t *testing.T) {
	progressing := func(reason string) []appsv1.DeploymentCondition {
		return []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reason}}
	}
	deployment := func(replicas, updated, ready int32, reason string) *Workload {
		return FromDeployment(&appsv1.Deployment{
			Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))},
			Status: appsv1.DeploymentStatus{
				Replicas: replicas, UpdatedReplicas: updated, ReadyReplicas: ready, AvailableReplicas: ready,
				Conditions: progressing(reason),
			},
		})
	}
	set := func(updated, ready int32, current, update string) *Workload {
		return FromStatefulSet(&appsv1.StatefulSet{
			Spec: appsv1.StatefulSetSpec{Replicas: new(int32(2))},
			Status: appsv1.StatefulSetStatus{
				Replicas: 2, UpdatedReplicas: updated, ReadyReplicas: ready, CurrentRevision: current, UpdateRevision: update,
			},
		})
	}
	unseen := deployment(2, 2, 2, "NewReplicaSetAvailable")
	unseen.Generation = 1
	restarting := &Workload{Ref: Ref{Kind: Rollout}, RestartAt: "2026-03-01T12:00:00Z"}
	for _, tc := range []struct {
		name                         string
		w                            *Workload
		rolling, replaced, rolledOut bool
	}{
		{"a Deployment at rest", deployment(2, 2, 2, "NewReplicaSetAvailable"), false, true, true},
		{"with a surge", deployment(3, 1, 2, "ReplicaSetUpdated"), true, false, false},
		{"its last old pod still serves", deployment(3, 2, 2, "ReplicaSetUpdated"), true, false, false},
		{"its new pods start", deployment(2, 2, 0, "ReplicaSetUpdated"), true, true, false},
		{"a pod failed long after", deployment(2, 2, 1, "NewReplicaSetAvailable"), false, true, false},
		{"its controller has not seen it", unseen, true, true, true},
		{"a StatefulSet at rest", set(2, 2, "a", "a"), false, true, true},
		{"a pod of it ends and still counts as ready", set(0, 2, "a", "b"), true, false, false},
		{"half of it is new", set(1, 2, "a", "b"), true, false, false},
		{"its last pod starts", set(2, 1, "a", "b"), true, true, false},
		{"a pod of it failed long after", set(2, 1, "b", "b"), false, true, false},
		{"a bare ReplicaSet lacks a pod", FromReplicaSet(&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(2))}, Status: appsv1.ReplicaSetStatus{Replicas: 1, ReadyReplicas: 1}}), false, true, false},
		{"a Rollout that was asked to restart", restarting, true, true, true},
	} {
		if rolling, replaced, out := tc.w.Rolling(), tc.w.Replaced(), tc.w.RolledOut(); rolling != tc.rolling || replaced != tc.replaced || out != tc.rolledOut {
			t.Errorf("%s: rolling %v, replaced %v, rolled out %v; want %v, %v, %v", tc.name, rolling, replaced, out, tc.rolling, tc.replaced, tc.rolledOut)
		}
	}
}
