package controlplane

import (
	"math"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// haValues are the charts' own values for the replicas of a Deployment: the
// minimum and the maximum of its autoscaler, and the number without one. Charts
// from 1.24 on take what is below pilot for the top level (istio/istio:
// manifests/charts/istio-control/istio-discovery/templates/zzy_descope_legacy.yaml).
type haValues struct{ minimum, maximum, replicas []string }

// legacyHA are those of the chart istio of 1.1 to 1.5, by Deployment. Citadel,
// Galley and the injector may have one replica there: they hold no traffic.
var legacyHA = map[string]haValues{
	"istio-pilot":     {[]string{"pilot", "autoscaleMin"}, []string{"pilot", "autoscaleMax"}, []string{"pilot", "replicaCount"}},
	"istio-policy":    {[]string{"mixer", "policy", "autoscaleMin"}, []string{"mixer", "policy", "autoscaleMax"}, []string{"mixer", "policy", "replicaCount"}},
	"istio-telemetry": {[]string{"mixer", "telemetry", "autoscaleMin"}, []string{"mixer", "telemetry", "autoscaleMax"}, []string{"mixer", "telemetry", "replicaCount"}},
}

func haValuesOf(component helm.Component, deployment string) (haValues, bool) {
	switch component {
	case helm.Istiod:
		return haValues{[]string{"pilot", "autoscaleMin"}, []string{"pilot", "autoscaleMax"}, []string{"pilot", "replicaCount"}}, true
	case helm.Gateway:
		return haValues{[]string{"autoscaling", "minReplicas"}, []string{"autoscaling", "maxReplicas"}, []string{"replicaCount"}}, true
	case helm.Istio:
		v, ok := legacyHA[deployment]
		return v, ok
	}
	return haValues{}, false
}

// highlyAvailable gives the values that bring every Deployment of a render
// that has fewer than two replicas for sure to two: by its autoscaler's
// minimum where it has one, and its maximum where that is lower. It is a pure
// function.
func highlyAvailable(component helm.Component, objects []*unstructured.Unstructured) map[string]any {
	values := map[string]any{}
	minimum, maximum := map[string]int64{}, map[string]int64{}
	for _, o := range objects {
		if o.GetKind() != "HorizontalPodAutoscaler" {
			continue
		}
		name, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
		minimum[name], maximum[name] = integer(o, "spec", "minReplicas"), integer(o, "spec", "maxReplicas")
	}
	for _, o := range objects {
		paths, ok := haValuesOf(component, o.GetName())
		if !ok || o.GetKind() != workload.Deployment {
			continue
		}
		if low, scaled := minimum[o.GetName()]; scaled {
			if low < 2 {
				set(values, int64(2), paths.minimum...)
				if maximum[o.GetName()] < 2 {
					set(values, int64(2), paths.maximum...)
				}
			}
		} else if integer(o, "spec", "replicas") < 2 {
			set(values, int64(2), paths.replicas...)
		}
	}
	return values
}

// autoscaledTo gives the minimum of the autoscalers in a manifest by the
// Deployment that they scale.
func autoscaledTo(objects []*unstructured.Unstructured, namespace string) map[workload.Ref]int32 {
	least := map[workload.Ref]int32{}
	for _, o := range objects {
		if o.GetKind() == "HorizontalPodAutoscaler" {
			name, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
			ref := workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: keyOf(o, namespace).namespace, Name: name}
			least[ref] = int32(min(integer(o, "spec", "minReplicas"), math.MaxInt32))
		}
	}
	return least
}

// integer reads a number as YAML gives it; one that is absent counts as one,
// the API's default for replicas.
func integer(o *unstructured.Unstructured, path ...string) int64 {
	value, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	switch n := value.(type) {
	case int64:
		return n
	case int:
		return int64(n)
	case float64:
		return int64(n)
	}
	return 1
}

func set(values map[string]any, value any, path ...string) {
	for _, key := range path[:len(path)-1] {
		next, ok := values[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			values[key] = next
		}
		values = next
	}
	values[path[len(path)-1]] = value
}
