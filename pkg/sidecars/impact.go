package sidecars

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"istio.io/api/annotation"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Impact says what moving a workload will do to those who call it.
type Impact string

// The impacts, from harmless to not possible.
const (
	NoImpact Impact = "none"    // at least one pod is ready at every moment
	AtRisk   Impact = "at risk" // none is expected, but something is thin
	Outage   Impact = "outage"  // its own strategy allows that no pod is ready
	Refused  Impact = "refused" // admission refuses the new pod
)

// How says how a workload is moved.
type How string

// The ways of moving.
const (
	Restart  How = "restart"  // a patch of its template; its controller rolls it
	Evict    How = "evict"    // its pods are evicted one at a time
	Reinject How = "reinject" // its template gets the new sidecar in place of the old
	Webhook  How = "webhook"  // the sidecar in its template is taken out, and the webhook injects
	Watch    How = "watch"    // something else moves it, and it is watched
	Nothing  How = "none"     // it stays
)

// defaultDrain is how long a proxy lets connections end after it was told to
// stop (ProxyConfig.terminationDrainDuration).
const defaultDrain = 5 * time.Second

// surroundings is what the impact depends on besides the workload.
type surroundings struct {
	// Room is how many more pods of this kind the namespace's quotas have room
	// for; negative where no quota counts.
	Room int32
	// Disruptions is how many evictions the PodDisruptionBudgets that match the
	// pods allow now; negative where none matches. It counts where pods are
	// evicted: by this tool, and by the controller of a Rollout.
	Disruptions int32
	// Served is true where a Service sends traffic to the pods.
	Served bool
}

// impactOf predicts what moving the workload in this way does to its callers,
// and why. It is a pure function.
func impactOf(w *workload.Workload, how How, a answer, s surroundings) (Impact, string) {
	if a.Outcome == rejected {
		return Refused, "the new pod would be refused: " + a.Message
	}
	deletesFirst := how == Evict || w.Kind == workload.StatefulSet || w.Strategy.MaxSurge == 0
	if why := outage(w, how); why != "" {
		return Outage, why
	}
	var risks []string
	if !deletesFirst {
		switch {
		case a.Outcome == noRoom || s.Room == 0:
			return Refused, "the quota has no room for a surge: set maxUnavailable above 0 and maxSurge 0, or raise the quota" + messageOf(a)
		case s.Room > 0 && s.Room < w.Strategy.MaxSurge:
			risks = append(risks, fmt.Sprintf("the quota has room for %d of %d surge pods", s.Room, w.Strategy.MaxSurge))
		}
	}
	if (how == Evict || w.Kind == workload.Rollout) && s.Disruptions == 0 {
		risks = append(risks, "its PodDisruptionBudget has no room for an eviction now")
	}
	if s.Served && !hasReadinessProbe(&w.Template.Spec) {
		risks = append(risks, "no readiness probe: new pods get traffic before they can take it")
	}
	if grace, drain := gracePeriod(&w.Template.Spec), drainOf(&w.Template); grace < drain {
		risks = append(risks, fmt.Sprintf("its grace period of %s is shorter than the proxy's drain of %s", grace, drain))
	}
	if len(risks) > 0 {
		return AtRisk, strings.Join(risks, "; ")
	}
	return NoImpact, ""
}

func messageOf(a answer) string {
	if a.Message == "" {
		return ""
	}
	return " (" + a.Message + ")"
}

// outage says why the workload's own way of replacing pods allows a moment
// without a ready pod, "" where it does not.
func outage(w *workload.Workload, how How) string {
	switch {
	case w.Strategy.Type == workload.Recreate:
		return "its strategy is Recreate: all pods stop before the new ones start"
	case w.Kind == workload.Rollout && w.Desired <= 1:
		return "a Rollout's restart evicts a pod before it makes the new one, and it has only one"
	case how == Evict && w.Desired <= 1:
		return "its only pod is evicted before the new one starts"
	case how == Evict:
		return ""
	case w.Desired <= 1 && w.Strategy.MaxSurge == 0:
		return "its only pod stops before the new one starts"
	case w.Strategy.MaxUnavailable >= w.Desired:
		return "its strategy lets all pods be unavailable at once"
	}
	return ""
}

// hasReadinessProbe says whether every one of the application's containers has
// a readiness probe.
func hasReadinessProbe(spec *corev1.PodSpec) bool {
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if c.Name != workload.ProxyContainer && c.ReadinessProbe == nil {
			return false
		}
	}
	return true
}

func gracePeriod(spec *corev1.PodSpec) time.Duration {
	if spec.TerminationGracePeriodSeconds == nil {
		return 30 * time.Second
	}
	return time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second
}

// drainOf reads the drain duration from the pod's proxy.istio.io/config
// annotation; where it does not say, Istio's default holds.
func drainOf(t *corev1.PodTemplateSpec) time.Duration {
	var config struct {
		Drain string `json:"terminationDrainDuration"`
	}
	if yaml.Unmarshal([]byte(t.Annotations[annotation.ProxyConfig.Name]), &config) == nil {
		if d, err := time.ParseDuration(config.Drain); err == nil {
			return d
		}
	}
	return defaultDrain
}
