package controlplane

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

func object(kind, name string, spec map[string]any, record string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"kind": kind, "spec": spec}}
	o.SetNamespace("istio-system")
	o.SetName(name)
	if record != "" {
		o.SetAnnotations(map[string]string{replicasBefore: record})
	}
	return o
}

// scalerOf makes an autoscaler of istiod, or of another Deployment.
func scalerOf(target string, low, high int64, record string) *unstructured.Unstructured {
	return object(autoscaler, "hpa", map[string]any{
		"minReplicas": low, "maxReplicas": high,
		"scaleTargetRef": map[string]any{"kind": "Deployment", "name": target},
	}, record)
}

func TestRaisesOf(t *testing.T) {
	t.Parallel()
	ref := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "istio-system", Name: "istiod"}
	deployment := func(replicas int64, record string) *unstructured.Unstructured {
		return object(workload.Deployment, "istiod", map[string]any{"replicas": replicas}, record)
	}
	ofDeployment := func(from int64, left bool) Raise {
		return Raise{Kind: workload.Deployment, Namespace: "istio-system", Name: "istiod", From: from, To: 2, Left: left}
	}
	ofScaler := func(from int64, left bool) Raise {
		return Raise{Kind: autoscaler, Namespace: "istio-system", Name: "hpa", From: from, To: 2, Left: left}
	}
	for _, c := range []struct {
		name       string
		deployment *unstructured.Unstructured
		scalers    []*unstructured.Unstructured
		raise      bool
		want       []Raise
	}{
		{"one replica", deployment(1, ""), nil, true, []Raise{ofDeployment(1, false)}},
		{"not asked for", deployment(1, ""), nil, false, nil},
		{"two replicas", deployment(2, ""), nil, true, nil},
		{"scaled to zero stays so", deployment(0, ""), nil, true, nil},
		{"an autoscaler's minimum", deployment(1, ""), []*unstructured.Unstructured{scalerOf("istiod", 1, 5, "")}, true, []Raise{ofScaler(1, false)}},
		{"an autoscaler that allows one", deployment(1, ""), []*unstructured.Unstructured{scalerOf("istiod", 1, 1, "")}, true, nil},
		{"another's autoscaler", deployment(1, ""), []*unstructured.Unstructured{scalerOf("web", 1, 5, "")}, true, []Raise{ofDeployment(1, false)}},
		{"left by a killed run", deployment(2, ""), []*unstructured.Unstructured{scalerOf("istiod", 2, 5, "1")}, false, []Raise{ofScaler(1, true)}},
		{"left, then given an autoscaler", deployment(2, "1"), []*unstructured.Unstructured{scalerOf("istiod", 2, 5, "")}, false, []Raise{ofDeployment(1, true)}},
		{"a record that is none", deployment(2, "many"), nil, false, nil},
	} {
		got := raisesOf(ref, c.deployment, c.scalers, c.raise)
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Raise{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// What an earlier run has raised does not count as what the user wants.
func TestRaisedIsNoRefusal(t *testing.T) {
	t.Parallel()
	there := object(workload.Deployment, "istiod", map[string]any{"replicas": int64(2)}, "1")
	if before, left := recorded(there); !left || before != 1 {
		t.Errorf("recorded: %d, %v", before, left)
	}
	if _, left := recorded(object(workload.Deployment, "istiod", nil, "0")); left {
		t.Error("a record of zero was taken")
	}
}
