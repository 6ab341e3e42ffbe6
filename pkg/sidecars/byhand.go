package sidecars

import (
	"context"
	"fmt"
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// Reinjection says how workloads injected by hand get their new sidecar.
type Reinjection struct {
	// Istioctl is the binary's path; empty means the one on PATH.
	Istioctl string
	// Timeout bounds one process of istioctl; 0 means its own default.
	Timeout time.Duration
	// KubeFlags are the kubeconfig flags to hand on to istioctl.
	KubeFlags []string
	// Kubeconfig makes the text of a kubeconfig for istioctl alone, where the flags
	// cannot say which connection is meant; nil where they can.
	Kubeconfig func() ([]byte, error)
	// Given are the settings from the user's files; what is missing is read
	// from the control plane's ConfigMaps.
	Given inject.Settings
	// BackupDir is where objects are kept as they were; empty means a new
	// folder below the user's state folder.
	BackupDir string
	// ToWebhook takes the manual sidecar out and lets the webhook inject from
	// now on, instead of injecting by hand again.
	ToWebhook bool
	// Diff puts into the plan what changes in pod templates and objects.
	Diff bool
}

// Istioctl is the binary that a plan uses.
type Istioctl struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// remake is what a plan holds of a workload that is written anew: the object as
// it was read and as it is to be, and the patch between them.
type remake struct {
	before, after *unstructured.Unstructured
	patch         []byte
	kept          string // the file that holds before, once there is one
	// again makes after anew from an object that has moved meanwhile.
	again func(context.Context, *unstructured.Unstructured) (*unstructured.Unstructured, error)
}

// settleByHand says how a workload injected by hand that lags is moved.
func (s *subject) settleByHand(o *Options) {
	item := &s.item
	if o.ByHand == nil {
		item.Held = "injected by hand: sidecars injects it again"
		return
	}
	if s.W.Kind == workload.CronJob {
		item.How, item.unwatched = Reinject, true
		return
	}
	if from := s.W.TemplateFrom; from != nil {
		item.Held = "its template is that of " + from.String() + ", which is injected again in its place"
		return
	}
	how, held := wayOf(s.W, o)
	if s.W.Desired == 0 && how == Nothing && s.W.Strategy.Type == workload.OnDelete {
		how, held = Restart, "" // it has no pods to be evicted
	}
	item.Held = held
	if how == Nothing {
		return
	}
	if s.W.Kind == workload.Rollout {
		item.Reason += "; its new template goes through its own strategy, whose pauses wait for a person"
	}
	item.How, item.evict, item.unwatched = Reinject, how == Evict && s.W.Desired > 0, s.W.Desired == 0
}

// templateLags says whether the sidecar in the template itself is another than
// the injector gives.
func (f facts) templateLags() bool {
	proxy, ok := workload.ProxyOf(f.W.Template.Annotations, &f.W.Template.Spec)
	if !ok || !f.Answer.HasProxy {
		return false
	}
	promise := f.Answer.promise(f.Same)
	promise.Guessed = true // of form and containers nothing is known before istioctl was run
	return !promise.Kept(proxy, true)
}

// webhookServes says whether a webhook would inject the workload if it were not
// opted out, or if its pods asked for it, and the labels that ask.
func (s *subject) webhookServes(injectors []mesh.Injector) (map[string]string, bool) {
	if mesh.IgnoredNamespace(s.Ref.Namespace) || s.W.Template.Spec.HostNetwork {
		return nil, false
	}
	bare := maps.Clone(s.W.Template.Labels)
	if bare == nil {
		bare = map[string]string{}
	}
	delete(bare, label.SidecarInject.Name)
	if len(mesh.Serving(injectors, s.Namespace.Labels, bare, s.Ref.Namespace)) > 0 {
		return map[string]string{}, true
	}
	asks := map[string]string{label.SidecarInject.Name: "true"}
	if r := s.revision(); r != "" && r != mesh.DefaultRevision {
		asks[label.IoIstioRev.Name] = r
	}
	maps.Copy(bare, asks)
	return asks, len(mesh.Serving(injectors, s.Namespace.Labels, bare, s.Ref.Namespace)) > 0
}

// resourceOf gives the API resource of a workload whose object is written.
func resourceOf(kind string) (schema.GroupVersionResource, bool) {
	if kind == workload.CronJob {
		return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}, true
	}
	r, ok := workload.Resources[kind]
	return r, ok
}

// with gives the workload with the pod template of another version of its object.
func with(w *workload.Workload, object *unstructured.Unstructured) (*workload.Workload, error) {
	if w.Kind == workload.CronJob {
		var job batchv1.CronJob
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &job); err != nil {
			return nil, fmt.Errorf("read %s: %w", w.In(), err)
		}
		return workload.FromCronJob(&job), nil
	}
	raw, _, err := unstructured.NestedMap(object.Object, "spec", "template")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", w.In(), err)
	}
	var template corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &template); err != nil {
		return nil, fmt.Errorf("read %s: %w", w.In(), err)
	}
	changed := *w
	changed.Template = template
	return &changed, nil
}
