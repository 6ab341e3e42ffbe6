package workload

import "time"

// Duration is how long the workload takes to replace its pods, judged by how
// long a pod of its took to start: as many waves, one after the other, as its
// strategy makes of its pods. A restarted Argo Rollout makes no surge: its pods
// are evicted (argoproj/argo-rollouts:rollout/restart.go). 0 where startup is 0, which is unknown.
func (w *Workload) Duration(startup time.Duration) time.Duration {
	if startup == 0 {
		return 0
	}
	step, pods := w.Strategy.MaxSurge+w.Strategy.MaxUnavailable, w.Desired-w.Strategy.Partition
	if w.Kind == Rollout {
		step = w.Strategy.MaxUnavailable
	}
	step = max(1, step)
	waves := max(1, (pods+step-1)/step)
	return time.Duration(waves) * (startup + w.MinReady)
}
