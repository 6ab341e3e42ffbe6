package sidecars

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"istio.io/api/annotation"
	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// injectorFor is a revision's or a tag's injector as the charts select.
func injectorFor(revision, tag string) mesh.Injector {
	i := mesh.Injector{Revision: revision, Tag: tag}
	asked := revision
	if tag != "" {
		asked = tag
	}
	i.NamespaceSelector = labels.SelectorFromSet(labels.Set{label.IoIstioRev.Name: asked})
	optedOut, err := labels.NewRequirement(label.SidecarInject.Name, selection.NotIn, []string{"false"})
	if err != nil {
		panic(err)
	}
	i.ObjectSelector = labels.NewSelector().Add(*optedOut)
	return i
}

// TestRevisionByHand: which control plane a workload injected by hand belongs to.
func TestRevisionByHand(t *testing.T) {
	blue, green := injectorFor("blue", ""), injectorFor("green", "")
	prod, standard := injectorFor("blue", "prod"), injectorFor("green", "default")
	rev := func(r string) map[string]string { return map[string]string{label.IoIstioRev.Name: r} }
	for _, tc := range []struct {
		name       string
		injectors  []mesh.Injector
		injections []string
		namespace  map[string]string
		pod        map[string]string
		status     string
		ca         string
		want       string // or a part of why not
	}{
		{name: "a tag, without its own opt-out", injectors: []mesh.Injector{blue, green, prod}, namespace: rev("prod"), pod: map[string]string{label.SidecarInject.Name: "false"}, want: "blue"},
		{name: "a tag that only its label names", injectors: []mesh.Injector{blue, green, prod}, pod: rev("prod"), want: "blue"},
		{name: "a revision that only its label names", injectors: []mesh.Injector{blue, green}, pod: rev("green"), want: "green"},
		{name: "a label that names nothing, then its record", injectors: []mesh.Injector{blue, green}, namespace: rev("gone"), status: `{"revision":"green"}`, want: "green"},
		{name: "its istiod's address", injectors: []mesh.Injector{blue, green}, status: `{}`, ca: "istiod-green.istio-system.svc:15012", want: "green"},
		{name: "a record of what is gone, then the default tag", injectors: []mesh.Injector{blue, green, standard}, status: `{"revision":"old"}`, want: "green"},
		{name: "a control plane without a revision", injectors: []mesh.Injector{blue}, injections: []string{"default", "blue"}, status: `{"revision":"old"}`, want: "default"},
		{name: "the only control plane", injectors: []mesh.Injector{blue}, status: `{"revision":"default"}`, want: "blue"},
		{name: "one of two", injectors: []mesh.Injector{blue, green}, status: `{"revision":"default"}`, want: "cannot be told"},
		{name: "none", want: "no control plane"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &workload.Workload{}
			w.Template.Labels = tc.pod
			w.Template.Annotations = map[string]string{annotation.SidecarStatus.Name: tc.status}
			w.Template.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Env: []corev1.EnvVar{{Name: "CA_ADDR", Value: tc.ca}}}}
			s := &subject{facts: facts{W: w, Ref: workload.Ref{Namespace: "shop"}, Namespace: workload.Namespace{Labels: tc.namespace}}}
			seen := &observation{injectors: tc.injectors, injections: map[string]mesh.Injection{}}
			for _, r := range tc.injections {
				seen.injections[r] = mesh.Injection{}
			}
			got, why := seen.revisionByHand(s)
			if got != tc.want && (why == "" || !strings.Contains(why, tc.want)) {
				t.Errorf("revision %q (%s), want %q", got, why, tc.want)
			}
			s.own, s.unresolved = got, why
			if held := s.unpromised(); held == "" {
				t.Error("whether it lags is not known, yet it is not held")
			}
		})
	}
}
