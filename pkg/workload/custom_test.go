package workload

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestFromRollout(t *testing.T) {
	w := FromCustom(object(t, `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web, namespace: shop, generation: 7, uid: u}
spec:
  replicas: 8
  restartAt: "2026-03-01T12:00:00Z"
  selector: {matchLabels: {app: web}}
  strategy: {canary: {maxSurge: 50%, maxUnavailable: 25%, steps: [{setWeight: 20}]}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: x}]}}
status:
  observedGeneration: "7"
  replicas: 8
  updatedReplicas: 8
  readyReplicas: 7
  availableReplicas: 6
  restartedAt: "2026-02-01T12:00:00Z"
  phase: Progressing
`))
	if w == nil {
		t.Fatal("not read")
	}
	if !w.Is(Rollout) || w.Namespace != "shop" || w.Desired != 8 || w.Generation != 7 || w.Paused {
		t.Errorf("%+v", w)
	}
	// A restart has no surge, whatever the canary has.
	if want := (Strategy{Type: RollingUpdate, MaxUnavailable: 2}); w.Strategy != want {
		t.Errorf("strategy %+v, want %+v", w.Strategy, want)
	}
	want := Status{ObservedGeneration: 7, Replicas: 8, Updated: 8, Ready: 7, Available: 6, Phase: "Progressing"}
	if w.Status != want {
		t.Errorf("status %+v, want %+v", w.Status, want)
	}
	if w.RestartAt != "2026-03-01T12:00:00Z" || w.RestartedAt != "2026-02-01T12:00:00Z" {
		t.Errorf("restartAt %q, restartedAt %q", w.RestartAt, w.RestartedAt)
	}
	if len(w.Template.Spec.Containers) != 1 {
		t.Errorf("template %+v", w.Template)
	}
}

func TestRolloutsThatAreNotAtRest(t *testing.T) {
	for name, tc := range map[string]struct {
		spec, status    string
		paused, failing bool
		unavailable     int32
	}{
		"at rest":                     {"{replicas: 1}", "{phase: Healthy}", false, false, 1},
		"paused by its user":          {"{replicas: 1, paused: true}", "{}", true, false, 1},
		"paused at a canary's step":   {"{replicas: 4}", "{controllerPause: true, pauseConditions: [{reason: CanaryPauseStep, startTime: '2026-03-01T12:00:00Z'}]}", true, false, 1},
		"aborted":                     {"{replicas: 4}", "{abort: true, message: 'RolloutAborted: analysis failed'}", false, true, 1},
		"degraded":                    {"{replicas: 4}", "{phase: Degraded, message: ProgressDeadlineExceeded}", false, true, 1},
		"blue-green, by its default":  {"{replicas: 8, strategy: {blueGreen: {activeService: web}}}", "{}", false, false, 2},
		"canary without unavailables": {"{replicas: 8, strategy: {canary: {maxUnavailable: 0}}}", "{}", false, false, 1},
	} {
		w := FromCustom(object(t, "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: web}, spec: "+tc.spec+", status: "+tc.status+"}"))
		if w == nil {
			t.Fatalf("%s: not read", name)
		}
		if w.Paused != tc.paused || (w.Status.FailureReason != "") != tc.failing || w.Strategy.MaxUnavailable != tc.unavailable {
			t.Errorf("%s: paused %v, failing %q, %d may be unavailable", name, w.Paused, w.Status.FailureMessage, w.Strategy.MaxUnavailable)
		}
	}
}

func TestRolloutOfADeploymentsTemplate(t *testing.T) {
	w := FromCustom(object(t, "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: web, namespace: shop}, spec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: base}}}"))
	if w.TemplateFrom == nil || *w.TemplateFrom != (Ref{"apps", Deployment, "shop", "base"}) {
		t.Fatalf("template from %v", w.TemplateFrom)
	}
	base := template("apps", Deployment, "base")
	w.Adopt(base)
	if len(w.Template.Spec.Containers) != len(base.Template.Spec.Containers) || w.Selector != base.Selector {
		t.Errorf("%+v", w)
	}
}

func TestRestartTime(t *testing.T) {
	newest := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hourLater := newest.Add(time.Hour + 300*time.Millisecond)
	for name, tc := range map[string]struct {
		w    Workload
		now  time.Time
		want string
	}{
		"just after the newest pod":                   {Workload{Newest: newest}, hourLater, "2026-03-01T12:00:01Z"},
		"also where this machine's clock is behind":   {Workload{Newest: newest}, newest.Add(-time.Hour), "2026-03-01T12:00:01Z"},
		"now, where no pod is known":                  {Workload{}, hourLater, "2026-03-01T13:00:00Z"},
		"never what stands there, or nothing happens": {Workload{Newest: newest, RestartAt: "2026-03-01T12:00:01Z"}, hourLater, "2026-03-01T12:00:02Z"},
	} {
		if got := tc.w.RestartTime(tc.now); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestFromDeploymentConfig(t *testing.T) {
	read := func(spec, status string) *Workload {
		return FromCustom(object(t, "{apiVersion: apps.openshift.io/v1, kind: DeploymentConfig, metadata: {name: web, namespace: shop, generation: 3}, spec: "+spec+", status: "+status+"}"))
	}
	w := read("{replicas: 4, selector: {app: web}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app}]}}}",
		"{latestVersion: 5, observedGeneration: 3, replicas: 4, updatedReplicas: 4, readyReplicas: 3, availableReplicas: 2}")
	if w == nil || !w.Is(DeploymentConfig) || w.Desired != 4 || w.Revision != 5 || w.Manual {
		t.Fatalf("%+v", w)
	}
	if want := (Strategy{Type: RollingUpdate, MaxSurge: 1, MaxUnavailable: 1}); w.Strategy != want {
		t.Errorf("strategy %+v, want %+v", w.Strategy, want)
	}
	if want := (Status{ObservedGeneration: 3, Replicas: 4, Updated: 4, Ready: 3, Available: 2}); w.Status != want {
		t.Errorf("status %+v, want %+v", w.Status, want)
	}
	pod := w.PodOf("")
	if pod.Labels["deployment"] != "web-6" || pod.Labels["deploymentconfig"] != "web" || pod.OwnerReferences[0].Kind != ReplicationController {
		t.Errorf("the pod it would make: %+v", pod.ObjectMeta)
	}
	for name, tc := range map[string]struct {
		spec   string
		manual bool
		kind   string
	}{
		"no triggers said":      {"{replicas: 1}", false, RollingUpdate},
		"none":                  {"{replicas: 1, triggers: []}", true, RollingUpdate},
		"of images alone":       {"{replicas: 1, triggers: [{type: ImageChange}]}", true, RollingUpdate},
		"of the configuration":  {"{replicas: 1, triggers: [{type: ImageChange}, {type: ConfigChange}]}", false, RollingUpdate},
		"all stop before start": {"{replicas: 1, strategy: {type: Recreate}}", false, Recreate},
	} {
		if w := read(tc.spec, "{}"); w.Manual != tc.manual || w.Strategy.Type != tc.kind {
			t.Errorf("%s: manual %v, %+v", name, w.Manual, w.Strategy)
		}
	}
	failed := read("{replicas: 1}", "{conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded, message: 'web-6 has failed progressing'}]}")
	if !failed.Status.DeadlineExceeded || failed.Status.DeadlineMessage != "web-6 has failed progressing" {
		t.Errorf("%+v", failed.Status)
	}
}

func TestFromCustomLeavesOtherGroupsAlone(t *testing.T) {
	for _, text := range []string{
		"{apiVersion: example.com/v1, kind: Rollout, metadata: {name: web}}",
		"{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: web}}",
	} {
		if w := FromCustom(object(t, text)); w != nil {
			t.Errorf("%s was read as %v", text, w.Ref)
		}
	}
}

func TestOwnerOfPodsOfADeploymentConfig(t *testing.T) {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web-6-abcde", Labels: map[string]string{"deployment": "web-6", "deploymentconfig": "web"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: ReplicationController, Name: "web-6", Controller: &yes}},
	}}
	if ref, certain := OwnerOf(pod); ref != (Ref{DeploymentConfigGroup, DeploymentConfig, "shop", "web"}) || certain {
		t.Errorf("%v, certain %v", ref, certain)
	}
	pod.Labels = nil
	if ref, certain := OwnerOf(pod); ref != (Ref{"", ReplicationController, "shop", "web-6"}) || !certain {
		t.Errorf("a bare one: %v, certain %v", ref, certain)
	}
}
