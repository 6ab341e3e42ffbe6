package inject

import (
	"fmt"
	"slices"
	"strings"

	"istio.io/api/annotation"
)

// restoreAnnotations drops what the injector wrote and puts back what it
// replaced. Annotations that no injector of this release writes stay.
func (w *work) restoreAnnotations(r record, firstApp string, agentPorts map[string]bool) {
	a := w.annotations()
	original := map[string]string{}
	if t, ok := w.lastApplied(); ok {
		original = t.annotations()
	}
	keep := func(key string) bool { v, had := original[key]; return had && v == a[key] }

	delete(a, statusAnnotation)
	delete(a, overridesAnnotation)
	if value, set := a[revKey]; set && !w.era.before(11) && !keep(revKey) {
		field := fmt.Sprintf("annotations[%s]", revKey)
		switch {
		case !w.revisions()[value]:
			w.note(field, fmt.Sprintf("%q is kept: the injector was of another revision, so it is yours", value))
		case w.era.since(11):
			delete(a, revKey)
		default:
			w.note(field, fmt.Sprintf("%q is kept: %s", value, unknownRelease))
		}
	}
	for _, key := range []string{defaultContainer, defaultLogsContainer} {
		if was, had := r.annotations[key]; had {
			a[key] = was
		} else if w.writesDefaultContainer() && a[key] == firstApp && !keep(key) {
			delete(a, key)
		} else if w.guessing(9) && a[key] == firstApp && firstApp != "" && !keep(key) {
			w.note(fmt.Sprintf("annotations[%s]", key), fmt.Sprintf("%q is kept: %s", firstApp, unknownRelease))
		}
	}
	w.restorePrometheus(a, r, agentPorts)
	if secure := w.env[envSecureMetrics]; secure != "" && a[prometheusSecurePort] == secure && !keep(prometheusSecurePort) {
		delete(a, prometheusSecurePort)
	}
	if w.proxyless() && a[annotation.SidecarRewriteAppHTTPProbers.Name] == "false" {
		delete(a, annotation.SidecarRewriteAppHTTPProbers.Name)
	}
	w.restoreNetworks(a)
	w.restoreRedirect(a, r, agentPorts)
	w.removeContainerAnnotations(a)
	w.setMeta("annotations", a)
}

// unknownRelease is why something is kept that an injector may have written.
const unknownRelease = "it may be yours or the injector's, whose release cannot be told without the status annotation"

// guessing: the status is lost, and whether the injection is from this minor on
// cannot be told.
func (w *work) guessing(minor int) bool {
	return w.taken.FoundBy == FoundByForm && !w.era.since(minor) && !w.era.before(minor)
}

// revisions are the values that the injector gives its revision.
func (w *work) revisions() map[string]bool {
	set := values("", "default", w.proxyRevision())
	if w.status.Revision != nil {
		set[*w.status.Revision] = true
	}
	return set
}

// writesDefaultContainer: the logs one since 1.9, the other since 1.10; to 1.13,
// and by the gateway template always, only where the pod has one container.
func (w *work) writesDefaultContainer() bool {
	if w.role == "" || !w.era.since(9) {
		return false
	}
	single := len(appContainers(w.env)) <= 1
	return single || w.role == "sidecar" && !w.era.before(14)
}

// proxyless gRPC templates set rewriteAppHTTPProbers to "false" themselves.
func (w *work) proxyless() bool {
	return slices.Contains(w.status.InitContainers, grpcInitContainer) || w.env[envGenerator] == "grpc"
}

// restorePrometheus: since 1.7 the three annotations point to the agent, and the
// originals stand in the proxy's environment (applyPrometheusMerge in
// webhook.go; kube-inject 1.7 loses them there, the record of all annotations
// has them).
func (w *work) restorePrometheus(a map[string]string, r record, agentPorts map[string]bool) {
	ours := a[prometheusPath] == "/stats/prometheus" && a[prometheusScrape] == "true" &&
		(agentPorts[a[prometheusPort]] || r.prometheus != nil)
	if !ours || w.era.before(6) || a[annotation.PrometheusMergeMetrics.Name] == "false" {
		return
	}
	keys := []string{prometheusScrape, prometheusPort, prometheusPath}
	for _, key := range keys {
		delete(a, key)
	}
	switch {
	case r.prometheus != nil:
		r.prometheus.restore(a)
	case w.role == "":
		w.note("annotations[prometheus.io/*]", "pointed to Istio's agent and are removed; what was there before is not recorded where there is no proxy")
	case r.annotations != nil:
		for _, key := range keys {
			if was, had := r.annotations[key]; had {
				a[key] = was
			}
		}
	}
}

// restore writes the annotations of a record. With several targets the port and
// path are those of the first, whatever the user had there.
func (p *prometheusRecord) restore(a map[string]string) {
	port, path := p.Port, p.Path
	if len(p.Targets) > 0 {
		targets := make([]string, len(p.Targets))
		for i, t := range p.Targets {
			targets[i] = t.Port + ":" + t.Path
		}
		a[prometheusTargets] = strings.Join(targets, ",")
		port, path = "", ""
	}
	for key, value := range map[string]string{prometheusScrape: p.Scrape, prometheusPort: port, prometheusPath: path} {
		if value != "" {
			a[key] = value
		}
	}
}

// restoreNetworks takes Istio's network out of a Multus list as the injector
// puts it in: at the end (appendMultusNetwork in template.go).
func (w *work) restoreNetworks(a map[string]string) {
	value, set := a[multusNetworks]
	if !set {
		return
	}
	for _, network := range []string{"default/istio-cni", "istio-cni"} {
		if strings.TrimSpace(value) == network {
			delete(a, multusNetworks)
			return
		}
		if before, cut := strings.CutSuffix(value, ", "+network); cut {
			a[multusNetworks] = before
			return
		}
	}
	entries := []string{`, {"name": "istio-cni", "namespace": "default"}`, `, {"name": "default/istio-cni"}`, `, {"name": "istio-cni"}`}
	for _, entry := range entries {
		if i := strings.LastIndex(value, entry+"]"); i >= 0 {
			a[multusNetworks] = value[:i] + value[i+len(entry):]
			return
		}
	}
}
