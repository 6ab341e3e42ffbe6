package sidecars

import (
	"context"
	"strconv"

	"istio.io/api/label"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// forms finds out whether an injector gives native sidecars: the files do not
// say it, istiod finds it out from its settings and the cluster's nodes.
type forms struct {
	a         *asker
	injectors *observation
	subjects  []*subject
	known     map[string]bool // revisions that were asked for
	native    map[string]bool
}

// of gives the form for a workload: what its own annotation says, or what the
// injector gives others of the same revision, or a pod that is asked for as a dry
// run, or else the form that the workload has now.
func (f *forms) of(ctx context.Context, s *subject) bool {
	if own, err := strconv.ParseBool(s.W.Template.Annotations[nativeAnnotation]); err == nil {
		return own
	}
	revision := s.revision()
	if !f.known[revision] {
		f.known[revision] = true
		if native, ok := f.find(ctx, s, revision); ok {
			f.native[revision] = native
		} else {
			f.known[revision] = false
		}
	}
	if f.known[revision] {
		return f.native[revision]
	}
	proxy, _ := workload.ProxyOf(s.W.Template.Annotations, &s.W.Template.Spec)
	return proxy.Native
}

func (f *forms) find(ctx context.Context, s *subject, revision string) (native, ok bool) {
	for _, other := range f.subjects {
		if other.W != nil && other.revision() == revision && other.Answer.Outcome == answered && other.Answer.HasProxy && !other.item.Gateway && other.W.Template.Annotations[nativeAnnotation] == "" {
			return other.Answer.Proxy.Native, true
		}
	}
	if asks, serves := s.webhookServes(f.injectors.injectors); serves {
		if native, ok = f.ask(ctx, s.Ref.Namespace, asks); ok {
			return native, ok
		}
	}
	// The namespace may refuse bare pods, turn injection off, or not be there yet.
	elsewhere := map[string]string{label.SidecarInject.Name: "true"}
	if revision != mesh.DefaultRevision {
		elsewhere[label.IoIstioRev.Name] = revision
	}
	return f.ask(ctx, metav1.NamespaceDefault, elsewhere)
}

// nativeAnnotation has a pod choose its form (istio pkg/kube/inject/inject.go).
const nativeAnnotation = "sidecar.istio.io/nativeSidecar"

// ask asks for a pod with these labels that hardly any policy refuses.
func (f *forms) ask(ctx context.Context, namespace string, labels map[string]string) (native, ok bool) {
	little := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi")}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: "app", Image: "app", Resources: corev1.ResourceRequirements{Requests: little, Limits: little},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}}
	pod.Namespace, pod.GenerateName, pod.Labels = namespace, "istio-upgrade-", labels
	given := ask(ctx, f.a.c, pod, f.a.manager)
	return given.Proxy.Native, given.Outcome == answered && given.HasProxy
}
