// Package workload knows Kubernetes workloads: what they are called, which pods
// are theirs, what their controllers would make of them, and which proxies run
// in their pods. It decides nothing about Istio versions.
package workload

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds that this package knows by name.
const (
	Deployment            = "Deployment"
	StatefulSet           = "StatefulSet"
	DaemonSet             = "DaemonSet"
	ReplicaSet            = "ReplicaSet"
	ReplicationController = "ReplicationController"
	Job                   = "Job"
	CronJob               = "CronJob"
	Pod                   = "Pod"
	Rollout               = "Rollout"          // argoproj.io
	DeploymentConfig      = "DeploymentConfig" // apps.openshift.io
	Node                  = "Node"             // owner of mirror pods
)

// Ref names a workload. Two workloads of different kinds may share a name, so
// the kind and its group are part of it. It can be a map's key.
type Ref struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String gives the workload as kubectl names it: deployment/web. Kinds of
// custom resources bear their group, as in cluster.postgresql.cnpg.io/db.
func (r Ref) String() string {
	kind := strings.ToLower(r.Kind)
	if r.Group != "" && !builtIn(r.Group) {
		kind += "." + r.Group
	}
	return kind + "/" + r.Name
}

// In gives the workload with its namespace, as messages name it:
// "deployment/web in shop".
func (r Ref) In() string { return r.String() + " in " + r.Namespace }

// Compare orders by namespace, then kind, then name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(
		cmp.Compare(r.Namespace, o.Namespace), cmp.Compare(r.Kind, o.Kind),
		cmp.Compare(r.Name, o.Name), cmp.Compare(r.Group, o.Group))
}

func builtIn(group string) bool {
	return group == "" || group == "apps" || group == "batch" ||
		group == "argoproj.io" || group == "apps.openshift.io"
}

// ownerRef gives the workload that an owner reference names.
func ownerRef(namespace string, owner *metav1.OwnerReference) Ref {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil {
		gv = schema.GroupVersion{}
	}
	return Ref{Group: gv.Group, Kind: owner.Kind, Namespace: namespace, Name: owner.Name}
}

// Resources gives the API resource of each kind that can be moved, by kind.
var Resources = map[string]schema.GroupVersionResource{
	Deployment:            {Group: "apps", Version: "v1", Resource: "deployments"},
	StatefulSet:           {Group: "apps", Version: "v1", Resource: "statefulsets"},
	DaemonSet:             {Group: "apps", Version: "v1", Resource: "daemonsets"},
	ReplicaSet:            {Group: "apps", Version: "v1", Resource: "replicasets"},
	ReplicationController: {Version: "v1", Resource: "replicationcontrollers"},
	Rollout:               {Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts"},
	DeploymentConfig:      {Group: "apps.openshift.io", Version: "v1", Resource: "deploymentconfigs"},
}

// ParseKind gives the kind that a user's word names, as in "deploy", "sts" or
// "daemonsets.apps", and whether there is one.
func ParseKind(word string) (string, bool) {
	word, _, _ = strings.Cut(strings.ToLower(word), ".")
	kind, ok := map[string]string{
		"deployment": Deployment, "deployments": Deployment, "deploy": Deployment,
		"statefulset": StatefulSet, "statefulsets": StatefulSet, "sts": StatefulSet,
		"daemonset": DaemonSet, "daemonsets": DaemonSet, "ds": DaemonSet,
		"replicaset": ReplicaSet, "replicasets": ReplicaSet, "rs": ReplicaSet,
		"replicationcontroller": ReplicationController, "replicationcontrollers": ReplicationController, "rc": ReplicationController,
		"job": Job, "jobs": Job,
		"cronjob": CronJob, "cronjobs": CronJob, "cj": CronJob,
		"pod": Pod, "pods": Pod, "po": Pod,
		"rollout": Rollout, "rollouts": Rollout, "ro": Rollout,
		"deploymentconfig": DeploymentConfig, "deploymentconfigs": DeploymentConfig, "dc": DeploymentConfig,
	}[word]
	return kind, ok
}
