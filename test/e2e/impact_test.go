package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// impactCase is a workload whose plan foretells an impact, and what must then be
// seen of its endpoints.
type impactCase struct {
	manifest
	impact, reason string
	// least is the fewest ready endpoints that the prediction allows; exactly
	// zero is foretold for an outage.
	least int
}

// impactCases has one case for each class of the plan's impact and each of its
// reasons. A DaemonSet has as many pods as the lab has nodes.
func impactCases(ns string) []impactCase {
	d := func(name string, replicas int, spec, podSpec string) manifest {
		return manifest{Kind: "Deployment", Name: name, Namespace: ns, Replicas: replicas, Spec: spec, PodSpec: podSpec}
	}
	noProbe := d("noprobe", 2, "", "")
	noProbe.NoProbe = true
	set := func(name string, replicas int, more string) manifest {
		return manifest{Kind: "StatefulSet", Name: name, Namespace: ns, Replicas: replicas, Spec: "serviceName: " + name + more}
	}
	return []impactCase{
		{d("surges", 2, "", ""), "none", "", 2},
		{d("one", 1, "", ""), "none", "", 1},
		{d("nosurge", 2, "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}", ""), "none", "", 1},
		{set("db", 3, ""), "none", "", 2},
		{manifest{Kind: "DaemonSet", Name: "agent", Namespace: ns}, "none", "", 2},
		{manifest{Kind: "ReplicaSet", Name: "bare", Namespace: ns, Replicas: 2}, "none", "", 1},

		{noProbe, "at risk", "no readiness probe", 1},
		{d("hasty", 2, "", "terminationGracePeriodSeconds: 1"), "at risk", "grace period of 1s", 1},
		{set("budget", 2, ", updateStrategy: {type: OnDelete}"), "at risk", "PodDisruptionBudget", 1},

		{d("recreate", 2, "strategy: {type: Recreate}", ""), "outage", "Recreate", 0},
		{d("allatonce", 2, "strategy: {rollingUpdate: {maxUnavailable: 100%, maxSurge: 0}}", ""), "outage", "all pods be unavailable", 0},
		{d("onenosurge", 1, "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}", ""), "outage", "its only pod stops", 0},
		{set("single", 1, ""), "outage", "its only pod stops", 0},
		{manifest{Kind: "ReplicaSet", Name: "bareone", Namespace: ns, Replicas: 1}, "outage", "its only pod is evicted", 0},
		{manifest{Kind: "DaemonSet", Name: "everywhere", Namespace: ns, Spec: "updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}"}, "outage", "all pods be unavailable", 0},
	}
}

// What the plan foretells of each workload is what happens to its endpoints,
// watched through the run: none and at risk never reach zero, an outage does.
func TestImpactIsWhatHappens(t *testing.T) {
	w := sharedCluster(t)
	ns := "impact"
	w.InjectedNamespace(ns)
	cases := impactCases(ns)
	pods := 0
	var names []string
	for _, c := range cases {
		w.Apply(c.String())
		names = append(names, c.Name)
		if pods += c.Replicas; c.Kind == "DaemonSet" {
			pods += 3
		}
	}
	w.Apply(`apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: budget, namespace: impact}
spec: {minAvailable: 2, selector: {matchLabels: {app: budget}}}`)
	w.AwaitReady(ns, pods)
	w.Eventually("the budget's status", func() string {
		if n := w.RunKubectl("-n", ns, "get", "pdb", "budget", "-o", "jsonpath={.status.currentHealthy}"); n != "2" {
			return "healthy: " + n
		}
		return ""
	})
	w.Inject(newer)
	plan := w.Must(0, "sidecars", "-n", ns, "--dry-run", "--evict", "--allow-downtime", "-o", "json").JSON(t)
	for _, c := range cases {
		if item := plan.Find(t, c.Kind, c.Name); item.Impact != c.impact || !strings.Contains(item.ImpactReason, c.reason) {
			t.Errorf("%s: foretold %q (%s), want %q (%s)", c.Name, item.Impact, item.ImpactReason, c.impact, c.reason)
		}
	}
	w.podsTake(noticed)
	endpoints := w.WatchEndpoints(ns, names...)
	// The budget gets room while the run waits for it, as an operator would give.
	room := make(chan error, 1)
	go func() {
		_, err := w.Kubectl(t.Context(), nil, "-n", ns, "patch", "pdb", "budget", "--type=merge", "-p", `{"spec":{"minAvailable":1}}`)
		room <- err
	}()

	w.Must(0, "sidecars", "-n", ns, "--yes", "--evict", "--allow-downtime", "--max-parallel", "20")

	w.Check(<-room)
	for _, c := range cases {
		switch least := endpoints.Least(c.Name); {
		case c.impact == "outage" && least != 0:
			t.Errorf("%s: an outage was foretold, and it never had fewer than %d ready endpoints", c.Name, least)
		case least < c.least:
			t.Errorf("%s: %q was foretold, and it had only %d ready endpoints at one moment, want %d", c.Name, c.impact, least, c.least)
		}
		if got := w.Proxies(ns, c.Name); got[older] != 0 {
			t.Errorf("%s did not move: %v", c.Name, got)
		}
	}
}

// What admission would refuse is foretold, each with its reason, and not one
// pod of it is touched; without the cause the same workload moves.
func TestImpactRefused(t *testing.T) {
	w := sharedCluster(t)
	for _, c := range []struct {
		name, reason string
		// cause makes the new pods refused, cure takes that away.
		cause, cure func(w *world, ns string)
	}{
		{"security", "violates PodSecurity", func(w *world, ns string) {
			w.RunKubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted")
		}, func(w *world, ns string) {
			w.RunKubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce-")
		}},
		{"limit", "maximum cpu usage", func(w *world, ns string) {
			w.Apply(fmt.Sprintf(`apiVersion: v1
kind: LimitRange
metadata: {name: small, namespace: %s}
spec: {limits: [{type: Container, max: {cpu: 10m}}]}`, ns))
		}, func(w *world, ns string) { w.RunKubectl("-n", ns, "delete", "limitrange", "small") }},
		{"quota", "no room for a surge", func(w *world, ns string) {
			w.Apply(fmt.Sprintf(`apiVersion: v1
kind: ResourceQuota
metadata: {name: full, namespace: %s}
spec: {hard: {pods: "2"}}`, ns))
			w.Eventually("the quota's status", func() string {
				if used := w.RunKubectl("-n", ns, "get", "resourcequota", "full", "-o", "jsonpath={.status.used.pods}"); used != "2" {
					return "used is " + used
				}
				return ""
			})
		}, func(w *world, ns string) { w.RunKubectl("-n", ns, "delete", "resourcequota", "full") }},
		{"policy", "no sidecars today", func(w *world, ns string) {
			w.Apply(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: impact-policy}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: "false", message: no sidecars today}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: impact-policy}
spec:
  policyName: impact-policy
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}}`, ns))
			w.Eventually("the policy", func() string {
				_, err := w.Kubectl(t.Context(), nil, "-n", ns, "run", "x", "--image=x", "--dry-run=server")
				if err == nil {
					return "it does not hold yet"
				}
				return ""
			})
		}, func(w *world, _ string) {
			w.RunKubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "impact-policy")
			w.Eventually("the policy's end", func() string {
				if _, err := w.Kubectl(t.Context(), nil, "-n", "impact-policy", "run", "x", "--image=x", "--dry-run=server"); err != nil {
					return "it holds still"
				}
				return ""
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(w.Cluster, t)
			w.Inject(older)
			ns := "impact-" + c.name
			w.InjectedNamespace(ns)
			w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String())
			w.AwaitReady(ns, 2)
			w.Inject(newer)
			c.cause(w, ns)
			endpoints := w.WatchEndpoints(ns, "web")
			before := w.Writes()
			r := w.Must(0, "sidecars", "-n", ns, "--yes", "--allow-downtime", "-o", "json").JSON(t)
			if item := r.Find(t, "Deployment", "web"); item.Impact != "refused" || item.How != "none" || !strings.Contains(item.Held, c.reason) {
				t.Errorf("%+v", item)
			}
			if after := w.Writes(); len(after) != len(before) {
				t.Errorf("it wrote: %v", after[len(before):])
			}
			c.cure(w, ns)
			w.Must(0, "sidecars", "-n", ns, "--yes")
			w.WantProxies(ns, "web", map[string]int{newer: 2})
			endpoints.Never(w.World, 2)
		})
	}
}

// A quota's room counts what defaults and the sidecar add: the surge that would
// not fit whole is foretold, goes through one pod at a time, and nothing dips.
func TestImpactQuotaRoomOfDefaults(t *testing.T) {
	w := sharedCluster(t)
	ns := "impact-room"
	w.InjectedNamespace(ns)
	w.Apply(`apiVersion: v1
kind: LimitRange
metadata: {name: defaults, namespace: impact-room}
spec: {limits: [{type: Container, defaultRequest: {cpu: 500m}}]}`,
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 4, Spec: "strategy: {rollingUpdate: {maxSurge: 2, maxUnavailable: 0}}"}.String())
	w.AwaitReady(ns, 4)
	used := w.RunKubectl("-n", ns, "get", "pods", "-o", `jsonpath={.items[0].spec.containers[*].resources.requests.cpu}`)
	// The application asks for 500m by default alone, the sidecar for 100m.
	if !strings.Contains(used, "500m") || !strings.Contains(used, "100m") {
		t.Fatalf("requests of the lab's pods: %s", used)
	}
	w.Apply(`apiVersion: v1
kind: ResourceQuota
metadata: {name: cpu, namespace: impact-room}
spec: {hard: {requests.cpu: 3100m}}`)
	w.Eventually("the quota's status", func() string {
		if used := w.RunKubectl("-n", ns, "get", "resourcequota", "cpu", "-o", `jsonpath={.status.used.requests\.cpu}`); used != "2400m" {
			return "used is " + used
		}
		return ""
	})
	w.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web")
	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)
	if item := r.Find(t, "Deployment", "web"); item.Impact != "at risk" || !strings.Contains(item.ImpactReason, "room for 1 of 2 surge pods") {
		t.Errorf("%+v", item)
	}
	w.WantProxies(ns, "web", map[string]int{newer: 4})
	endpoints.Never(w.World, 4)
}
