package controlplane

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

func TestObjectChanges(t *testing.T) {
	t.Parallel()
	before := parse(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: same}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: changed}
data: {a: "1"}
---
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata: {name: moved, namespace: istio-system}
---
apiVersion: v1
kind: Service
metadata: {name: gone}
`)
	after := parse(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: same}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: changed}
data: {a: "2"}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: moved}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: new}
`)
	want := []ObjectChange{
		{Kind: "ConfigMap", Namespace: "istio-system", Name: "changed", Change: "changed"},
		{Kind: "PodDisruptionBudget", Namespace: "istio-system", Name: "moved", Change: "changed"},
		{Kind: "ClusterRole", Name: "new", Change: "added"},
		{Kind: "Service", Namespace: "istio-system", Name: "gone", Change: "removed"},
	}
	if diff := cmp.Diff(want, objectChanges(before, after, "istio-system")); diff != "" {
		t.Error(diff)
	}
}

func TestLegacyCharts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "corpus", "legacy-1.4.10", "istio.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the corpus of published manifests is not beside the project")
	}
	if err != nil {
		t.Fatal(err)
	}
	objects := parse(t, string(text))
	if got := tagOf(objects); got != "1.4.10" {
		t.Errorf("the tag of the release is %q", got)
	}
	want := map[string]any{
		"pilot": map[string]any{"autoscaleMin": int64(2)},
		"mixer": map[string]any{
			"policy": map[string]any{"autoscaleMin": int64(2)}, "telemetry": map[string]any{"autoscaleMin": int64(2)},
		},
	}
	if diff := cmp.Diff(want, highlyAvailable(helm.Istio, objects)); diff != "" {
		t.Error(diff)
	}
	waited := map[string]bool{}
	for _, ref := range workloadsOf(objects, "istio-system") {
		waited[ref.Name] = true
	}
	for _, name := range []string{"istio-citadel", "istio-pilot", "istio-policy", "istio-telemetry", "istio-sidecar-injector"} {
		if !waited[name] {
			t.Errorf("%s is not waited for: %v", name, waited)
		}
	}
}

func TestHighlyAvailable(t *testing.T) {
	t.Parallel()
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod}\nspec: {replicas: #}\n"
	hpa := "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: istiod}\nspec: {minReplicas: #, maxReplicas: 5, scaleTargetRef: {name: istiod}}\n"
	for name, c := range map[string]struct {
		component helm.Component
		manifest  string
		want      map[string]any
	}{
		"autoscaled":          {helm.Istiod, strings.ReplaceAll(deployment, "#", "1") + strings.ReplaceAll(hpa, "#", "1"), map[string]any{"pilot": map[string]any{"autoscaleMin": int64(2)}}},
		"autoscaled to one":   {helm.Istiod, strings.ReplaceAll(deployment, "#", "1") + strings.ReplaceAll(strings.ReplaceAll(hpa, "#", "1"), "maxReplicas: 5", "maxReplicas: 1"), map[string]any{"pilot": map[string]any{"autoscaleMin": int64(2), "autoscaleMax": int64(2)}}},
		"autoscaled enough":   {helm.Istiod, strings.ReplaceAll(deployment, "#", "1") + strings.ReplaceAll(hpa, "#", "2"), map[string]any{}},
		"fixed":               {helm.Istiod, strings.ReplaceAll(deployment, "#", "1"), map[string]any{"pilot": map[string]any{"replicaCount": int64(2)}}},
		"fixed enough":        {helm.Istiod, strings.ReplaceAll(deployment, "#", "3"), map[string]any{}},
		"replicas left out":   {helm.Gateway, strings.ReplaceAll(deployment, "#", "null"), map[string]any{"replicaCount": int64(2)}},
		"gateway, autoscaled": {helm.Gateway, strings.ReplaceAll(deployment, "#", "1") + strings.ReplaceAll(hpa, "#", "1"), map[string]any{"autoscaling": map[string]any{"minReplicas": int64(2)}}},
		"no such component":   {helm.CNI, strings.ReplaceAll(deployment, "#", "1"), map[string]any{}},
	} {
		if diff := cmp.Diff(c.want, highlyAvailable(c.component, parse(t, c.manifest))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
