package sidecars

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// TestClassify reads the words of real API servers.
func TestClassify(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	forbidden := func(text string) error { return apierrors.NewForbidden(pods, "web-1", errors.New(text)) }
	refusedDial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, tc := range []struct {
		name string
		err  error
		want outcome
	}{
		{"a webhook without dry run", apierrors.NewBadRequest(`admission webhook "sidecar-injector.istio.io" does not support dry run`), unsupported},
		{"the injector is down", apierrors.NewInternalError(errors.New(
			`failed calling webhook "rev.namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": dial tcp 10.96.0.7:443: connect: connection refused`,
		)), injectorDown},
		{"the injector has no endpoints", apierrors.NewInternalError(errors.New(
			`failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": no endpoints available for service "istiod"`,
		)), injectorDown},
		{"another webhook is down", apierrors.NewInternalError(errors.New(
			`failed calling webhook "policy.example.com": failed to call webhook: Post "https://policy.example.svc:443/?timeout=10s": context deadline exceeded`,
		)), rejected},
		{"another webhook says no", forbidden(`admission webhook "policy.example.com" denied the request: no latest tags`), rejected},
		{"no room in a quota", forbidden("exceeded quota: compute, requested: requests.cpu=100m, used: requests.cpu=1, limited: requests.cpu=1"), noRoom},
		{"a quota that wants requests", forbidden("failed quota: compute: must specify limits.cpu for: web"), rejected},
		{"Pod Security", forbidden(`violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "istio-init")`), rejected},
		{"a LimitRange", forbidden("maximum cpu usage per Container is 1, but limit is 2"), rejected},
		{"no permission", forbidden(`User "ann" cannot create resource "pods" in API group "" in the namespace "shop"`), notAllowed},
		{"an invalid pod", apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "web-1", nil), rejected},
		{"the API server is away", &url.Error{Op: "Post", URL: "https://127.0.0.1:6443/api/v1/namespaces/shop/pods", Err: refusedDial}, unreachable},
		{"wrapped", fmt.Errorf("ask: %w", refusedDial), unreachable},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("%s: outcome %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestQuestionKey(t *testing.T) {
	base := func() *workload.Workload {
		w := &workload.Workload{Ref: workload.Ref{Kind: workload.Deployment, Namespace: "shop", Name: "web"}, UID: "1"}
		w.Template.Labels = map[string]string{"app": "web", "sidecar": "big"}
		w.Template.Annotations = map[string]string{"team": "a", "sidecar.istio.io/logLevel": "debug"}
		w.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "web:1"}, {Name: "istio-proxy", Image: "auto"}}
		return w
	}
	keys := []string{"sidecar"}
	want := questionKey(base(), keys)
	for _, tc := range []struct {
		name   string
		change func(*workload.Workload)
		same   bool
	}{
		{"another workload of the same sort", func(w *workload.Workload) { w.Name, w.UID, w.Kind = "api", "2", workload.StatefulSet }, true},
		{"another application", func(w *workload.Workload) { w.Template.Spec.Containers[0].Image = "api:1" }, true},
		{"a label that nothing selects by", func(w *workload.Workload) { w.Template.Labels["app"] = "api" }, true},
		{"an annotation that is not Istio's", func(w *workload.Workload) { w.Template.Annotations["team"] = "b" }, true},
		{"another namespace", func(w *workload.Workload) { w.Namespace = "bank" }, false},
		{"the host's network", func(w *workload.Workload) { w.Template.Spec.HostNetwork = true }, false},
		{"a label that something selects by", func(w *workload.Workload) { w.Template.Labels["sidecar"] = "small" }, false},
		{"without that label", func(w *workload.Workload) { delete(w.Template.Labels, "sidecar") }, false},
		{"an annotation of Istio's", func(w *workload.Workload) { w.Template.Annotations["proxy.istio.io/config"] = "{}" }, false},
		{"its own wishes about the proxy", func(w *workload.Workload) {
			w.Template.Spec.Containers[1].Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
		}, false},
		{"about a native proxy", func(w *workload.Workload) {
			w.Template.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy"}}
		}, false},
	} {
		w := base()
		tc.change(w)
		if got := questionKey(w, keys); (got == want) != tc.same {
			t.Errorf("%s: the same question is %v, want %v\n%s\n%s", tc.name, got == want, tc.same, want, got)
		}
	}
}
