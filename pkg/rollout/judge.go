package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// start is what was so when the workload's change was sent.
type start struct {
	Generation int64
	// At is when the change was written, by the API server's clock; zero where
	// nothing was or that is not known.
	At       time.Time
	Old      map[types.UID]bool
	StampKey string
	Stamp    string
	Image    string
	// GracePeriod and RestartAt are what the change set them to, where it did.
	GracePeriod *int64
	RestartAt   string
	// Before is the template that the change was made from; nil where the
	// change was more than a restart.
	Before *corev1.PodTemplateSpec
}

// stands says whether the template still is as the change made it.
func (s start) stands(w *workload.Workload) bool {
	if s.Stamp != "" && w.Template.Annotations[s.StampKey] != s.Stamp {
		return false
	}
	if s.RestartAt != "" && w.RestartAt != s.RestartAt {
		return false
	}
	if grace := w.Template.Spec.TerminationGracePeriodSeconds; s.GracePeriod != nil && (grace == nil || *grace != *s.GracePeriod) {
		return false
	}
	proxy, _ := workload.ProxyOf(w.Template.Annotations, &w.Template.Spec)
	return s.Image == "" || proxy.Image == s.Image
}

// overtaken says whether someone else has put another template in the place of
// the restarted one: a deployment of another image, say.
func (s start) overtaken(w *workload.Workload) bool {
	if s.Before == nil {
		return false
	}
	return !equality.Semantic.DeepEqual(s.bare(s.Before), s.bare(&w.Template))
}

// bare gives a template without what a restart changes in it.
func (s start) bare(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	t = t.DeepCopy()
	delete(t.Annotations, s.StampKey)
	if len(t.Annotations) == 0 {
		t.Annotations = nil
	}
	if s.GracePeriod != nil {
		t.Spec.TerminationGracePeriodSeconds = nil
	}
	return t
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
	held      // paused or scaled to zero in the middle
	overtaken // changed by someone else, and what they changed it to does not come up
)

// judgement is a state with words and counts.
type judgement struct {
	State   state
	Message string
	// Blocked is the warning that the move may fail by, nil where there is none.
	Blocked *warning
	// Updated, Fresh, Ready and Desired count pods: new ones, those of them that
	// are ready, ready ones of any age, wanted ones.
	Updated, Fresh, Ready, Desired int32
}

// judge says where a move stands, from what the watches show. It is a pure
// function. A failure of what someone else has deployed meanwhile is not one of
// the move.
func judge(m *Move, s start, v sight, patience time.Duration, now time.Time) judgement {
	if v.W == nil || v.W.Deleting {
		return judgement{State: gone, Message: wasDeleted}
	}
	if slices.ContainsFunc(v.Warnings, func(w warning) bool { return terminating(w.Text) }) {
		return judgement{State: gone, Message: namespaceEnds}
	}
	j := judgePods(m, s, v)
	if j.State == moving {
		if j.Blocked = blockedBy(v, s, patience); j.Blocked != nil && !now.Before(j.Blocked.due(v, patience)) {
			j.State, j.Message = failed, j.Blocked.Text
		}
	}
	if (j.State == failed || j.State == strayed) && s.overtaken(v.W) {
		j.State = overtaken
	}
	return j
}

// terminating reads the word of the API server on what cannot be created since
// its namespace goes (apiserver pkg/admission/plugin/namespace/lifecycle).
func terminating(text string) bool { return strings.Contains(text, "because it is being terminated") }

// judgePods judges by the pods: what completes a rollout is what kubectl rollout
// status asks of each kind (kubectl pkg/polymorphichelpers/rollout_status.go),
// and then every live pod is looked at.
func judgePods(m *Move, s start, v sight) judgement {
	c := count(m, s, v)
	j := judgement{Desired: v.W.Desired, Updated: c.updated, Fresh: c.fresh, Ready: c.ready}
	is := func(state state, message string) judgement {
		j.State, j.Message = state, message
		return j
	}
	j.Message = fmt.Sprintf("%d of %d new, %d ready", j.Updated, j.Desired, j.Ready)
	switch {
	case v.W.Desired == 0 && v.W.Observed() && v.W.Kind == workload.DaemonSet && !m.writes():
		return is(arrived, "") // no node is one of its own
	case v.W.Desired == 0 && v.W.Observed(): // a DaemonSet's number is its controller's
		return is(held, "it was scaled to zero meanwhile: its next pods will be new")
	case v.W.Paused:
		return is(held, "it was paused in the middle of its rollout ("+j.Message+"): resume it, and run this again")
	case v.W.Generation > s.Generation && !s.stands(v.W) && c.kept < v.W.Desired && !s.overtaken(v.W):
		if s.Image != "" {
			return is(reverted, "the new sidecar was taken back")
		}
		return is(reverted, "the restart was taken back")
	}
	observed := v.W.Status.ObservedGeneration >= s.Generation
	if observed && complete(v.W, m.Evict) && c.live >= v.W.Desired {
		if c.kept == c.live && j.Ready >= v.W.Desired {
			return is(arrived, "")
		}
		if c.kept < c.live && !m.Evict && j.Updated == c.live {
			return is(strayed, c.stray)
		}
	}
	if m.Evict && c.newStray != "" {
		// Evicting on would go round and round.
		return is(strayed, c.newStray)
	}
	if trouble := newTrouble(v.Pods, s.Old); trouble != "" {
		return is(failed, trouble)
	}
	if observed && v.W.Status.DeadlineExceeded {
		return is(failed, "ProgressDeadlineExceeded: "+v.W.Status.DeadlineMessage)
	}
	return j
}

// counts of a workload's live pods.
type counts struct {
	live, ready, updated, fresh, kept int32
	// stray tells of a pod that is not as promised, newStray of a new one that
	// is ready.
	stray, newStray string
}

func count(m *Move, s start, v sight) counts {
	var c counts
	for _, pod := range v.Pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		c.live++
		if workload.Ready(pod) {
			c.ready++
		}
		if !s.Old[pod.UID] {
			c.updated++
			if workload.Ready(pod) {
				c.fresh++
			}
		}
		proxy, has := workload.ProxyOf(pod.Annotations, &pod.Spec)
		if m.Promise.Kept(proxy, has) {
			c.kept++
			continue
		}
		c.stray = strayWords(pod, proxy, has, m.Promise)
		if !s.Old[pod.UID] && workload.Ready(pod) {
			c.newStray = c.stray
		}
	}
	return c
}

// complete says whether the controller reports that every pod is new and
// available.
func complete(w *workload.Workload, evict bool) bool {
	if evict {
		return w.Status.Ready >= w.Desired
	}
	return w.RolledOut()
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
