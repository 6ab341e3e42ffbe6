package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// Every kind that rolls by itself comes to the new proxy, and no Service is
// ever without a ready endpoint.
func TestSidecarsRollsEveryKindWithoutEmptyingAService(t *testing.T) {
	w := sharedCluster(t)
	ns := "rolls"
	w.injected(ns)
	w.apply(
		manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 2}.String(),
		manifest{kind: "Deployment", name: "single", namespace: ns, replicas: 1}.String(),
		manifest{kind: "Deployment", name: "tight", namespace: ns, replicas: 3, spec: "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}"}.String(),
		manifest{kind: "StatefulSet", name: "db", namespace: ns, replicas: 3, spec: "serviceName: db"}.String(),
		manifest{kind: "DaemonSet", name: "agent", namespace: ns}.String(),
	)
	w.ready(ns, 2+1+3+3+2)
	w.inject(newer)
	endpoints := w.watchEndpoints(ns, "web", "single", "tight", "db", "agent")

	o := w.must(0, "sidecars", "-n", ns, "--yes")

	endpoints.never(w, 1)
	for app, n := range map[string]int{"web": 2, "single": 1, "tight": 3, "db": 3} {
		w.wantProxies(ns, app, map[string]int{newer: n})
	}
	if got := w.proxies(ns, "agent"); got[older] != 0 || got[newer] == 0 {
		t.Errorf("agent: %v", got)
	}
	if !strings.Contains(o.Stdout, "Plan for sidecars: context lab, server https://127.0.0.1:") {
		t.Errorf("the plan names neither context nor server:\n%s", o.Stdout)
	}
	for _, name := range []string{"deployment/web", "statefulset/db", "daemonset/agent"} {
		if !strings.Contains(o.Stderr, "✓ "+name+" in "+ns) {
			t.Errorf("no line says that %s is done:\n%s", name, o.Stderr)
		}
	}

	// Promise 8: a second run writes nothing.
	before := w.writes()
	o = w.must(0, "sidecars", "-n", ns, "--yes")
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// writes gives the requests of the plugin so far that changed something.
func (w *world) writes() []string {
	w.t.Helper()
	events, err := w.AuditEvents(w.t.Context(), "kubectl-istio-upgrade/")
	w.check(err)
	var writes []string
	for i := range events {
		e := &events[i]
		if e.Writes() {
			writes = append(writes, e.Verb+" "+e.RequestURI)
		}
	}
	return writes
}

func TestSidecarsDryRunChangesNothing(t *testing.T) {
	w := sharedCluster(t)
	ns := "dry"
	w.injected(ns)
	w.apply(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 2}.String())
	w.ready(ns, 2)
	w.inject(newer)
	before := w.writes()
	for _, how := range []string{"client", "server"} {
		o := w.must(0, "sidecars", "-n", ns, "--dry-run="+how, "-o", "json")
		if item := o.json(t).find(t, "Deployment", "web"); item.How != "restart" || item.Verdict != "stale" {
			t.Errorf("--dry-run=%s: %+v", how, item)
		}
	}
	if o := w.must(0, "sidecars", "-n", ns, "--dry-run", "-o", "name"); o.Stdout != "deployment/web\n" || o.Stderr != "" {
		t.Errorf("-o name: %s", o)
	}
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("a dry run wrote: %v", after[len(before):])
	}
}

// Each verdict of the design on a workload of its own.
func TestSidecarsVerdicts(t *testing.T) {
	w := sharedCluster(t)
	ns := "verdicts"
	w.injected(ns)
	deployment := func(m manifest) string {
		m.kind, m.namespace = "Deployment", ns
		if m.replicas == 0 {
			m.replicas = 1
		}
		return m.String()
	}
	bare := `apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: verdicts}
spec: {containers: [{name: app, image: example.com/app:1}]}`
	w.apply(
		deployment(manifest{name: "stale"}),
		deployment(manifest{name: "excluded", annotations: `istio-upgrade/skip: "sale until Monday"`}),
		deployment(manifest{name: "pinned", podNotes: "sidecar.istio.io/proxyImage: example.com/istio/proxyv2:1.20.0"}),
		deployment(manifest{name: "loses"}),
		deployment(manifest{name: "missing", podLabels: `sidecar.istio.io/inject: "false"`}),
		deployment(manifest{name: "optedout", podLabels: `sidecar.istio.io/inject: "false"`}),
		manifest{kind: "CronJob", name: "cron", namespace: ns}.String(),
		bare,
	)
	w.ready(ns, 7)
	// A workload loses what it has when it is opted out afterwards, and lacks
	// what it should have when it was created while it was opted out. A paused
	// Deployment keeps its pods while its template changes.
	for name, value := range map[string]string{"loses": `"false"`, "missing": "null"} {
		w.kubectl("-n", ns, "patch", "deployment", name, "-p", `{"spec":{"paused":true}}`)
		w.kubectl("-n", ns, "patch", "deployment", name, "-p",
			`{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":`+value+`}}}}}`)
	}
	w.inject(newer)

	r := w.must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json").json(t)

	for _, want := range []struct{ kind, name, verdict, how, reason string }{
		{"Deployment", "stale", "stale", "restart", ""},
		{"Deployment", "excluded", "excluded", "none", "sale until Monday"},
		{"Deployment", "pinned", "pinned", "none", "1.20.0"},
		{"Deployment", "loses", "loses", "none", "opted out"},
		{"Deployment", "missing", "missing", "restart", ""},
		{"Pod", "bare", "left", "none", "bare pod"},
	} {
		item := r.find(t, want.kind, want.name)
		if item.Verdict != want.verdict || item.How != want.how || !strings.Contains(item.Reason, want.reason) {
			t.Errorf("%s %s: want verdict %q, how %q, reason with %q; have %+v", want.kind, want.name, want.verdict, want.how, want.reason, item)
		}
	}
	for _, p := range r.Plan.Workloads {
		if p.Name == "optedout" {
			t.Errorf("a workload that is out of the mesh is in the plan: %+v", p)
		}
	}
	if item := r.find(t, "Deployment", "excluded"); !item.Lags {
		t.Error("the lag of an excluded workload is not shown")
	}
	if len(r.Left) == 0 {
		t.Error("what is left to a person is not listed")
	}
}

// A canary whose image cannot be pulled ends the run before the second
// workload, in seconds, with the pod and the reason named.
func TestSidecarsCanaryFailureStopsTheRun(t *testing.T) {
	w := sharedCluster(t)
	ns := "canary"
	w.injected(ns)
	for i := range 3 {
		w.apply(manifest{kind: "Deployment", name: fmt.Sprintf("web-%d", i), namespace: ns, replicas: 2}.String())
	}
	w.ready(ns, 6)
	w.inject(newer)
	endpoints := w.watchEndpoints(ns, "web-0", "web-1", "web-2")
	recover, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailImagePull, Namespace: ns, ProxyTag: newer})
	w.check(err)

	o := w.must(3, "sidecars", "-n", ns, "--yes", "--canary", "1")

	if o.Took > 30*time.Second {
		t.Errorf("it took %s to see an image that cannot be pulled", o.Took)
	}
	for _, words := range []string{"pod web-0-", "ImagePullBackOff", "2 not started"} {
		if !strings.Contains(o.Stderr, words) {
			t.Errorf("%q is not said:\n%s", words, o.Stderr)
		}
	}
	if got := w.proxies(ns, "web-1"); got[newer] != 0 {
		t.Errorf("the second workload was touched: %v", got)
	}
	endpoints.never(w, 2)

	// The cause is gone: the same command goes on from there.
	w.check(recover(t.Context()))
	w.must(0, "sidecars", "-n", ns, "--yes", "--canary", "1")
	for i := range 3 {
		w.wantProxies(ns, fmt.Sprintf("web-%d", i), map[string]int{newer: 2})
	}
	endpoints.never(w, 2)
}

// --on-failure continue tries all; undo puts the failed template back.
func TestSidecarsOnFailure(t *testing.T) {
	w := sharedCluster(t)
	for _, mode := range []string{"continue", "undo"} {
		t.Run(mode, func(t *testing.T) {
			w := &world{Cluster: w.Cluster, t: t}
			w.inject(older)
			ns := "onfailure-" + mode
			w.injected(ns)
			w.apply(
				manifest{kind: "Deployment", name: "bad", namespace: ns, replicas: 2, podLabels: "lab/fail: crash", podNotes: `lab/fail-tag: "` + newer + `"`}.String(),
				manifest{kind: "Deployment", name: "good", namespace: ns, replicas: 2}.String(),
			)
			w.ready(ns, 4)
			template := w.kubectl("-n", ns, "get", "deployment", "bad", "-o", "jsonpath={.spec.template}")
			w.inject(newer)
			code := map[string]int{"continue": 1, "undo": 3}[mode]

			o := w.must(code, "sidecars", "-n", ns, "--yes", "--max-parallel", "1", "--on-failure", mode)

			if !strings.Contains(o.Stderr, "CrashLoopBackOff") {
				t.Errorf("the cause is not named:\n%s", o.Stderr)
			}
			if mode == "continue" {
				w.wantProxies(ns, "good", map[string]int{newer: 2})
				return
			}
			if now := w.kubectl("-n", ns, "get", "deployment", "bad", "-o", "jsonpath={.spec.template}"); now != template {
				t.Errorf("the template was not put back:\nbefore %s\nafter  %s", template, now)
			}
			w.wantProxies(ns, "bad", map[string]int{older: 2})
			w.wantProxies(ns, "good", map[string]int{older: 2})
		})
	}
}

// A workload of 120 s has 121 after the first upgrade and 120 after the second,
// with one rollout each.
func TestSidecarsRestartWithGracePeriod(t *testing.T) {
	w := sharedCluster(t)
	ns := "grace"
	w.injected(ns)
	w.apply(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 2, podSpec: "terminationGracePeriodSeconds: 120"}.String())
	w.ready(ns, 2)
	get := func(path string) string {
		return w.kubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath="+path)
	}
	for i, want := range []struct{ version, grace, revision string }{{newer, "121", "2"}, {older, "120", "3"}} {
		w.inject(want.version)
		w.must(0, "sidecars", "-n", ns, "--yes", "--restart-with", "grace-period")
		w.wantProxies(ns, "web", map[string]int{want.version: 2})
		if grace := get("{.spec.template.spec.terminationGracePeriodSeconds}"); grace != want.grace {
			t.Errorf("upgrade %d: grace period %s, want %s", i+1, grace, want.grace)
		}
		if revision := get(`{.metadata.annotations.deployment\.kubernetes\.io/revision}`); i == 0 && revision != want.revision {
			t.Errorf("upgrade %d: revision %s, want %s: one rollout", i+1, revision, want.revision)
		}
		if notes := get("{.spec.template.metadata.annotations}"); notes != "" {
			t.Errorf("the template got annotations: %s", notes)
		}
	}
}

// OnDelete sets, bare ReplicaSets and ReplicationControllers move only with
// --evict, and never two pods at once.
func TestSidecarsEvict(t *testing.T) {
	w := sharedCluster(t)
	ns := "evict"
	w.injected(ns)
	w.apply(
		manifest{kind: "StatefulSet", name: "odb", namespace: ns, replicas: 3, spec: "serviceName: odb, updateStrategy: {type: OnDelete}"}.String(),
		manifest{kind: "ReplicaSet", name: "rs", namespace: ns, replicas: 2}.String(),
		manifest{kind: "ReplicationController", name: "rc", namespace: ns, replicas: 2}.String(),
		`apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: odb, namespace: evict}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: odb}}}`,
	)
	w.ready(ns, 7)
	w.inject(newer)
	r := w.must(0, "sidecars", "-n", ns, "--yes", "-o", "json").json(t)
	if item := r.find(t, "StatefulSet", "odb"); item.How != "none" || !strings.Contains(item.Held, "--evict") {
		t.Errorf("without --evict: %+v", item)
	}
	w.wantProxies(ns, "odb", map[string]int{older: 3})
	endpoints := w.watchEndpoints(ns, "odb", "rs", "rc")

	w.must(0, "sidecars", "-n", ns, "--yes", "--evict")

	if n := endpoints.least("odb"); n < 2 {
		t.Errorf("of three pods only %d were ready at one moment", n)
	}
	endpoints.never(w, 1)
	for app, n := range map[string]int{"odb": 3, "rs": 2, "rc": 2} {
		w.wantProxies(ns, app, map[string]int{newer: n})
	}
}

// What its own strategy would take down is held back unless it is allowed.
func TestSidecarsOutageIsHeldBack(t *testing.T) {
	w := sharedCluster(t)
	ns := "outage"
	w.injected(ns)
	w.apply(
		manifest{kind: "Deployment", name: "recreate", namespace: ns, replicas: 2, spec: "strategy: {type: Recreate}"}.String(),
		manifest{kind: "Deployment", name: "allatonce", namespace: ns, replicas: 2, spec: "strategy: {rollingUpdate: {maxUnavailable: 100%}}"}.String(),
		manifest{kind: "StatefulSet", name: "one", namespace: ns, replicas: 1, spec: "serviceName: one"}.String(),
		manifest{kind: "Deployment", name: "noprobe", namespace: ns, replicas: 2, noProbe: true}.String(),
	)
	w.ready(ns, 7)
	w.inject(newer)
	r := w.must(0, "sidecars", "-n", ns, "--yes", "-o", "json").json(t)
	for _, want := range []struct{ kind, name, impact string }{
		{"Deployment", "recreate", "outage"}, {"Deployment", "allatonce", "outage"}, {"StatefulSet", "one", "outage"},
		{"Deployment", "noprobe", "at risk"},
	} {
		item := r.find(t, want.kind, want.name)
		if item.Impact != want.impact || item.ImpactReason == "" {
			t.Errorf("%s: want impact %q with a reason, have %+v", want.name, want.impact, item)
		}
		if held := item.How == "none"; held != (want.impact == "outage") {
			t.Errorf("%s: held back %v: %+v", want.name, held, item)
		}
	}
	w.wantProxies(ns, "recreate", map[string]int{older: 2})
	w.wantProxies(ns, "noprobe", map[string]int{newer: 2})
	w.must(0, "sidecars", "-n", ns, "--yes", "--allow-downtime")
	for app, n := range map[string]int{"recreate": 2, "allatonce": 2, "one": 1} {
		w.wantProxies(ns, app, map[string]int{newer: n})
	}
}

// Workloads that cannot be started now are named, and do not hold up the rest.
func TestSidecarsNamesWhatCannotStart(t *testing.T) {
	w := sharedCluster(t)
	ns := "standing"
	w.injected(ns)
	w.apply(
		manifest{kind: "Deployment", name: "paused", namespace: ns, replicas: 1}.String(),
		manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 1}.String(),
		manifest{kind: "Deployment", name: "zero", namespace: ns, replicas: 0}.String(),
	)
	w.ready(ns, 2)
	w.kubectl("-n", ns, "patch", "deployment", "paused", "-p", `{"spec":{"paused":true}}`)
	w.inject(newer)
	o := w.must(0, "sidecars", "-n", ns, "--yes")
	if !strings.Contains(o.Stderr, "deployment/paused in standing: it is paused") {
		t.Errorf("the paused workload is not named:\n%s", o.Stderr)
	}
	w.wantProxies(ns, "web", map[string]int{newer: 1})
	w.wantProxies(ns, "paused", map[string]int{older: 1})
}

// A full quota stops what needs a surge before anything is sent, and nothing
// else.
func TestSidecarsQuotaWithoutRoom(t *testing.T) {
	w := sharedCluster(t)
	ns := "quota"
	w.injected(ns)
	w.apply(
		manifest{kind: "Deployment", name: "surges", namespace: ns, replicas: 2}.String(),
		manifest{kind: "Deployment", name: "fits", namespace: ns, replicas: 2, spec: "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}"}.String(),
		`apiVersion: v1
kind: ResourceQuota
metadata: {name: full, namespace: quota}
spec: {hard: {pods: "4"}}`,
	)
	w.ready(ns, 4)
	w.eventually("the quota's status", func() string {
		if used := w.kubectl("-n", ns, "get", "resourcequota", "full", "-o", "jsonpath={.status.used.pods}"); used != "4" {
			return "used is " + used
		}
		return ""
	})
	w.inject(newer)
	r := w.must(0, "sidecars", "-n", ns, "--yes", "-o", "json").json(t)
	if item := r.find(t, "Deployment", "surges"); item.How != "none" || item.Impact != "refused" || !strings.Contains(item.Held, "maxUnavailable") {
		t.Errorf("surges: %+v", item)
	}
	w.wantProxies(ns, "surges", map[string]int{older: 2})
	w.wantProxies(ns, "fits", map[string]int{newer: 2})
}

// Wrong input gets one clear line and the right exit code.
func TestSidecarsBadInput(t *testing.T) {
	w := sharedCluster(t)
	w.namespace("plain", nil)
	for _, c := range []struct {
		name string
		code int
		says string
		args []string
	}{
		{"namespace that is not there", 1, `namespaces "nowhere" not found`, []string{"-n", "nowhere"}},
		{"namespace without injection", 1, "no webhook injects", []string{"-n", "plain"}},
		{"workload that is not there", 1, "deployment/web is not in namespace plain", []string{"deployment/web", "-n", "plain"}},
		{"no kind", 2, `"thing" is no kind of workload`, []string{"thing/web", "-n", "plain"}},
		{"no TYPE/NAME", 2, "TYPE/NAME", []string{"web", "-n", "plain"}},
		{"-A and -n", 2, "exclude each other", []string{"-A", "-n", "plain"}},
		{"unknown flag", 2, "unknown flag: --nope", []string{"--nope"}},
		{"selector", 2, "-l", []string{"-l", "a=b=c"}},
		{"soak without canary", 2, "--soak needs --canary", []string{"--soak", "1s"}},
		{"output", 2, "-o is", []string{"-o", "xml"}},
		{"server that does not answer", 1, "does not answer", []string{"--server", "https://127.0.0.1:1", "-n", "plain"}},
		{"context that is not there", 1, "nowhere", []string{"--context", "nowhere"}},
	} {
		o := w.run(append([]string{"sidecars", "--yes"}, c.args...)...)
		if o.Code != c.code || !strings.Contains(o.Stderr, c.says) {
			t.Errorf("%s: want exit code %d and %q\n%s", c.name, c.code, c.says, o)
		}
		if lines := strings.Count(o.Stderr, "\n"); c.code == 1 && lines != 1 {
			t.Errorf("%s: %d lines instead of one\n%s", c.name, lines, o)
		}
	}
	w.kubeconfig = "/dev/null"
	if o := w.run("sidecars", "--yes"); o.Code != 1 || !strings.Contains(o.Stderr, "no kubeconfig") {
		t.Errorf("without a kubeconfig: %s", o)
	}
}

// Without a terminal and without --yes nothing is asked and nothing changes.
func TestSidecarsNeedsYesWithoutATerminal(t *testing.T) {
	w := sharedCluster(t)
	ns := "noyes"
	w.injected(ns)
	w.apply(manifest{kind: "Deployment", name: "web", namespace: ns, replicas: 1}.String())
	w.ready(ns, 1)
	w.inject(newer)
	if o := w.run("sidecars", "-n", ns); o.Code != 2 || !strings.Contains(o.Stderr, "--yes") {
		t.Errorf("want exit code 2 and --yes named: %s", o)
	}
	w.wantProxies(ns, "web", map[string]int{older: 1})
}
