package report

import (
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

func points(pairs ...int) []Point {
	list := []Point{}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Point{Time: at(pairs[i]), Ready: pairs[i+1]})
	}
	return list
}

func TestJudgeComparesPredictedAndSeen(t *testing.T) {
	for name, c := range map[string]struct {
		impact   string
		services []Service
		want     Seen
	}{
		"never fewer than before": {
			"none",
			[]Service{{"shop", "web", points(-10, 2, 12, 3, 14, 2)}},
			Seen{Known: true, Fewest: 2},
		},
		"fewer, and not none": {
			"none",
			[]Service{{"shop", "web", points(-10, 2, 12, 1, 14, 2)}},
			Seen{Known: true, Fewest: 1},
		},
		"none for three seconds": {
			"none",
			[]Service{{"shop", "web", points(-10, 2, 12, 0, 15, 1)}},
			Seen{Known: true, Fewest: 0, Without: 3, Worse: true},
		},
		"none, as predicted": {
			"outage",
			[]Service{{"shop", "web", points(-10, 1, 12, 0, 15, 1)}},
			Seen{Known: true, Fewest: 0, Without: 3},
		},
		"none still at the end": {
			"none",
			[]Service{{"shop", "web", points(-10, 1, 18, 0)}},
			Seen{Known: true, Fewest: 0, Without: 2, Worse: true},
		},
		"only before it moved": {
			"none",
			[]Service{{"shop", "web", points(-10, 1, -8, 0, -5, 1)}},
			Seen{Known: true, Fewest: 1},
		},
		"only after it moved": {
			"none",
			[]Service{{"shop", "web", points(-10, 1, 25, 0)}},
			Seen{Known: true, Fewest: 1},
		},
		"none before either": {
			"none", []Service{{"shop", "web", points(-10, 0, 15, 1)}}, Seen{},
		},
		"the worst of two Services": {
			"none",
			[]Service{{"shop", "web", points(-10, 3)}, {"shop", "admin", points(-10, 2, 15, 1)}},
			Seen{Known: true, Fewest: 1},
		},
		"of another namespace": {"none", []Service{{"bank", "web", points(-10, 1, 12, 0)}}, Seen{}},
		"not watched":          {"none", nil, Seen{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Run{Began: noon, Ended: at(30), Services: c.services, Workloads: []Workload{{
				Kind: "Deployment", Namespace: "shop", Name: "web", Impact: c.impact,
				Services: []string{"web", "admin"}, Began: at(10), Ended: at(20),
			}}}
			r.Judge()
			if got := r.Workloads[0].Seen; got != c.want {
				t.Errorf("seen %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestRecorderFollowsARun(t *testing.T) {
	run := &Run{Began: noon}
	r := NewRecorder(run)
	web := progress.Object{Kind: "Deployment", Namespace: "shop", Name: "web"}
	api := progress.Object{Kind: "Deployment", Namespace: "shop", Name: "api"}
	r.Expect(
		Workload{Step: "sidecars", Kind: web.Kind, Namespace: web.Namespace, Name: web.Name, From: "1.30.2", To: "1.31.0", How: "restart"},
		Workload{Step: "sidecars", Kind: api.Kind, Namespace: api.Namespace, Name: api.Name, From: "1.30.2", To: "1.31.0", How: "restart"},
		Workload{Step: "sidecars", Kind: "DaemonSet", Namespace: "shop", Name: "late", From: "1.30.2", To: "1.31.0", How: "restart"},
	)
	istiod := progress.Object{Kind: "Deployment", Namespace: "istio-system", Name: "istiod"}
	for i, e := range []progress.Event{
		{Step: "control-plane", Kind: progress.StepStarted},
		{Step: "control-plane", Kind: progress.Updated, Object: istiod, Updated: 1, Ready: 1, Desired: 2},
		{Step: "control-plane", Kind: progress.Updated, Object: istiod, Updated: 2, Ready: 2, Desired: 2},
		{Step: "control-plane", Kind: progress.StepFinished, Message: "is at 1.31.0"},
		{Step: "sidecars", Kind: progress.StepStarted, Total: 3},
		{Step: "sidecars", Kind: progress.Planned, Object: web},
		{Step: "sidecars", Kind: progress.Started, Object: web, Desired: 2},
		{Step: "sidecars", Kind: progress.Updated, Object: web, Updated: 1, Ready: 2, Desired: 2},
		{Step: "sidecars", Kind: progress.Done, Object: web},
		{Step: "sidecars", Kind: progress.Started, Object: api, Desired: 1},
		{Step: "sidecars", Kind: progress.Failed, Object: api, Message: "ImagePullBackOff"},
		{Step: "sidecars", Kind: progress.StepFinished, Message: "1 done, 1 failed, 1 not started"},
	} {
		e.Time = at(i)
		r.Notify(e)
	}
	want := []struct {
		name, outcome string
		began, ended  time.Time
		marks         int
	}{
		{"web", OutcomeDone, at(6), at(8), 2},
		{"api", OutcomeFailed, at(9), at(10), 1},
		{"late", OutcomeNotBegun, time.Time{}, time.Time{}, 0},
		{"istiod", OutcomeDone, at(1), at(2), 2},
	}
	if len(run.Workloads) != len(want) {
		t.Fatalf("workloads: %+v", run.Workloads)
	}
	for i, w := range want {
		got := run.Workloads[i]
		if got.Name != w.name || got.Outcome != w.outcome || !got.Began.Equal(w.began) || !got.Ended.Equal(w.ended) || len(got.Marks) != w.marks {
			t.Errorf("%s: got %+v, want %+v", w.name, got, w)
		}
	}
	if len(run.Steps) != 2 || run.Steps[1].Message != "1 done, 1 failed, 1 not started" || !run.Steps[0].Ended.Equal(at(3)) {
		t.Errorf("steps: %+v", run.Steps)
	}
	// One has the new proxy now, two have the old one still.
	proxies := run.Proxies()
	if len(proxies) != 2 || proxies[0] != (ProxyCount{"1.30.2", 3, 2}) || proxies[1] != (ProxyCount{"1.31.0", 0, 1}) {
		t.Errorf("proxies: %+v", proxies)
	}
}

// The watches of two steps see the same Service one after the other.
func TestRecorderJoinsWhatWatchesSaw(t *testing.T) {
	run := &Run{}
	r := NewRecorder(run)
	r.Endpoints(Service{"shop", "web", points(0, 2)})
	r.Endpoints(Service{"shop", "web", points(5, 2, 6, 1)}, Service{"shop", "api", points(5, 1)})
	if len(run.Services) != 2 || len(run.Services[0].Points) != 3 {
		t.Errorf("services: %+v", run.Services)
	}
}
