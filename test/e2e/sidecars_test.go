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
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "Deployment", Name: "single", Namespace: ns, Replicas: 1}.String(),
		manifest{Kind: "Deployment", Name: "tight", Namespace: ns, Replicas: 3, Spec: "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}"}.String(),
		manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 3, Spec: "serviceName: db"}.String(),
		manifest{Kind: "DaemonSet", Name: "agent", Namespace: ns}.String(),
	)
	w.AwaitReady(ns, 2+1+3+3+2)
	w.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web", "single", "tight", "db", "agent")

	o := w.Must(0, "sidecars", "-n", ns, "--yes")

	endpoints.Never(w.World, 1)
	for app, n := range map[string]int{"web": 2, "single": 1, "tight": 3, "db": 3} {
		w.WantProxies(ns, app, map[string]int{newer: n})
	}
	if got := w.Proxies(ns, "agent"); got[older] != 0 || got[newer] == 0 {
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
	before := w.Writes()
	o = w.Must(0, "sidecars", "-n", ns, "--yes")
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

func TestSidecarsDryRunChangesNothing(t *testing.T) {
	w := sharedCluster(t)
	ns := "dry"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String())
	w.AwaitReady(ns, 2)
	w.Inject(newer)
	before := w.Writes()
	for _, how := range []string{"client", "server"} {
		o := w.Must(0, "sidecars", "-n", ns, "--dry-run="+how, "-o", "json")
		if item := o.JSON(t).Find(t, "Deployment", "web"); item.How != "restart" || item.Verdict != "stale" {
			t.Errorf("--dry-run=%s: %+v", how, item)
		}
	}
	if o := w.Must(0, "sidecars", "-n", ns, "--dry-run", "-o", "name"); o.Stdout != "deployment/web\n" || o.Stderr != "" {
		t.Errorf("-o name: %s", o)
	}
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("a dry run wrote: %v", after[len(before):])
	}
}

// Each verdict of the design on a workload of its own.
func TestSidecarsVerdicts(t *testing.T) {
	w := sharedCluster(t)
	ns := "verdicts"
	w.InjectedNamespace(ns)
	deployment := func(m manifest) string {
		m.Kind, m.Namespace = "Deployment", ns
		if m.Replicas == 0 {
			m.Replicas = 1
		}
		return m.String()
	}
	bare := `apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: verdicts}
spec: {containers: [{name: app, image: example.com/app:1}]}`
	w.Apply(
		deployment(manifest{Name: "stale"}),
		deployment(manifest{Name: "excluded", Annotations: `istio-upgrade/skip: "sale until Monday"`}),
		deployment(manifest{Name: "pinned", PodNotes: "sidecar.istio.io/proxyImage: example.com/istio/proxyv2:1.20.0"}),
		deployment(manifest{Name: "loses"}),
		deployment(manifest{Name: "missing", PodLabels: `sidecar.istio.io/inject: "false"`}),
		deployment(manifest{Name: "optedout", PodLabels: `sidecar.istio.io/inject: "false"`}),
		manifest{Kind: "CronJob", Name: "cron", Namespace: ns}.String(),
		bare,
	)
	w.AwaitReady(ns, 7)
	// A workload loses what it has when it is opted out afterwards, and lacks
	// what it should have when it was created while it was opted out. A paused
	// Deployment keeps its pods while its template changes.
	for name, value := range map[string]string{"loses": `"false"`, "missing": "null"} {
		w.RunKubectl("-n", ns, "patch", "deployment", name, "-p", `{"spec":{"paused":true}}`)
		w.RunKubectl("-n", ns, "patch", "deployment", name, "-p",
			`{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":`+value+`}}}}}`)
	}
	w.Inject(newer)

	r := w.Must(0, "sidecars", "-n", ns, "--dry-run", "-o", "json").JSON(t)

	for _, want := range []struct{ kind, name, verdict, how, reason string }{
		{"Deployment", "stale", "stale", "restart", ""},
		{"Deployment", "excluded", "excluded", "none", "sale until Monday"},
		{"Deployment", "pinned", "pinned", "none", "1.20.0"},
		{"Deployment", "loses", "loses", "none", "opted out"},
		{"Deployment", "missing", "missing", "restart", ""},
		{"Pod", "bare", "left", "none", "bare pod"},
	} {
		item := r.Find(t, want.kind, want.name)
		if item.Verdict != want.verdict || item.How != want.how || !strings.Contains(item.Reason, want.reason) {
			t.Errorf("%s %s: want verdict %q, how %q, reason with %q; have %+v", want.kind, want.name, want.verdict, want.how, want.reason, item)
		}
	}
	for _, p := range r.Plan.Workloads {
		if p.Name == "optedout" {
			t.Errorf("a workload that is out of the mesh is in the plan: %+v", p)
		}
	}
	if item := r.Find(t, "Deployment", "excluded"); !item.Lags {
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
	w.InjectedNamespace(ns)
	for i := range 3 {
		w.Apply(manifest{Kind: "Deployment", Name: fmt.Sprintf("web-%d", i), Namespace: ns, Replicas: 2}.String())
	}
	w.AwaitReady(ns, 6)
	w.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web-0", "web-1", "web-2")
	recover, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailImagePull, Namespace: ns, ProxyTag: newer})
	w.Check(err)

	o := w.Must(3, "sidecars", "-n", ns, "--yes", "--canary", "1")

	if o.Took > 30*time.Second {
		t.Errorf("it took %s to see an image that cannot be pulled", o.Took)
	}
	for _, words := range []string{"pod web-0-", "ImagePullBackOff", "2 not started", "kubectl rollout undo deployment/web-0 -n canary", "the same command goes on from here"} {
		if !strings.Contains(o.Stderr, words) {
			t.Errorf("%q is not said:\n%s", words, o.Stderr)
		}
	}
	if got := w.Proxies(ns, "web-1"); got[newer] != 0 {
		t.Errorf("the second workload was touched: %v", got)
	}
	endpoints.Never(w.World, 2)

	// The cause is gone: the same command goes on from there.
	w.Check(recover(t.Context()))
	w.Must(0, "sidecars", "-n", ns, "--yes", "--canary", "1")
	for i := range 3 {
		w.WantProxies(ns, fmt.Sprintf("web-%d", i), map[string]int{newer: 2})
	}
	endpoints.Never(w.World, 2)
}

// A canary is a workload that has moved: where the first one is paused, the next
// takes its place, and the others follow when it has soaked.
func TestSidecarsSoak(t *testing.T) {
	w := sharedCluster(t)
	ns := "soak"
	w.InjectedNamespace(ns)
	for _, name := range []string{"a", "b", "c"} {
		w.Apply(manifest{Kind: "Deployment", Name: name, Namespace: ns, Replicas: 2}.String())
	}
	w.AwaitReady(ns, 6)
	w.RunKubectl("-n", ns, "rollout", "pause", "deployment/a")
	w.Inject(newer)

	o := w.Must(0, "sidecars", "-n", ns, "--yes", "--canary", "1", "--soak", "5s")

	w.Want(o, "deployment/a in soak: it is paused", "the canary is done; soaking for 5s")
	restarted := func(name string) time.Time {
		stamp := w.RunKubectl("-n", ns, "get", "deployment", name, "-o", `jsonpath={.spec.template.metadata.annotations.istio-upgrade/restarted}`)
		at, err := time.Parse(time.RFC3339Nano, strings.Fields(stamp + " -")[0])
		w.Check(err)
		return at
	}
	if after := restarted("c").Sub(restarted("b")); after < 5*time.Second {
		t.Errorf("c was restarted %s after the canary b", after)
	}
	w.WantProxies(ns, "a", map[string]int{older: 2})
	w.WantProxies(ns, "b", map[string]int{newer: 2})
	w.WantProxies(ns, "c", map[string]int{newer: 2})
}

// --wait=false sends what may be sent, names the rest, and watches nothing. Run
// again meanwhile, it restarts nothing twice.
func TestSidecarsWithoutWaiting(t *testing.T) {
	w := sharedCluster(t)
	ns := "nowait"
	w.InjectedNamespace(ns)
	for _, name := range []string{"a", "b"} {
		w.Apply(manifest{Kind: "Deployment", Name: name, Namespace: ns, Replicas: 2}.String())
	}
	w.AwaitReady(ns, 4)
	w.RunKubectl("-n", ns, "rollout", "pause", "deployment/a")
	w.Inject(newer)
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: ns, ProxyTag: newer})
	w.Check(err)

	run := []string{"sidecars", "-n", ns, "--yes", "--wait=false"}
	w.Want(w.Must(0, run...), "deployment/a in nowait: it is paused", "deployment/b in nowait: the change was sent")
	w.Eventually("the new pod", func() string {
		if w.Proxies(ns, "b")[newer] == 0 {
			return "it is not there"
		}
		return ""
	})
	w.Want(w.Must(0, run...), "its restart is not complete, and goes on: --wait watches it")

	w.Check(restore(t.Context()))
	w.WantProxies(ns, "b", map[string]int{newer: 2})
	w.WantProxies(ns, "a", map[string]int{older: 2})
	if revision := w.RunKubectl("-n", ns, "get", "deployment", "b", "-o", `jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}`); revision != "2" {
		t.Errorf("it was rolled out %s times, the first included", revision)
	}
}

// --on-failure continue tries all; undo puts the failed template back.
func TestSidecarsOnFailure(t *testing.T) {
	w := sharedCluster(t)
	for _, mode := range []string{"continue", "undo"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(w.Cluster, t)
			w.Inject(older)
			ns := "onfailure-" + mode
			w.InjectedNamespace(ns)
			w.Apply(
				manifest{Kind: "Deployment", Name: "bad", Namespace: ns, Replicas: 2, PodLabels: "lab/fail: crash", PodNotes: `lab/fail-tag: "` + newer + `"`}.String(),
				manifest{Kind: "Deployment", Name: "good", Namespace: ns, Replicas: 2}.String(),
			)
			w.AwaitReady(ns, 4)
			template := w.RunKubectl("-n", ns, "get", "deployment", "bad", "-o", "jsonpath={.spec.template}")
			w.Inject(newer)
			code := map[string]int{"continue": 1, "undo": 3}[mode]

			o := w.Must(code, "sidecars", "-n", ns, "--yes", "--max-parallel", "1", "--on-failure", mode)

			if !strings.Contains(o.Stderr, "CrashLoopBackOff") {
				t.Errorf("the cause is not named:\n%s", o.Stderr)
			}
			if mode == "continue" {
				w.WantProxies(ns, "good", map[string]int{newer: 2})
				return
			}
			if now := w.RunKubectl("-n", ns, "get", "deployment", "bad", "-o", "jsonpath={.spec.template}"); now != template {
				t.Errorf("the template was not put back:\nbefore %s\nafter  %s", template, now)
			}
			w.WantProxies(ns, "bad", map[string]int{older: 2})
			w.WantProxies(ns, "good", map[string]int{older: 2})
		})
	}
}

// A workload of 120 s has 121 after the first upgrade and 120 after the second,
// with one rollout each.
func TestSidecarsRestartWithGracePeriod(t *testing.T) {
	w := sharedCluster(t)
	ns := "grace"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2, PodSpec: "terminationGracePeriodSeconds: 120"}.String())
	w.AwaitReady(ns, 2)
	get := func(path string) string {
		return w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath="+path)
	}
	for i, want := range []struct{ version, grace, revision string }{{newer, "121", "2"}, {older, "120", "3"}} {
		w.Inject(want.version)
		w.Must(0, "sidecars", "-n", ns, "--yes", "--restart-with", "grace-period")
		w.WantProxies(ns, "web", map[string]int{want.version: 2})
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
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "StatefulSet", Name: "odb", Namespace: ns, Replicas: 3, Spec: "serviceName: odb, updateStrategy: {type: OnDelete}"}.String(),
		manifest{Kind: "ReplicaSet", Name: "rs", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "ReplicationController", Name: "rc", Namespace: ns, Replicas: 2}.String(),
		`apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: odb, namespace: evict}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: odb}}}`,
	)
	w.AwaitReady(ns, 7)
	w.Inject(newer)
	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)
	if item := r.Find(t, "StatefulSet", "odb"); item.How != "none" || !strings.Contains(item.Held, "--evict") {
		t.Errorf("without --evict: %+v", item)
	}
	w.WantProxies(ns, "odb", map[string]int{older: 3})
	endpoints := w.WatchEndpoints(ns, "odb", "rs", "rc")

	w.Must(0, "sidecars", "-n", ns, "--yes", "--evict")

	if n := endpoints.Least("odb"); n < 2 {
		t.Errorf("of three pods only %d were ready at one moment", n)
	}
	endpoints.Never(w.World, 1)
	for app, n := range map[string]int{"odb": 3, "rs": 2, "rc": 2} {
		w.WantProxies(ns, app, map[string]int{newer: n})
	}
}

// What its own strategy would take down is held back unless it is allowed.
func TestSidecarsOutageIsHeldBack(t *testing.T) {
	w := sharedCluster(t)
	ns := "outage"
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "recreate", Namespace: ns, Replicas: 2, Spec: "strategy: {type: Recreate}"}.String(),
		manifest{Kind: "Deployment", Name: "allatonce", Namespace: ns, Replicas: 2, Spec: "strategy: {rollingUpdate: {maxUnavailable: 100%}}"}.String(),
		manifest{Kind: "StatefulSet", Name: "one", Namespace: ns, Replicas: 1, Spec: "serviceName: one"}.String(),
		manifest{Kind: "Deployment", Name: "noprobe", Namespace: ns, Replicas: 2, NoProbe: true}.String(),
	)
	w.AwaitReady(ns, 7)
	w.Inject(newer)
	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)
	for _, want := range []struct{ kind, name, impact string }{
		{"Deployment", "recreate", "outage"},
		{"Deployment", "allatonce", "outage"},
		{"StatefulSet", "one", "outage"},
		{"Deployment", "noprobe", "at risk"},
	} {
		item := r.Find(t, want.kind, want.name)
		if item.Impact != want.impact || item.ImpactReason == "" {
			t.Errorf("%s: want impact %q with a reason, have %+v", want.name, want.impact, item)
		}
		if held := item.How == "none"; held != (want.impact == "outage") {
			t.Errorf("%s: held back %v: %+v", want.name, held, item)
		}
	}
	w.WantProxies(ns, "recreate", map[string]int{older: 2})
	w.WantProxies(ns, "noprobe", map[string]int{newer: 2})
	w.Must(0, "sidecars", "-n", ns, "--yes", "--allow-downtime")
	for app, n := range map[string]int{"recreate": 2, "allatonce": 2, "one": 1} {
		w.WantProxies(ns, app, map[string]int{newer: n})
	}
}

// Workloads that cannot be started now are named, and do not hold up the rest.
func TestSidecarsNamesWhatCannotStart(t *testing.T) {
	w := sharedCluster(t)
	ns := "standing"
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "paused", Namespace: ns, Replicas: 1}.String(),
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String(),
		manifest{Kind: "Deployment", Name: "zero", Namespace: ns, Replicas: 0}.String(),
	)
	w.AwaitReady(ns, 2)
	w.RunKubectl("-n", ns, "patch", "deployment", "paused", "-p", `{"spec":{"paused":true}}`)
	w.Inject(newer)
	o := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json")
	if !strings.Contains(o.Stderr, "deployment/paused in standing: it is paused") {
		t.Errorf("the paused workload is not named:\n%s", o.Stderr)
	}
	left := false
	for _, item := range o.JSON(t).Left {
		left = left || item.Name == "paused" && item.Held == "it is paused"
	}
	if !left {
		t.Errorf("what was passed over is not left to a person:\n%s", o.Stdout)
	}
	w.WantProxies(ns, "web", map[string]int{newer: 1})
	w.WantProxies(ns, "paused", map[string]int{older: 1})
}

// Somebody else's rollout is waited for, also where nothing else moves.
func TestSidecarsWaitsForTheRolloutOfOthers(t *testing.T) {
	w := sharedCluster(t)
	ns := "deploying"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2, PodNotes: `lab/start-ms: "3000"`}.String())
	w.AwaitReady(ns, 2)
	// It hangs until the run has begun.
	restore, err := w.FailPods(t.Context(), lab.Failing{Mode: lab.FailNeverReady, Namespace: ns, ProxyTag: older})
	w.Check(err)
	w.RunKubectl("-n", ns, "set", "image", "deployment/web", "app=example.com/app:2")
	w.WantProxies(ns, "web", map[string]int{older: 3})
	w.Inject(newer)

	run := w.begin(ns)
	w.Check(restore(t.Context()))

	if code, text := run.end(), run.errOut.String(); code != 0 || !strings.Contains(text, "in the middle of a rollout") || !strings.Contains(text, "✓ deployment/web") {
		t.Errorf("exit code %d\n%s", code, text)
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
}

// A full quota stops what needs a surge before anything is sent, and nothing
// else.
func TestSidecarsQuotaWithoutRoom(t *testing.T) {
	w := sharedCluster(t)
	ns := "quota"
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "surges", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "Deployment", Name: "fits", Namespace: ns, Replicas: 2, Spec: "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}"}.String(),
	)
	w.AwaitReady(ns, 4)
	// Only now: what is made while the quota is, its controller may miss until
	// it counts all anew, minutes later.
	w.Apply(`apiVersion: v1
kind: ResourceQuota
metadata: {name: full, namespace: quota}
spec: {hard: {pods: "4"}}`)
	w.Eventually("the quota's status", func() string {
		if used := w.RunKubectl("-n", ns, "get", "resourcequota", "full", "-o", "jsonpath={.status.used.pods}"); used != "4" {
			return "used is " + used
		}
		return ""
	})
	w.Inject(newer)
	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)
	if item := r.Find(t, "Deployment", "surges"); item.How != "none" || item.Impact != "refused" || !strings.Contains(item.Held, "maxUnavailable") {
		t.Errorf("surges: %+v", item)
	}
	w.WantProxies(ns, "surges", map[string]int{older: 2})
	w.WantProxies(ns, "fits", map[string]int{newer: 2})
}

// Wrong input gets one clear line and the right exit code.
func TestSidecarsBadInput(t *testing.T) {
	w := sharedCluster(t)
	w.MakeNamespace("plain", nil)
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
		{"canary that nobody watches", 2, "--canary and --wait=false exclude each other", []string{"--canary", "1", "--soak", "1s", "--wait=false"}},
		{"undo that nobody watches", 2, "--on-failure undo and --wait=false exclude each other", []string{"--on-failure", "undo", "--wait=false"}},
		{"output", 2, "-o is", []string{"-o", "xml"}},
		{"server that does not answer", 1, "does not answer", []string{"--server", "https://127.0.0.1:1", "-n", "plain"}},
		{"context that is not there", 1, "nowhere", []string{"--context", "nowhere"}},
	} {
		o := w.Run(append([]string{"sidecars", "--yes"}, c.args...)...)
		if o.Code != c.code || !strings.Contains(o.Stderr, c.says) {
			t.Errorf("%s: want exit code %d and %q\n%s", c.name, c.code, c.says, o)
		}
		if lines := strings.Count(o.Stderr, "\n"); c.code == 1 && lines != 1 {
			t.Errorf("%s: %d lines instead of one\n%s", c.name, lines, o)
		}
	}
	w.OtherKubeconfig = "/dev/null"
	if o := w.Run("sidecars", "--yes"); o.Code != 1 || !strings.Contains(o.Stderr, "no kubeconfig") {
		t.Errorf("without a kubeconfig: %s", o)
	}
}

// Without a terminal and without --yes nothing is asked and nothing changes.
func TestSidecarsNeedsYesWithoutATerminal(t *testing.T) {
	w := sharedCluster(t)
	ns := "noyes"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String())
	w.AwaitReady(ns, 1)
	w.Inject(newer)
	if o := w.Run("sidecars", "-n", ns); o.Code != 2 || !strings.Contains(o.Stderr, "--yes") {
		t.Errorf("want exit code 2 and --yes named: %s", o)
	}
	w.WantProxies(ns, "web", map[string]int{older: 1})
}
