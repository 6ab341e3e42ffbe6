package sidecars

import (
	"encoding/json"
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Plan says which workloads would be moved, how, and what it would disturb. It
// is plain data: the table, the JSON and a dry run print the same Plan.
type Plan struct {
	Cluster cluster.Identity `json:"cluster"`
	// Scope is the namespace, or "all namespaces".
	Scope string `json:"scope"`
	// Items are all workloads that have a proxy or should have one, in the order
	// in which they will be moved, those that stay after those that move.
	Items []Item `json:"workloads"`
	// ExpectedSeconds is how long moving all of them takes, as far as that is
	// known of each; 0 where it is known of none.
	ExpectedSeconds int `json:"expectedSeconds,omitempty"`
	// Istioctl is the binary that injected what moves by re-injection; nil where
	// nothing does.
	Istioctl *Istioctl `json:"istioctl,omitempty"`
	// BackupDir is where the objects are kept as they were; empty where none is
	// written anew.
	BackupDir string         `json:"backupDir,omitempty"`
	Refusals  []gate.Refusal `json:"refusals"`
	Warnings  []string       `json:"warnings"`
	// Unanswered are the revisions whose injectors have told nothing, with the
	// reason.
	Unanswered map[string]string `json:"-"`
}

// Item is one workload of a Plan.
type Item struct {
	workload.Ref
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
	// Lags is true where the proxies are not what the injector gives now.
	Lags bool `json:"lags"`
	// Proxies are those that run now, most pods first.
	Proxies []ProxyCount `json:"proxies"`
	// To is what new pods will run; nil where that is not known or nothing.
	To *ProxyForm `json:"to,omitempty"`
	// Revision serves the workload.
	Revision string `json:"revision,omitempty"`
	How      How    `json:"how"`
	Impact   Impact `json:"impact,omitempty"`
	// ImpactReason says why the impact is more than none.
	ImpactReason string `json:"impactReason,omitempty"`
	// Held is why a workload that lags is not moved by this run although it
	// could be: an outage that was not allowed, a missing --evict.
	Held    string `json:"held,omitempty"`
	Gateway bool   `json:"gateway,omitempty"`
	Pods    int32  `json:"pods"`
	Ready   int32  `json:"ready"`
	// ExpectedSeconds is how long moving it takes, by how long its present pods
	// took to start and by its strategy; 0 where that is not known.
	ExpectedSeconds int `json:"expectedSeconds,omitempty"`
	// Admission is unknown where no dry run could be made.
	AdmissionUnknown bool `json:"admissionUnknown,omitempty"`
	// Owner says what else writes the workload's object from its own source:
	// Helm, Flux or Argo CD.
	Owner string `json:"owner,omitempty"`
	// Notes are what taking the old sidecar out could not know.
	Notes []string `json:"notes,omitempty"`
	// Diff is what changes in the template of a workload injected by hand, as a
	// unified diff.
	Diff string `json:"diff,omitempty"`

	w        *workload.Workload
	promise  workload.Promise
	services []string
	resume   bool // its last restart was ours and is not complete
	anew     bool // the rollout that is under way is for another proxy
	clears   bool // pods of that rollout hang, and of a StatefulSet are evicted

	remake    *remake // for Reinject and ToWebhook
	evict     bool    // its pods are evicted once its template is written
	unwatched bool    // it has no pods to be watched
	unknown   bool    // nothing tells whether it lags
}

// Services names the Services that send traffic to the workload's pods, in its
// namespace.
func (i *Item) Services() []string { return i.services }

// way is how the workload's pods are replaced.
func (i *Item) way() How {
	if i.evict {
		return Evict
	}
	return i.How
}

// ProxyCount is a proxy and in how many pods it runs.
type ProxyCount struct {
	ProxyForm
	Pods int32 `json:"pods"`
	// Sample are the names of some of the pods.
	Sample []string `json:"sample"`
}

// ProxyForm is a proxy's image and form.
type ProxyForm struct {
	Image   string `json:"image"`
	Version string `json:"version,omitempty"`
	Native  bool   `json:"native"`
}

func formOf(p workload.Proxy) ProxyForm {
	form := ProxyForm{Image: p.Image, Native: p.Native}
	if v, ok := mesh.ImageVersion(p.Image); ok {
		form.Version = v.Original()
	}
	return form
}

// Moving gives the items that the plan moves, in their order.
func (p *Plan) Moving() []Item {
	moving := []Item{}
	for i := range p.Items {
		if p.Items[i].How != Nothing {
			moving = append(moving, p.Items[i])
		}
	}
	return moving
}

// Staying gives the items that lag, or of which that is not known, and are not
// moved: what is left to a person.
func (p *Plan) Staying() []Item {
	staying := []Item{}
	for i := range p.Items {
		item := &p.Items[i]
		if item.How == Nothing && (item.Lags || item.unknown || item.Verdict == Loses || item.Verdict == Frozen) {
			staying = append(staying, *item)
		}
	}
	return staying
}

// StayingAfter gives the items that stay once the plan was applied: with those that
// the run has passed over, for the reasons that it gives.
func (p *Plan) StayingAfter(r *Result) []Item {
	staying := p.Staying()
	for i := range r.Workloads {
		passed := &r.Workloads[i]
		at := slices.IndexFunc(p.Items, func(item Item) bool { return item.Ref == passed.Ref })
		if at >= 0 && passed.Stays() {
			item := p.Items[at]
			item.How, item.Held = Nothing, passed.Message
			staying = append(staying, item)
		}
	}
	return staying
}

// Count gives the number of items of each verdict.
func (p *Plan) Count() map[Verdict]int {
	counts := map[Verdict]int{}
	for i := range p.Items {
		counts[p.Items[i].Verdict]++
	}
	return counts
}

// MarshalJSON gives empty lists rather than null.
func (p Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	if p.Items == nil {
		p.Items = []Item{}
	}
	if p.Refusals == nil {
		p.Refusals = []gate.Refusal{}
	}
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	return json.Marshal(plain(p))
}
