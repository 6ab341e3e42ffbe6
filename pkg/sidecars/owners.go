package sidecars

import "github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"

// operatorAdvice says, by the group of a custom resource that owns pods, how
// its operator restarts them.
var operatorAdvice = map[string]string{
	"postgresql.cnpg.io":           "CloudNativePG restarts it: kubectl cnpg restart NAME",
	"core.strimzi.io":              "Strimzi restarts it: annotate its pods or StrimziPodSet with strimzi.io/manual-rolling-update=true",
	"kafka.strimzi.io":             "Strimzi restarts it: annotate its pods with strimzi.io/manual-rolling-update=true",
	"tekton.dev":                   "a run of Tekton: it runs to its end with the proxy that it has",
	"acid.zalan.do":                "the Postgres operator restarts it: kubectl delete pod, replicas first",
	"weblogic.oracle":              "the WebLogic operator restarts it: raise spec.restartVersion of its Domain",
	"elasticsearch.k8s.elastic.co": "ECK restarts it: change an annotation in its podTemplate",
	"sparkoperator.k8s.io":         "a Spark application: it runs to its end with the proxy that it has",
	"argoproj.io":                  "a run of Argo: it runs to its end with the proxy that it has",
	"apps.kruise.io":               "OpenKruise restarts it: kubectl kruise rollout restart",
}

// ownerAdvice says why pods of an owner of another kind are left, and what its
// operator offers where that is known.
func ownerAdvice(ref workload.Ref) string {
	text := "its pods belong to a " + ref.Kind
	if ref.Group != "" {
		text += " of " + ref.Group
	}
	if advice, ok := operatorAdvice[ref.Group]; ok {
		return text + "; " + advice
	}
	return text + ", which only its own operator can restart"
}
