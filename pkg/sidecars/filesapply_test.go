package sidecars

import (
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Whatever can be watched of a file is a workload, so that it goes through the gates
// and is followed; what takes its template from another object is none.
func TestWorkloadOf(t *testing.T) {
	const template = "template: {spec: {containers: [{name: app}]}}"
	for text, want := range map[string]string{
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {" + template + "}":                                                                   workload.Deployment,
		"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: a}\nspec: {replicas: 2, strategy: {canary: {}}, " + template + "}":                    workload.Rollout,
		"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: a}\nspec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: b}}":            "",
		"apiVersion: apps.openshift.io/v1\nkind: DeploymentConfig\nmetadata: {name: a}\nspec: {replicas: 1, triggers: [{type: ConfigChange}], " + template + "}": workload.DeploymentConfig,
		"apiVersion: example.com/v1\nkind: Rollout\nmetadata: {name: a}\nspec: {" + template + "}":                                                               "",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}":                                                                                                     "",
	} {
		got := ""
		if w := workloadOf(object(t, text)); w != nil {
			got = w.Kind
		}
		if got != want {
			t.Errorf("%q, want %q, of\n%s", got, want, text)
		}
	}
}
