package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// documentedRoles reads the ClusterRoles from the blocks of YAML in docs/rbac.md.
func documentedRoles(t *testing.T) (roles map[string]rbacv1.ClusterRole, text string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "rbac.md"))
	if err != nil {
		t.Fatal(err)
	}
	roles = map[string]rbacv1.ClusterRole{}
	for _, block := range strings.Split(string(raw), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for part := range strings.SplitSeq(block, "---\n") {
			var role rbacv1.ClusterRole
			if err := yaml.UnmarshalStrict([]byte(part), &role); err != nil || role.Name == "" {
				t.Fatalf("no role (%v):\n%s", err, part)
			}
			roles[role.Name] = role
			text += "---\n" + part
		}
	}
	return roles, text
}

// right is one thing that a rule allows.
type right struct{ role, group, resource, verb string }

// fallsBack says whether a request that is refused is one that is tried for the
// whole cluster first, and then in Istio's namespace alone.
func fallsBack(e lab.AuditEvent) bool {
	return e.Verb == "list" && e.Object.Resource == "secrets" && e.Object.Namespace == ""
}

// invisible are rights that leave no request of their own in the audit log, or
// that a fresh cluster gives no occasion for: the API server asks for escalate
// and bind itself when a role is written, Helm deletes its oldest record after
// ten revisions, events and endpoints are listed only where the API server cannot
// stream a list (before 1.34), and a lease is updated only when a run takes longer than a few
// seconds, and read only where it is another's.
func (r right) invisible() bool {
	return slices.Contains([]string{"escalate", "bind"}, r.verb) ||
		r.resource == "secrets" && r.verb == "delete" ||
		(r.resource == "events" || r.resource == "endpointslices") && r.verb == "list" ||
		r.resource == "leases" && slices.Contains([]string{"get", "update"}, r.verb)
}

// guest is a user with documented roles, each bound in the cluster ("") or in
// one namespace.
type guest struct {
	name  string
	roles map[string]string
}

// invite gives the user its roles.
func (w *world) invite(g guest) {
	w.T.Helper()
	kubeconfig, err := w.KubeconfigAs(g.name)
	w.Check(err)
	for role, namespace := range g.roles {
		if namespace == "" {
			w.RunKubectl("create", "clusterrolebinding", g.name+"-"+role, "--clusterrole="+role, "--user="+g.name)
		} else {
			w.RunKubectl("-n", namespace, "create", "rolebinding", g.name+"-"+role, "--clusterrole="+role, "--user="+g.name)
		}
	}
	w.OtherKubeconfig = kubeconfig
}

// Every command works with just the rights that docs/rbac.md lists, and uses
// all of them.
func TestRightsInTheDocs(t *testing.T) {
	w := ownCluster(t, lab.Options{})
	roles, text := documentedRoles(t)
	w.Apply(text)
	const ns = "team"
	w.InjectedNamespace(ns)
	w.MakeNamespace("by-hand", nil)
	w.Apply(
		customResources2(ns),
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "DaemonSet", Name: "agent", Namespace: ns}.String(),
		manifest{Kind: "StatefulSet", Name: "queue", Namespace: ns, Replicas: 2, Spec: "updateStrategy: {type: OnDelete}"}.String(),
		manifest{Kind: "Job", Name: "batch", Namespace: ns, PodNotes: `lab/keep-running: "true"`}.String(),
		manifest{Kind: "ReplicaSet", Name: "bare", Namespace: ns, Replicas: 1}.String(),
		w.kubeInject(manifest{Kind: "Deployment", Name: "manual", Namespace: "by-hand", Replicas: 2}.String()),
	)
	w.AwaitReady(ns, 2+2+3+2+1+1)
	w.AwaitReady("by-hand", 2)

	charts := []string{"--tag", newer, "--charts", clustertest.Parts.PackagedCharts()}
	const istio = lab.IstioNamespace
	look := map[string]string{"istio-upgrade-look": "", "istio-upgrade-look-releases": istio}
	plan := map[string]string{"istio-upgrade-plan": "", "istio-upgrade-plan-release": istio}
	crds := map[string]string{"istio-upgrade-crds": "", "istio-upgrade-crds-release": istio}
	plane := map[string]string{"istio-upgrade-control-plane": "", "istio-upgrade-control-plane-release": istio}
	mesh := map[string]string{"istio-upgrade-sidecars-mesh": "", "istio-upgrade-injection": istio}
	team := map[string]string{"istio-upgrade-sidecars": ns}
	byHand := map[string]string{"istio-upgrade-sidecars": "by-hand"}
	everywhere := map[string]string{"istio-upgrade-sidecars": ""}
	used, missing := map[right]bool{}, map[string]bool{}
	for _, act := range []struct {
		guest    string
		roles    []map[string]string
		commands [][]string
	}{
		{"looker", []map[string]string{look}, [][]string{{"status", "-A"}, {"check", "-A"}}},
		{"planner", []map[string]string{look, plan}, [][]string{append([]string{"check", "-A"}, charts...)}},
		{"definer", []map[string]string{crds}, [][]string{append([]string{"crds", "--yes"}, charts...)}},
		{"upgrader", []map[string]string{plane}, [][]string{append([]string{"control-plane", "--yes"}, charts...)}},
		{"team", []map[string]string{mesh, team, {"istio-upgrade-report": ns}}, [][]string{
			{"sidecars", "-n", ns, "--yes", "--evict", "--report", filepath.Join(t.TempDir(), "report.html")},
		}},
		{"manual", []map[string]string{mesh, byHand}, [][]string{{"sidecars", "-n", "by-hand", "--yes", istioctl()}}},
		{"undoer", []map[string]string{plane, mesh, everywhere}, [][]string{{"rollback", "--yes", "--proxies-first", "--force"}}},
		{"all", []map[string]string{crds, plane, mesh, everywhere}, [][]string{append([]string{"all", "-A", "--yes", istioctl()}, charts...)}},
	} {
		g := guest{name: act.guest, roles: map[string]string{}}
		for _, more := range act.roles {
			maps.Copy(g.roles, more)
		}
		w.invite(g)
		before, err := w.AuditEvents(t.Context(), "kubectl-istio-upgrade/")
		w.Check(err)
		for _, command := range act.commands {
			if o := w.Run(command...); o.Code != 0 {
				t.Errorf("%s with %v: %s", strings.Join(command, " "), g.roles, o)
			}
		}
		after, err := w.AuditEvents(t.Context(), "kubectl-istio-upgrade/")
		w.Check(err)
		for _, e := range after[len(before):] {
			if e.Response.Code == 403 && !fallsBack(e) {
				missing[fmt.Sprintf("%s: %s %s (namespace %q)", act.guest, e.Verb, resourceOf(e), e.Object.Namespace)] = true
			}
			for role, where := range g.roles {
				if where == "" || where == e.Object.Namespace {
					markUsed(used, roles[role], e)
				}
			}
		}
	}
	for _, line := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("a rule is missing for %s", line)
	}
	for _, line := range unneeded(roles, used) {
		t.Errorf("nothing uses %s", line)
	}
}

// A user with the role in one namespace and nothing else can work there.
func TestUserOfOneNamespace(t *testing.T) {
	w := sharedCluster(t)
	_, text := documentedRoles(t)
	w.Apply(text)
	const ns = "alone"
	w.InjectedNamespace(ns)
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String())
	w.AwaitReady(ns, 2)
	w.Inject(newer)
	w.invite(guest{name: "alone", roles: map[string]string{"istio-upgrade-sidecars": ns}})

	o := w.Must(0, "sidecars", "-n", ns, "--yes")
	w.Must(1, "sidecars", "-n", "default", "--yes")

	w.WantProxies(ns, "", map[string]int{newer: 2})
	if strings.Contains(o.Stderr, "second run") {
		t.Errorf("it has the right to lock\n%s", o)
	}

	// What may not be read is not taken for missing.
	w.invite(guest{name: "looks", roles: map[string]string{"view": ns}})
	o = w.Must(0, "status", "-n", ns)
	if strings.Contains(o.Stdout, "loses") || strings.Contains(o.Stdout, "not installed") || !strings.Contains(o.Stdout+o.Stderr, "webhook configurations") {
		t.Errorf("status: %s", o)
	}
	if o = w.Must(0, "check", "-n", ns); strings.Contains(o.Stdout, "was found") || !strings.Contains(o.Stdout, "  0 ×") {
		t.Errorf("check: %s", o)
	}
}

func customResources2(namespace string) string {
	return strings.ReplaceAll(customResources, "namespace: many", "namespace: "+namespace)
}

// resourceOf gives a request's resource as rules write it.
func resourceOf(e lab.AuditEvent) string {
	resource := e.Object.Resource
	if e.Object.Subresource != "" {
		resource += "/" + e.Object.Subresource
	}
	return resource + "." + e.Object.APIGroup
}

// markUsed notes the rights of a role that allowed the request.
func markUsed(used map[right]bool, role rbacv1.ClusterRole, e lab.AuditEvent) {
	resource, _, _ := strings.Cut(resourceOf(e), ".")
	for _, rule := range role.Rules {
		for _, listed := range rule.Resources {
			if slices.Contains(rule.APIGroups, e.Object.APIGroup) && slices.Contains(rule.Verbs, e.Verb) && (listed == resource || listed == "*") {
				used[right{role.Name, e.Object.APIGroup, listed, e.Verb}] = true
			}
		}
	}
}

// unneeded gives the documented rights that no request used.
func unneeded(roles map[string]rbacv1.ClusterRole, used map[right]bool) []string {
	var lines []string
	for name, role := range roles {
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						r := right{name, group, resource, verb}
						if !used[r] && !r.invisible() {
							lines = append(lines, fmt.Sprintf("%s on %s.%s of %s", verb, resource, group, name))
						}
					}
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}
