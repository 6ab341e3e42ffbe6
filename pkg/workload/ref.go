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
	if r.Group != "" && r.Group != groups[r.Kind] {
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

// OwnerRef gives the workload that an owner reference names.
func OwnerRef(namespace string, owner *metav1.OwnerReference) Ref {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil {
		gv = schema.GroupVersion{}
	}
	return Ref{Group: gv.Group, Kind: owner.Kind, Namespace: namespace, Name: owner.Name}
}

// The groups of the custom resources that can be moved.
const (
	RolloutGroup          = "argoproj.io"
	DeploymentConfigGroup = "apps.openshift.io"
)

// Resources gives the API resource of each kind that can be moved, by kind.
// Other groups have kinds of the same names (such as apps.kruise.io): see
// Ref.Resource.
var Resources = map[string]schema.GroupVersionResource{
	Deployment:            {Group: "apps", Version: "v1", Resource: "deployments"},
	StatefulSet:           {Group: "apps", Version: "v1", Resource: "statefulsets"},
	DaemonSet:             {Group: "apps", Version: "v1", Resource: "daemonsets"},
	ReplicaSet:            {Group: "apps", Version: "v1", Resource: "replicasets"},
	ReplicationController: {Version: "v1", Resource: "replicationcontrollers"},
	Rollout:               {Group: RolloutGroup, Version: "v1alpha1", Resource: "rollouts"},
	DeploymentConfig:      {Group: DeploymentConfigGroup, Version: "v1", Resource: "deploymentconfigs"},
}

// Resource gives the API resource of a workload that can be moved, and false
// for every other kind, those included that only share a name with one.
func (r Ref) Resource() (schema.GroupVersionResource, bool) {
	resource, ok := Resources[r.Kind]
	return resource, ok && resource.Group == r.Group
}

// Is says whether the workload is of this kind of Kubernetes' own, OpenShift's
// or Argo Rollouts', not of one of another group by the same name.
func (r Ref) Is(kind string) bool { return r.Kind == kind && r.Group == groups[kind] }

// groups gives the group of each kind that this package knows by name.
var groups = map[string]string{
	Deployment: "apps", StatefulSet: "apps", DaemonSet: "apps", ReplicaSet: "apps",
	Job: "batch", CronJob: "batch", Rollout: RolloutGroup, DeploymentConfig: DeploymentConfigGroup,
}

// kindWords are the words that kubectl knows the kinds by.
var kindWords = map[string]string{
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
}

// ParseKind gives the kind that a user's word names, as in "deploy", "sts",
// "daemonsets.apps", "deployments.v1.apps" or "statefulset.apps.kruise.io", and
// whether there is one. Of a group that this package does not know any kind will
// do; it then stands in lower case.
func ParseKind(word string) (schema.GroupKind, bool) {
	name, group, grouped := strings.Cut(strings.ToLower(word), ".")
	kind, known := kindWords[name]
	if !grouped {
		return schema.GroupKind{Group: groups[kind], Kind: kind}, known
	}
	if version, rest, ok := strings.Cut(group, "."); isVersion(version) {
		if group = ""; ok {
			group = rest
		}
	}
	if known && group == groups[kind] {
		return schema.GroupKind{Group: group, Kind: kind}, true
	}
	if !strings.Contains(group, ".") || name == "" {
		return schema.GroupKind{}, false // such as deployment.batch
	}
	if known {
		return schema.GroupKind{Group: group, Kind: kind}, true
	}
	return schema.GroupKind{Group: group, Kind: name}, true
}

// isVersion says whether a word is an API version, as in v1 or v1alpha1.
func isVersion(word string) bool {
	return len(word) > 1 && word[0] == 'v' && word[1] >= '0' && word[1] <= '9'
}
