package sidecars

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

const runsToItsEnd = "it runs to its end with the proxy that it has"

// operatorAdvice says, by the group of a custom resource that owns pods, how
// its operator restarts them. NAME and NS stand for the resource's.
var operatorAdvice = map[string]string{
	"postgresql.cnpg.io":           "CloudNativePG restarts it: kubectl cnpg restart NAME -n NS",
	"core.strimzi.io":              "Strimzi restarts it: kubectl annotate strimzipodset NAME -n NS strimzi.io/manual-rolling-update=true",
	"kafka.strimzi.io":             "Strimzi restarts it: annotate its pods with strimzi.io/manual-rolling-update=true",
	"kubevirt.io":                  "KubeVirt gives it a new pod when it is moved or restarted: virtctl migrate NAME -n NS, or virtctl restart NAME -n NS",
	"tekton.dev":                   "a run of Tekton: " + runsToItsEnd,
	"batch.volcano.sh":             "a Job of Volcano: " + runsToItsEnd,
	"kubeflow.org":                 "a job of Kubeflow: " + runsToItsEnd,
	"sparkoperator.k8s.io":         "a Spark application: " + runsToItsEnd,
	"actions.github.com":           "a runner of GitHub Actions: " + runsToItsEnd,
	"agones.dev":                   "a game server of Agones: " + runsToItsEnd,
	"build.openshift.io":           "a build: " + runsToItsEnd,
	"acid.zalan.do":                "the Postgres operator restarts it: kubectl delete pod, replicas first",
	"weblogic.oracle":              "the WebLogic operator restarts it: raise spec.restartVersion of its Domain",
	"elasticsearch.k8s.elastic.co": "ECK restarts it: change an annotation in its podTemplate",
	"ray.io":                       "KubeRay makes its pods again when they are deleted: workers first",
	"argoproj.io":                  "a run of Argo: " + runsToItsEnd,
	"apps.kruise.io":               "OpenKruise restarts it: kubectl kruise rollout restart KIND/NAME -n NS",
}

// kindAdvice is that of single kinds, where the group has others.
var kindAdvice = map[schema.GroupKind]string{
	{Group: workload.RolloutGroup, Kind: workload.Rollout}:                   "which could not be read; kubectl argo rollouts restart NAME -n NS restarts it",
	{Group: workload.DeploymentConfigGroup, Kind: workload.DeploymentConfig}: "which could not be read; oc rollout latest dc/NAME -n NS restarts it",
}

// ownerAdvice says why pods of an owner of another kind are left, and what its
// operator offers where that is known.
func ownerAdvice(ref workload.Ref) string {
	text := "its pods belong to a " + ref.Kind
	if ref.Group != "" {
		text += " of " + ref.Group
	}
	fill := strings.NewReplacer("NAME", ref.Name, "NS", ref.Namespace, "KIND", strings.ToLower(ref.Kind))
	if advice, ok := kindAdvice[schema.GroupKind{Group: ref.Group, Kind: ref.Kind}]; ok {
		return text + ", " + fill.Replace(advice)
	}
	if advice, ok := operatorAdvice[ref.Group]; ok {
		return text + "; " + fill.Replace(advice)
	}
	return text + ", which only its own operator can restart"
}
