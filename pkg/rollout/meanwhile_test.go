package rollout

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// What others do to a workload in the middle of its move has an outcome of its
// own, and is no failure of the move.
func TestJudgeWhatHappensMeanwhile(t *testing.T) {
	old := map[types.UID]bool{"old-0": true, "old-1": true}
	before := deployment(func(w *workload.Workload) {
		w.Template.Annotations = nil
		w.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "shop/web:1"}}
	})
	begun := start{Generation: 5, Old: old, StampKey: stampKey, Stamp: "ours", Before: &before.Template}
	restarted := func(w *workload.Workload) {
		w.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "shop/web:1"}}
	}
	redeployed := func(w *workload.Workload) {
		halfway(w)
		w.Generation = 6
		w.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "shop/web:2"}}
	}
	withoutStamp := func(w *workload.Workload) { w.Template.Annotations = nil }
	grace := int64(31)
	failing := []*corev1.Pod{pod("old-0", oldImage), pod("new-0", newImage, crashing)}
	both := []*corev1.Pod{pod("new-0", newImage), pod("new-1", newImage)}
	for _, tc := range []struct {
		name  string
		start start
		w     *workload.Workload
		pods  []*corev1.Pod
		block string
		want  state
		words string
	}{
		{"our restart fails", begun, deployment(restarted, halfway), failing, "", failed, "CrashLoopBackOff"},
		{"another image is deployed, with our stamp kept", begun, deployment(redeployed), both[:1], "", moving, ""},
		{"another image is deployed, and does not come up", begun, deployment(redeployed), failing, "", overtaken, "CrashLoopBackOff"},
		{"the object is replaced, and our stamp with it", begun, deployment(redeployed, withoutStamp), both[:1], "", moving, ""},
		{"what it was replaced by does not come up", begun, deployment(redeployed, withoutStamp), failing, "", overtaken, "CrashLoopBackOff"},
		{"what it was replaced by is as promised", begun, deployment(restarted, withoutStamp, func(w *workload.Workload) {
			w.Generation, w.Status.ObservedGeneration = 6, 6
			w.Template.Spec.Containers[0].Image = "shop/web:2"
		}), both, "", arrived, ""},
		{"the stamp alone is taken away", begun, deployment(restarted, withoutStamp, halfway, func(w *workload.Workload) { w.Generation = 6 }), both[:1], "", reverted, "taken back"},
		{
			"the grace period is put back",
			start{Generation: 5, Old: old, GracePeriod: &grace, Before: &before.Template},
			deployment(restarted, withoutStamp, halfway, func(w *workload.Workload) { w.Generation = 6 }), both[:1], "", reverted, "taken back",
		},
		{
			"restartAt is put back",
			start{Generation: 5, Old: old, RestartAt: "2026-03-01T12:00:00Z"},
			deployment(restarted, halfway, func(w *workload.Workload) { w.Generation = 6 }), both[:1], "", reverted, "taken back",
		},
		{"an HPA scales it up", begun, deployment(restarted, func(w *workload.Workload) {
			w.Generation, w.Desired, w.Status.Available = 6, 3, 2
		}), both, "", moving, "2 of 3 new"},
		{
			"its namespace is being deleted", begun, deployment(restarted, halfway), both[:1],
			`FailedCreate: pods "x" is forbidden: unable to create new content in namespace shop because it is being terminated`, gone, "its namespace is being deleted",
		},
		{"it is paused half way", begun, deployment(restarted, halfway, func(w *workload.Workload) { w.Paused = true }), append(both[:1:1], pod("old-0", oldImage)), "", held, "1 of 2 new"},
		{"a pod was evicted and comes again", begun, deployment(restarted, func(w *workload.Workload) { w.Status.Available = 1 }), append(both[:1:1], pod("new-2", newImage, unready), pod("new-1", newImage, leaving)), "", moving, "1 ready"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := sight{W: tc.w, Pods: tc.pods}
			if tc.block != "" {
				v.Warnings = []warning{{Reason: failedCreate, Text: tc.block, Since: noon}}
			}
			got := judge(&Move{Promise: promise}, tc.start, v, 30*time.Second, noon)
			if got.State != tc.want || !strings.Contains(got.Message, tc.words) {
				t.Errorf("state %d, %q; want %d, %q", got.State, got.Message, tc.want, tc.words)
			}
		})
	}
}

func TestStandstillNamesWhatItHangsOn(t *testing.T) {
	onLostNode := pod("old-0", oldImage, leaving)
	onLostNode.Spec.NodeName = "node-7"
	for name, tc := range map[string]struct {
		pods  []*corev1.Pod
		words string
	}{
		"a node that is lost":  {[]*corev1.Pod{pod("new-0", newImage), onLostNode}, "pod old-0 should have ended 5m0s ago: does its node node-7 answer?"},
		"a pod that lags":      {[]*corev1.Pod{pod("new-0", newImage, unready)}, "pod new-0 is not ready"},
		"nothing that is seen": {[]*corev1.Pod{pod("new-0", newImage)}, "1 of 2 new"},
	} {
		if got := standstill(judgement{Message: "1 of 2 new"}, sight{Pods: tc.pods}, noon.Add(5*time.Minute)); !strings.Contains(got, tc.words) {
			t.Errorf("%s: %q, want %q", name, got, tc.words)
		}
	}
}

func TestStayingCountsWhatAnUndoLeaves(t *testing.T) {
	v := sight{Pods: []*corev1.Pod{pod("old-0", oldImage), pod("new-0", newImage), pod("new-1", newImage, crashing), pod("old-1", oldImage, leaving)}}
	got := staying(v, start{Old: map[types.UID]bool{"old-0": true, "old-1": true}})
	if want := ": 1 pod still runs as before and stays, 1 pod replaced already keeps the new proxy"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// feedOf makes a feed of these workloads without watches.
func feedOf(refs ...workload.Ref) *feed {
	f := &feed{byRef: map[workload.Ref]*run{}, namespaces: map[string]bool{}, dirty: map[workload.Ref]bool{}, newer: map[workload.Ref]bool{}, wake: make(chan struct{}, 1)}
	for _, r := range refs {
		f.byRef[r], f.namespaces[r.Namespace] = &run{}, true
	}
	return f
}

func TestFeedTellsOfWhatIsTheRuns(t *testing.T) {
	web := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"}
	api := web
	api.Name = "api"
	elsewhere := web
	elsewhere.Namespace = "other"
	f := feedOf(web)
	for _, r := range []workload.Ref{web, api, elsewhere} {
		f.changed(r)
		f.came(r)
	}
	if got := f.takeDirty(); len(got) != 1 || got[0] != web {
		t.Errorf("to be looked at: %v", got)
	}
	if got := f.arrivals(); len(got) != 1 || got[0] != api {
		t.Errorf("came: %v; want what is new in the run's namespaces, and none of its own", got)
	}
	if f.went(api); len(f.arrivals()) != 0 {
		t.Error("what came and went is still told")
	}
}

func TestSlimKeepsOnlyWhatIsTheRuns(t *testing.T) {
	yes := true
	of := func(deployment string) *corev1.Pod {
		p := pod(deployment+"-77-x", newImage)
		p.Labels = map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: "77", "more": "labels"}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: workload.ReplicaSet, Name: deployment + "-77", Controller: &yes}}
		return p
	}
	w := &watches{feed: feedOf(workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"})}
	for name, kept := range map[string]bool{"web": true, "other": false} {
		out, err := w.slim(of(name))
		p, ok := out.(*corev1.Pod)
		if err != nil || !ok {
			t.Fatalf("%s: %T, %v", name, out, err)
		}
		if got := len(p.Spec.Containers) > 0 && len(p.Labels) > 0; got != kept {
			t.Errorf("%s: kept %v, want %v", name, got, kept)
		}
		d, err := w.slim(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"a": "b"}}})
		if err != nil || (len(d.(*appsv1.Deployment).Labels) > 0) != kept {
			t.Errorf("deployment %s: %+v, %v", name, d, err)
		}
	}
}

func TestWarningsStandUnderTheWorkloadBehind(t *testing.T) {
	ref := func(group, kind, name string) workload.Ref {
		return workload.Ref{Group: group, Kind: kind, Namespace: "shop", Name: name}
	}
	w := &watches{feed: feedOf(
		ref("apps", workload.Deployment, "web"), ref(workload.RolloutGroup, workload.Rollout, "api"),
		ref(workload.DeploymentConfigGroup, workload.DeploymentConfig, "old"), ref("apps", workload.ReplicaSet, "web-bare"),
	)}
	for _, tc := range []struct{ about, want workload.Ref }{
		{ref("apps", workload.ReplicaSet, "web-77"), ref("apps", workload.Deployment, "web")},
		{ref("apps", workload.ReplicaSet, "api-77"), ref(workload.RolloutGroup, workload.Rollout, "api")},
		{ref("", workload.ReplicationController, "old-3"), ref(workload.DeploymentConfigGroup, workload.DeploymentConfig, "old")},
		{ref("apps", workload.ReplicaSet, "web-bare"), ref("apps", workload.ReplicaSet, "web-bare")},
		{ref("apps", workload.ReplicaSet, "else-77"), ref("apps", workload.ReplicaSet, "else-77")},
	} {
		if got := w.behind(tc.about); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.about, got, tc.want)
		}
	}
}
