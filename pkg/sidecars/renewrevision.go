package sidecars

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"istio.io/api/annotation"
	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// revision gives the revision whose injector, or whose configuration for
// manual injection, the workload belongs to; empty where it could not be told.
func (s *subject) revision() string {
	switch {
	case len(s.Serving) > 0:
		return s.Serving[0].Revision
	case s.own != "" || s.unresolved != "":
		return s.own
	}
	for _, r := range s.asksFor() {
		if r != "" {
			return r
		}
	}
	return mesh.DefaultRevision
}

// asksFor gives what the labels ask for: a revision or a tag. The namespace's
// beats the pod's.
func (s *subject) asksFor() []string {
	return []string{s.Namespace.Labels[label.IoIstioRev.Name], s.W.Template.Labels[label.IoIstioRev.Name]}
}

// revisionByHand resolves the control plane that a workload injected by hand
// belongs to: the one whose webhook would serve it without its opt-out; the one
// that its labels name, be it by a tag; the one that injected it last; the one
// behind the tag `default`; the one without a revision; the only one. why says
// that it is none of these.
func (seen *observation) revisionByHand(s *subject) (revision, why string) {
	bare := maps.Clone(s.W.Template.Labels)
	delete(bare, label.SidecarInject.Name)
	if serving := mesh.Serving(seen.injectors, s.Namespace.Labels, bare, s.Ref.Namespace); len(serving) > 0 {
		return serving[0].Revision, ""
	}
	tags := map[string]string{}
	known := map[string]bool{}
	for _, i := range seen.injectors {
		if known[i.Revision] = true; i.Tag != "" {
			tags[i.Tag] = i.Revision
		}
	}
	for revision := range seen.injections {
		known[revision] = true
	}
	for _, asked := range s.asksFor() {
		switch {
		case tags[asked] != "":
			return tags[asked], ""
		case known[asked]:
			return asked, ""
		}
	}
	recorded := recordedRevision(&s.W.Template)
	switch {
	case known[recorded]:
		return recorded, ""
	case tags[mesh.DefaultRevision] != "":
		return tags[mesh.DefaultRevision], ""
	case known[mesh.DefaultRevision]:
		return mesh.DefaultRevision, ""
	case len(known) == 1:
		return slices.Collect(maps.Keys(known))[0], ""
	case len(known) == 0 && len(seen.unread) > 0: // what is there could not be read
		return mesh.DefaultRevision, ""
	case len(known) == 0:
		return "", "there is no control plane to inject it by"
	}
	return "", fmt.Sprintf("which control plane it belongs to cannot be told: its last injection names %q, and there are %s; label its namespace or its pods with %s",
		recorded, strings.Join(slices.Sorted(maps.Keys(known)), ", "), label.IoIstioRev.Name)
}

// recordedRevision is the revision that injected a template: by the status (1.11
// and later), or by the address of its istiod (istiod-REVISION.NAMESPACE.svc).
func recordedRevision(t *corev1.PodTemplateSpec) string {
	var status struct {
		Revision string `json:"revision"`
	}
	if json.Unmarshal([]byte(t.Annotations[annotation.SidecarStatus.Name]), &status) == nil && status.Revision != "" {
		return status.Revision
	}
	for _, c := range slices.Concat(t.Spec.Containers, t.Spec.InitContainers) {
		for _, env := range c.Env {
			if host, _, _ := strings.Cut(env.Value, "."); env.Name == "CA_ADDR" && c.Name == "istio-proxy" {
				if revision, revisioned := strings.CutPrefix(host, "istiod-"); revisioned {
					return revision
				}
			}
		}
	}
	return mesh.DefaultRevision
}

// unpromised says why nothing is known of the proxy that a workload injected by
// hand would get, so that whether it lags cannot be told; empty where it is known.
func (s *subject) unpromised() string {
	switch {
	case s.Answer.HasProxy:
		return ""
	case s.unresolved != "":
		return s.unresolved
	}
	return fmt.Sprintf("what revision %s injects is unknown: its ConfigMap %s could not be read, or says no tag; give --injection-values", s.revision(), mesh.InjectorConfigMap)
}
