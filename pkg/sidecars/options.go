package sidecars

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Options say which workloads are looked at and how they are moved.
type Options struct {
	// Namespace is where to look; "" means all namespaces.
	Namespace string
	// IstioNamespace is where the control planes' ConfigMaps are.
	IstioNamespace string
	// Selector chooses workloads by their own labels; nil means all.
	Selector labels.Selector
	// Injectors are those of the cluster where they have been read; nil means to
	// read them.
	Injectors []mesh.Injector
	// Only names workloads; empty means all of the namespace.
	Only []Name
	// Revision leaves out what another revision's injector serves; empty means all.
	Revision string

	// PreviewTag makes the plan that will hold once the injector gives this tag
	// instead of its own; empty means the injector as it is. PreviewRevision is
	// whose injector that is, empty for all. PreviewImage is the image that it gives
	// then to pods that fix none, where that is known: the registry may change too.
	PreviewTag, PreviewRevision, PreviewImage string

	// ByHand says how workloads injected by hand are moved; nil leaves them.
	ByHand *Reinjection

	AllowDowntime bool
	Evict         bool
	RestartWith   RestartWith
	FieldManager  string
	Force         bool
	// User is named in the restart's stamp.
	User    string
	Rollout rollout.Options
	Now     func() time.Time
}

// toWebhook says whether manual sidecars are to be taken out, be they old or new.
func (o *Options) toWebhook() bool { return o.ByHand != nil && o.ByHand.ToWebhook }

// preview gives the tag that a revision's injector is taken to give, "" for its own.
func (o *Options) preview(revision string) string {
	if o.PreviewRevision != "" && revision != o.PreviewRevision {
		return ""
	}
	return o.PreviewTag
}

// Name is a workload as the user gave it. The kind of a custom resource may
// stand in lower case.
type Name struct {
	Group, Kind, Name string
}

func (n Name) names(ref workload.Ref) bool {
	return n.Name == ref.Name && n.Group == ref.Group && strings.EqualFold(n.Kind, ref.Kind)
}

// wants says whether the options choose the workload.
func (o *Options) wants(ref workload.Ref, own map[string]string) bool {
	if o.Selector != nil && !o.Selector.Matches(labels.Set(own)) {
		return false
	}
	if len(o.Only) == 0 {
		return true
	}
	for _, n := range o.Only {
		if n.names(ref) {
			return true
		}
	}
	return false
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}
