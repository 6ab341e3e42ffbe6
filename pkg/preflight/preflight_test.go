package preflight

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// healthy is a mesh that nothing is wrong with.
func healthy() *mesh.Mesh {
	injector := mesh.Injector{Revision: "default"}
	injector.Configuration, injector.FailurePolicy = "istio-sidecar-injector", "Fail"
	injector.NamespaceSelector = labels.SelectorFromSet(labels.Set{"istio-injection": "enabled"})
	injector.ObjectSelector = labels.Everything()
	m := &mesh.Mesh{
		ControlPlanes: []mesh.ControlPlane{{
			Revision: "default", Namespace: "istio-system", Deployment: "istiod", Tag: "1.30.2", Replicas: 2, Ready: 2, HPAMin: 2,
			Owners: mesh.Owners{Helm: &mesh.Ref{Namespace: "istio-system", Name: "istiod"}},
		}},
		CRDs: []mesh.CRD{{Name: "gateways.networking.istio.io", Established: true, Owners: mesh.Owners{Helm: &mesh.Ref{Namespace: "istio-system", Name: "istio-base"}}}},
	}
	m.Injectors = []mesh.Injector{injector}
	return m
}

func TestNothingIsWrong(t *testing.T) {
	checks := Judge(Facts{
		Mesh: healthy(), Steps: []Step{{Name: "crds"}}, Sidecars: &sidecars.Plan{}, Kubernetes: "v1.36.1+k3s1",
		Denied: map[string][]cluster.Permission{"sidecars": nil}, Istioctl: &Istioctl{Version: "1.30.0"},
		Releases: []helm.Release{{Name: "istiod", Namespace: "istio-system", Status: "deployed"}},
		Images:   []Image{{Name: "docker.io/istio/pilot:1.31.0", State: helm.ImageThere}},
		Servers:  []Server{{Namespace: "ingress", Name: "gateway", Role: Routing, Replicas: 2, Ready: 2, HPAMin: 2}},
	})
	seen := map[string]bool{}
	for _, c := range checks {
		seen[c.Category] = true
		if c.Level != OK || c.Cause != "" || c.Cure != "" {
			t.Errorf("%+v", c)
		}
	}
	for _, category := range []string{"rights", "versions", "control plane", "gateways", "releases", "CRDs", "crds", "images", "injector", "workloads"} {
		if !seen[category] {
			t.Errorf("nothing is said of %s", category)
		}
	}
	if Failed(checks) {
		t.Error("nothing failed")
	}
}

// TestJudgeFindings spoils one fact at a time; the one finding that is not OK
// names what was spoilt and says what to do.
func TestJudgeFindings(t *testing.T) {
	item := func(name string, v sidecars.Verdict, i sidecars.Impact) sidecars.Item {
		return sidecars.Item{Ref: workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: name}, Verdict: v, Impact: i}
	}
	plan := func(items ...sidecars.Item) func(*Facts) {
		return func(f *Facts) { f.Sidecars = &sidecars.Plan{Items: items} }
	}
	server := func(s Server) func(*Facts) { return func(f *Facts) { f.Servers = []Server{s} } }
	release := func(status string) func(*Facts) {
		return func(f *Facts) { f.Releases = []helm.Release{{Name: "istiod", Revision: 3, Status: status}} }
	}
	// byHand is an istioctl, and one workload that was injected with it and lags or not.
	byHand := func(lags bool, i Istioctl) func(*Facts) {
		return func(f *Facts) {
			web := item("web", sidecars.ByHand, "")
			web.Lags = lags
			f.Sidecars, f.Istioctl = &sidecars.Plan{Items: []sidecars.Item{web}}, &i
		}
	}
	proxies := func(version string) func(*Facts) {
		web := item("web", sidecars.Fresh, "")
		web.Revision, web.Proxies = "default", []sidecars.ProxyCount{{ProxyForm: sidecars.ProxyForm{Version: version}}}
		return plan(web)
	}
	for _, tc := range []struct {
		name  string
		spoil func(*Facts)
		level Level
		words string // in cause
	}{
		{"no Istio", func(f *Facts) { f.Mesh = &mesh.Mesh{CRDs: f.Mesh.CRDs} }, Failure, "neither a control plane nor an injector"},
		{"nothing may be read", func(f *Facts) {
			f.Mesh = &mesh.Mesh{CRDs: f.Mesh.CRDs, Unreadable: []string{"deployments in istio-system", mesh.WebhookConfigurations}}
		}, Warning, "you may not read: deployments in istio-system, webhook configurations"},
		{"an injector that nobody asked", func(f *Facts) {
			f.Sidecars = &sidecars.Plan{Unanswered: map[string]string{"default": "it refuses dry runs"}}
		}, Warning, "it was not asked: it refuses dry runs"},
		{"istiod is not ready", func(f *Facts) { f.Mesh.ControlPlanes[0].Ready = 1 }, Failure, "1 of 2 replicas are ready"},
		{"one replica", func(f *Facts) { f.Mesh.ControlPlanes[0].Replicas, f.Mesh.ControlPlanes[0].Ready = 1, 1 }, Warning, "no pod can be injected"},
		{"an autoscaler that goes to one", func(f *Facts) { f.Mesh.ControlPlanes[0].HPAMin = 1 }, Warning, "go down to one replica"},
		{"two installers", func(f *Facts) {
			f.Mesh.ControlPlanes[0].Owners.Istioctl = true
		}, Warning, "istioctl and of the Helm release istiod"},
		{"a CRD that is not established", func(f *Facts) { f.Mesh.CRDs[0].Established = false }, Failure, "gateways.networking.istio.io is not established"},
		{"CRDs that may not be read", func(f *Facts) { f.Mesh.Unreadable = []string{"customresourcedefinitions"} }, Warning, "may not list"},
		{"a step refuses", func(f *Facts) {
			f.Steps = []Step{{Name: "crds", Refusals: []gate.Refusal{{Reason: "it removes a CRD", Cure: "keep it"}}}}
		}, Failure, "it removes a CRD"},
		{"a step cannot be planned", func(f *Facts) { f.Steps = []Step{{Name: "crds", Err: errors.New("no such chart")}} }, Failure, "no such chart"},
		{"the injector is down", func(f *Facts) {
			f.Sidecars = &sidecars.Plan{Refusals: []gate.Refusal{{Object: "the injector of revision default", Reason: "it does not answer"}}}
		}, Failure, "it does not answer"},
		{"no caBundle", func(f *Facts) { f.Mesh.Injectors[0].CABundleEmpty = true }, Failure, "has no caBundle"},
		{"the injector guards istiod itself", func(f *Facts) { f.Mesh.Injectors[0].NamespaceSelector = labels.Everything() }, Warning, "istiod's own pods"},
		{"a right is missing", func(f *Facts) {
			f.Denied = map[string][]cluster.Permission{"crds": {{Verb: "patch", Group: "apps", Resource: "deployments"}, {Verb: "list", Resource: "pods"}}}
		}, Warning, "you may not patch deployments.apps; not list pods"},
		{"no istioctl", byHand(true, Istioctl{Err: errors.New("istioctl is not on PATH")}), Failure, "istioctl is not on PATH"},
		{"no istioctl, and nothing to inject", byHand(false, Istioctl{Err: errors.New("istioctl is not on PATH")}), Warning, "istioctl is not on PATH"},
		{"an istioctl of another minor version", byHand(true, Istioctl{Version: "1.29.1"}), Failure, "it is 1.29.1, and 1.30.2 is to be injected"},
		{"an istioctl of another minor version, and nothing to inject", byHand(false, Istioctl{Version: "1.29.1"}), Warning, "it is 1.29.1, and 1.30.2 is to be injected"},
		{"an istioctl of today's version, not of the target's", func(f *Facts) {
			byHand(true, Istioctl{Version: "1.30.2"})(f)
			f.Tag = "1.31.0"
		}, Failure, "it is 1.30.2, and 1.31.0"},
		{"an istioctl that does not say its version", byHand(true, Istioctl{Version: "unknown"}), Warning, "is not known"},
		{"a step needs rights", func(f *Facts) {
			f.Steps = []Step{{Name: "crds", Refusals: []gate.Refusal{{Object: cluster.YourRights, Reason: "you lack patch", Cure: "ask"}}}}
		}, Warning, "you lack patch"},
		{"something may not be read", func(f *Facts) { f.Unread = []string{"deployments in istio-system"} }, Warning, "deployments in istio-system"},
		{"Kubernetes is too old for the target", func(f *Facts) { f.Kubernetes, f.Tag = "v1.31.2", "1.31.0" }, Warning, "Kubernetes 1.32 to 1.36"},
		{"Kubernetes is too new for what runs", func(f *Facts) { f.Kubernetes = "v1.37.0" }, Warning, "Kubernetes 1.32 to 1.36"},
		{"a proxy leads its control plane", proxies("1.31.0"), Warning, "deployment/web in shop"},
		{"a proxy trails by two minor versions", proxies("1.28.0"), Warning, "deployment/web in shop"},
		{"the control plane is Flux's", func(f *Facts) { f.Mesh.ControlPlanes[0].Owners.Flux = "HelmRelease istiod in flux-system" }, Warning, "HelmRelease istiod in flux-system"},
		{"nobody installed the control plane", func(f *Facts) { f.Mesh.ControlPlanes[0].Owners = mesh.Owners{} }, Warning, "marks of none"},
		{"a gateway with one replica", server(Server{Namespace: "ingress", Name: "gateway", Role: Routing, Replicas: 1, Ready: 1}), Warning, "no traffic comes in"},
		{"Policy with one replica", server(Server{Namespace: "istio-system", Name: "istio-policy", Role: Checking, Replicas: 1, Ready: 1}), Warning, "calls that ask it fail"},
		{"a gateway that may be scaled to one", server(Server{Namespace: "ingress", Name: "gateway", Role: Routing, Replicas: 3, Ready: 3, HPAMin: 1}), Warning, "go down to one replica"},
		{"a gateway that is off", server(Server{Namespace: "ingress", Name: "gateway", Role: Routing}), Warning, "scaled to zero"},
		{"a budget without room", server(Server{Namespace: "ingress", Name: "gateway", Role: Routing, Replicas: 2, Ready: 2, Budget: "two"}), Warning, "poddisruptionbudget/two"},
		{"a release is pending", release("pending-upgrade"), Failure, "did not end: pending-upgrade"},
		{"a release has failed", release("failed"), Warning, "its revision 3 failed"},
		{"a release of Helm 2", func(f *Facts) { f.Releases = []helm.Release{{Name: "istio", Helm2: true}} }, Warning, "Helm 2"},
		{"an image that is not there", func(f *Facts) { f.Images = []Image{{Name: "hub/pilot:1.31.99", State: helm.ImageAbsent}} }, Failure, "has no such image"},
		{"a registry that does not answer", func(f *Facts) {
			f.Images = []Image{{Name: "hub/pilot:1.31.0", State: helm.ImageUnknown, Err: errors.New("connection refused")}}
		}, Warning, "connection refused"},
		{"a definition that two installers claim", func(f *Facts) { f.Mesh.CRDs[0].Owners.Istioctl = true }, Warning, "gateways.networking.istio.io"},
		{"definitions of several owners", func(f *Facts) {
			f.Mesh.CRDs = append(f.Mesh.CRDs, mesh.CRD{Name: "sidecars.networking.istio.io", Established: true})
		}, Warning, "1 of Helm release istio-base in istio-system, 1 of nobody"},
		{"one of them a leftover that nothing brings", func(f *Facts) {
			f.Mesh.CRDs[0].Owners = mesh.Owners{Helm: &mesh.Ref{Name: "a"}}
			f.Mesh.CRDs = append(f.Mesh.CRDs, mesh.CRD{Name: "istiooperators.install.istio.io", Established: true}, mesh.CRD{Name: "sidecars.networking.istio.io", Established: true})
		}, Warning, "1 of Helm release a, 1 of nobody"},
		{"loses its sidecar", plan(item("web", sidecars.Loses, "")), Failure, "deployment/web in shop"},
		{"frozen", plan(item("web", sidecars.Frozen, "")), Warning, "deployment/web in shop"},
		{"missing", plan(item("web", sidecars.Missing, sidecars.NoImpact)), Warning, "deployment/web in shop"},
		{"pinned", plan(item("web", sidecars.Pinned, "")), Warning, "deployment/web in shop"},
		{"refused", plan(item("web", sidecars.Stale, sidecars.Refused)), Warning, "deployment/web in shop"},
		{"outage", plan(item("web", sidecars.Stale, sidecars.Outage)), Warning, "deployment/web in shop"},
		{"at risk", plan(item("web", sidecars.Stale, sidecars.AtRisk)), Warning, "deployment/web in shop"},
		{"many are named in part", plan(
			item("a", sidecars.Loses, ""), item("b", sidecars.Loses, ""), item("c", sidecars.Loses, ""),
			item("d", sidecars.Loses, ""), item("e", sidecars.Loses, ""), item("f", sidecars.Loses, ""), item("g", sidecars.Loses, ""),
		), Failure, "deployment/e in shop and 2 more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := Facts{Mesh: healthy()}
			tc.spoil(&f)
			checks := Judge(f)
			var bad []Check
			for _, c := range checks {
				if c.Level != OK {
					bad = append(bad, c)
				}
			}
			if len(bad) != 1 {
				t.Fatalf("want one finding, got %+v", bad)
			}
			if bad[0].Level != tc.level || !strings.Contains(bad[0].Cause, tc.words) || bad[0].Cure == "" {
				t.Errorf("got %+v, want %s: %s, and a cure", bad[0], tc.level, tc.words)
			}
			if Failed(checks) != (tc.level == Failure) {
				t.Errorf("failed: %v", Failed(checks))
			}
		})
	}
}

func TestARemoteClusterIsFine(t *testing.T) {
	m := healthy()
	m.ControlPlanes = nil
	if checks := Judge(Facts{Mesh: m}); Failed(checks) {
		t.Errorf("got %+v", checks)
	}
}

func TestWarningsOfAStepDoNotFail(t *testing.T) {
	got := steps([]Step{{Name: "crds", Warnings: []string{"2 definitions are the cluster's alone"}}})
	want := []Check{
		{Category: "crds", Name: "nothing refuses it", Level: OK},
		{Category: "crds", Name: "warning", Level: Warning, Cause: "2 definitions are the cluster's alone"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("checks (-want +got):\n%s", d)
	}
}
