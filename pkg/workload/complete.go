package workload

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// RolledOut says whether the controller reports that every pod is of the newest
// template and available, as kubectl rollout status asks of each kind (kubectl
// pkg/polymorphichelpers/rollout_status.go). Where new pods come only when old
// ones go, the template says nothing of them, and they need only be ready. It
// does not ask whether the controller has seen the template: see Observed.
func (w *Workload) RolledOut() bool {
	s := w.Status
	switch {
	case w.Strategy.Type == OnDelete:
		return s.Ready >= w.Desired
	case w.Kind == StatefulSet:
		return s.Updated >= w.Desired-w.Strategy.Partition && s.Ready >= w.Desired && s.Replicas == w.Desired
	case w.Kind == DaemonSet, w.Kind == Rollout:
		// A Rollout's count of replicas takes in those of the version before,
		// which it keeps for a while.
		return s.Updated >= w.Desired && s.Available >= w.Desired
	}
	return s.Updated >= w.Desired && s.Replicas == s.Updated && s.Available >= w.Desired
}

// Observed says whether the controller has seen the workload as it is now, and
// a restart that was asked of a Rollout is over.
func (w *Workload) Observed() bool {
	return w.Status.ObservedGeneration >= w.Generation && (w.RestartAt == "" || w.RestartAt == w.RestartedAt)
}

// Replaced says whether all pods are of the newest template that the controller
// has seen, be they ready or not.
func (w *Workload) Replaced() bool {
	s := w.Status
	switch {
	case w.Strategy.Type == OnDelete:
		return true
	case w.Kind == StatefulSet:
		return s.Updated >= w.Desired-w.Strategy.Partition
	case w.Kind == Deployment, w.Kind == DeploymentConfig:
		return s.Updated >= w.Desired && s.Replicas <= s.Updated
	}
	return s.Updated >= w.Desired
}

// Rolling says whether pods are being replaced now: the newest template has not
// been seen, not all pods have it, or the controller says that it has not been
// brought to its end. A workload whose pods have all been replaced and are not
// ready any more is unhealthy, and not rolling.
func (w *Workload) Rolling() bool { return !w.Observed() || !w.Replaced() || w.Status.Unfinished }

// unfinished says whether a Deployment's newest rollout goes on: its condition
// Progressing says NewReplicaSetAvailable from its end until the next one, also
// where pods fail meanwhile (kubernetes pkg/controller/deployment/progress.go).
func unfinished(c *appsv1.DeploymentCondition) bool {
	return c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionTrue && c.Reason != "NewReplicaSetAvailable"
}
