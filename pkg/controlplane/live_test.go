package controlplane

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

func parse(t *testing.T, manifest string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := helm.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestLiveRefusals(t *testing.T) {
	t.Parallel()
	head := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod, namespace: istio-system}\n"
	hpa := "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: istiod}\nspec: {scaleTargetRef: {name: istiod}}\n"
	selector := "spec: {replicas: 2, selector: {matchLabels: {istio: pilot}}}\n"
	added := []ObjectChange{{Kind: "Deployment", Namespace: "istio-system", Name: "istiod", Change: "added"}}
	owned := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod, namespace: istio-system, annotations: {meta.helm.sh/release-name: NAME, meta.helm.sh/release-namespace: istio-system}}\n" + selector
	for name, c := range map[string]struct {
		rendered, live string
		objects        []ObjectChange
		want           string
		forceable      bool
	}{
		"the same":           {head + selector, head + selector, nil, "", false},
		"not there":          {head + selector, "", nil, "", false},
		"another selector":   {head + selector, head + "spec: {replicas: 2, selector: {matchLabels: {app: istiod}}}", nil, "kubectl delete deployment istiod -n istio-system --cascade=orphan", false},
		"fewer replicas":     {head + selector, head + "spec: {replicas: 4, selector: {matchLabels: {istio: pilot}}}", nil, "give --set pilot.replicaCount=4", true},
		"more replicas":      {head + selector, head + "spec: {replicas: 1, selector: {matchLabels: {istio: pilot}}}", nil, "", false},
		"an autoscaler's":    {head + selector + hpa, head + "spec: {replicas: 4, selector: {matchLabels: {istio: pilot}}}", nil, "", false},
		"added, and foreign": {head + selector, head + selector, added, "belongs to nobody", false},
		"added, and ours":    {head + selector, strings.ReplaceAll(owned, "NAME", "istiod"), added, "", false},
		"added, and another release's": {
			head + selector, strings.ReplaceAll(owned, "NAME", "mesh"), added, "belongs to Helm release mesh in istio-system", false,
		},
		"another role": {
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {name: new}\n",
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\nroleRef: {name: old}\n",
			nil, "roleRef.name differs", false,
		},
	} {
		r := ReleasePlan{
			Name: "istiod", Namespace: "istio-system", Component: helm.Istiod, ChartTo: "istiod-1.31.0", Objects: c.objects,
			rendered: &helm.Rendered{Objects: parse(t, c.rendered)},
		}
		there := live{}
		for _, o := range parse(t, c.live) {
			there[keyOf(o, "istio-system")] = o
		}
		got, err := liveRefusals(r, there)
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, name, got, c.want, c.forceable)
	}
}

// The way back keeps the replicas that there are, since no values can be given on
// it, and says so.
func TestRollbackKeepsReplicas(t *testing.T) {
	t.Parallel()
	head := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod, namespace: istio-system}\n"
	of := func(replicas string) *unstructured.Unstructured {
		return parse(t, head+"spec: {replicas: "+replicas+"}\n")[0]
	}
	for _, c := range []struct {
		now, former string
		want        int64
		says        string
	}{
		{"4", "1", 4, "keeps its 4 replicas; revision 3 of istiod had 1"},
		{"1", "2", 2, ""},
		{"2", "2", 2, ""},
	} {
		there, former := of(c.now), of(c.former)
		r := ReleasePlan{Name: "istiod", Namespace: "istio-system", Action: Rollback, ToRevision: 3, rendered: &helm.Rendered{Objects: []*unstructured.Unstructured{former}}}
		all := live{keyOf(there, "istio-system"): there}
		if refusals, err := liveRefusals(r, all); err != nil || len(refusals) > 0 {
			t.Errorf("%s to %s: %v, %v", c.now, c.former, refusals, err)
		}
		warnings, err := keptReplicas(r, all)
		if err != nil || (c.says == "") != (len(warnings) == 0) || !strings.Contains(strings.Join(warnings, ""), c.says) {
			t.Errorf("%s to %s: %v, %v", c.now, c.former, warnings, err)
		}
		if err := keepReplicas(there, former); err != nil {
			t.Fatal(err)
		}
		if got := integer(former, "spec", "replicas"); got != c.want {
			t.Errorf("%s to %s: %d are written, want %d", c.now, c.former, got, c.want)
		}
	}
}

// A gateway has values of its own only where it is named.
func TestReplicasCure(t *testing.T) {
	t.Parallel()
	if got := replicasCure(helm.Gateway, 3); !strings.Contains(got, "--component gateway --set replicaCount=3") {
		t.Error(got)
	}
}
