package rollout

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// sight is what the watches show of a workload at one moment.
type sight struct {
	W *workload.Workload // nil where it is not there
	// Pods are its pods that have not finished, those being deleted included.
	Pods []*corev1.Pod
	// Blocked is the newest word on pods that cannot be created or started,
	// from a condition or an event since the start, and Since when it holds.
	Blocked string
	Since   time.Time
}

// start is what was so when the workload's change was sent.
type start struct {
	Generation int64
	Old        map[types.UID]bool
	StampKey   string
	Stamp      string
	Image      string
}

// stands says whether the template still is as the change made it.
func (s start) stands(w *workload.Workload) bool {
	if s.Stamp != "" && w.Template.Annotations[s.StampKey] != s.Stamp {
		return false
	}
	proxy, _ := workload.ProxyOf(w.Template.Annotations, &w.Template.Spec)
	return s.Image == "" || proxy.Image == s.Image
}

// state says where a move stands.
type state int

const (
	moving state = iota
	arrived
	failed
	reverted
	strayed // complete, yet pods are not as promised
	gone
	held // paused or scaled to zero in the middle
)

// judgement is a state with words and counts.
type judgement struct {
	State   state
	Message string
	// Updated, Ready and Desired count pods: new ones, ready ones of any age,
	// wanted ones.
	Updated, Ready, Desired int32
}

// judge says where a move stands, from what the watches show. It is a pure
// function; what completes a rollout is what kubectl rollout status asks of
// each kind (kubectl pkg/polymorphichelpers/rollout_status.go), and then every
// live pod is looked at.
func judge(m *Move, s start, v sight, patience time.Duration, now time.Time) judgement {
	if v.W == nil || v.W.Deleting {
		return judgement{State: gone, Message: "it was deleted meanwhile"}
	}
	j := judgement{Desired: v.W.Desired}
	live, kept := int32(0), int32(0)
	stray, newStray := "", ""
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		live++
		if workload.Ready(pod) {
			j.Ready++
		}
		if !s.Old[pod.UID] {
			j.Updated++
		}
		proxy, has := workload.ProxyOf(pod.Annotations, &pod.Spec)
		if m.Promise.Kept(proxy, has) {
			kept++
		} else {
			stray = strayWords(pod, proxy, has, m.Promise)
			if !s.Old[pod.UID] && workload.Ready(pod) {
				newStray = stray
			}
		}
	}
	switch {
	case v.W.Desired == 0:
		j.State, j.Message = held, "it was scaled to zero meanwhile: its next pods will be new"
		return j
	case v.W.Paused:
		j.State, j.Message = held, "it was paused in the middle of its rollout"
		return j
	case v.W.Generation > s.Generation && !s.stands(v.W) && kept < v.W.Desired:
		j.State, j.Message = reverted, "the restart was taken back"
		if s.Image != "" {
			j.Message = "the new sidecar was taken back"
		}
		return j
	}
	observed := v.W.Status.ObservedGeneration >= s.Generation
	if observed && complete(v.W, m.Evict) && live >= v.W.Desired {
		if kept == live && j.Ready >= v.W.Desired {
			j.State = arrived
			return j
		}
		if kept < live && !m.Evict && j.Updated == live {
			j.State, j.Message = strayed, stray
			return j
		}
	}
	if m.Evict && newStray != "" {
		// Evicting on would go round and round.
		j.State, j.Message = strayed, newStray
		return j
	}
	if trouble := newTrouble(v.Pods, s.Old); trouble != "" {
		j.State, j.Message = failed, trouble
		return j
	}
	if observed && v.W.Status.DeadlineExceeded {
		j.State, j.Message = failed, "ProgressDeadlineExceeded: "+v.W.Status.DeadlineMessage
		return j
	}
	if v.Blocked != "" && now.Sub(v.Since) >= patience {
		j.State, j.Message = failed, v.Blocked
		return j
	}
	j.Message = fmt.Sprintf("%d of %d new, %d ready", j.Updated, j.Desired, j.Ready)
	return j
}

// complete says whether the controller reports that every pod is new and
// available.
func complete(w *workload.Workload, evict bool) bool {
	s := w.Status
	switch {
	case evict:
		return s.Ready >= w.Desired
	case w.Kind == workload.StatefulSet:
		return s.Updated >= w.Desired-w.Strategy.Partition && s.Ready >= w.Desired && s.Replicas == w.Desired
	case w.Kind == workload.DaemonSet:
		return s.Updated >= w.Desired && s.Available >= w.Desired
	}
	return s.Updated >= w.Desired && s.Replicas == s.Updated && s.Available >= w.Desired
}

// newTrouble says why a new pod does not come up.
func newTrouble(pods []*corev1.Pod, old map[types.UID]bool) string {
	for _, pod := range pods {
		if old[pod.UID] || pod.DeletionTimestamp != nil {
			continue
		}
		if trouble := workload.Trouble(pod); trouble != "" {
			return "pod " + pod.Name + ": " + trouble
		}
	}
	return ""
}

func strayWords(pod *corev1.Pod, proxy workload.Proxy, has bool, promise workload.Promise) string {
	switch {
	case !has:
		return fmt.Sprintf("pod %s came up without a proxy, though %s was promised", pod.Name, promise.Proxy.Image)
	case proxy.Image != promise.Proxy.Image:
		return fmt.Sprintf("pod %s runs %s, though %s was promised", pod.Name, proxy.Image, promise.Proxy.Image)
	}
	return fmt.Sprintf("pod %s runs %s in another form or with other containers than promised", pod.Name, proxy.Image)
}
