package sidecars

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// source is what writes a workload's object from manifests of its own, and
// which pipeline keeps it from putting an old sidecar back.
type source struct{ name, cure string }

// sourceOf reads the marks that Helm (pkg/action/validate.go of helm), Flux
// (kustomize- and helm-controller) and Argo CD (util/argo/resource_tracking.go)
// leave on their objects.
func sourceOf(w *workload.Workload) (source, bool) {
	notes, labels := w.Annotations, w.Labels
	if name := labels["helm.toolkit.fluxcd.io/name"]; name != "" {
		return source{
			"Flux HelmRelease " + labels["helm.toolkit.fluxcd.io/namespace"] + "/" + name,
			"its next upgrade puts the old sidecar back: let the webhook inject (--to-webhook, and take the sidecar out of the chart)",
		}, true
	}
	if name := labels["kustomize.toolkit.fluxcd.io/name"]; name != "" {
		return source{
			"Flux Kustomization " + labels["kustomize.toolkit.fluxcd.io/namespace"] + "/" + name,
			"its next sync puts the old sidecar back: inject the manifests in its repository again (sidecars -f FILE --dry-run=client -o yaml)",
		}, true
	}
	if id := notes["argocd.argoproj.io/tracking-id"]; id != "" {
		name, _, _ := strings.Cut(id, ":")
		return argo(name), true
	}
	if name := labels["argocd.argoproj.io/instance"]; name != "" {
		return argo(name), true
	}
	if name := notes["meta.helm.sh/release-name"]; name != "" {
		return source{
			"Helm release " + notes["meta.helm.sh/release-namespace"] + "/" + name,
			"the next helm upgrade puts the old sidecar back: run it with a post-renderer that injects (kubectl istio-upgrade uninject -f - | istioctl kube-inject -f -)",
		}, true
	}
	if labels["app.kubernetes.io/managed-by"] == "Helm" {
		return source{"Helm", "the next helm upgrade puts the old sidecar back: run it with a post-renderer that injects (kubectl istio-upgrade uninject -f - | istioctl kube-inject -f -)"}, true
	}
	return source{}, false
}

func argo(application string) source {
	return source{
		"Argo CD application " + application,
		"its next sync puts the old sidecar back: inject the manifests in its repository again (sidecars -f FILE --dry-run=client -o yaml)",
	}
}

// sourceWarnings names, by source, the workloads injected by hand whose next
// sync would take the new sidecar out again.
func sourceWarnings(subjects []*subject) []string {
	names, cures := map[string][]string{}, map[string]string{}
	for _, s := range subjects {
		if s.W == nil || s.item.Verdict != ByHand && s.item.Verdict != Mixed || !s.item.Lags {
			continue
		}
		from, ok := sourceOf(s.W)
		if !ok {
			continue
		}
		s.item.Owner = from.name
		names[from.name] = append(names[from.name], s.Ref.In())
		cures[from.name] = from.cure
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, fmt.Sprintf("%s comes from %s; %s", strings.Join(names[name], ", "), name, cures[name]))
	}
	return out
}

// graceWarnings names, by source, the workloads whose restart by grace period the
// next sync would put back, which restarts them again.
func graceWarnings(o *Options, subjects []*subject) []string {
	if o.RestartWith != RestartByGracePeriod {
		return nil
	}
	names := map[string][]string{}
	for _, s := range subjects {
		if s.item.How != Restart || s.Ref.Is(workload.Rollout) {
			continue
		}
		if from, ok := sourceOf(s.W); ok {
			names[from.name] = append(names[from.name], s.Ref.In())
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, fmt.Sprintf("%s comes from %s; where its manifests name the grace period the next sync puts that back, which restarts it once more: use --restart-with annotation", strings.Join(names[name], ", "), name))
	}
	return out
}

// mixedWarnings says of workloads injected by hand and by the webhook again
// that the sidecar in the template is left over.
func mixedWarnings(subjects []*subject) []string {
	var out []string
	for _, s := range subjects {
		if s.item.Verdict == Mixed && s.item.Lags {
			out = append(out, s.Ref.In()+" has a sidecar in its template and is injected by the webhook again: the restart renews its proxy, and the old sidecar's settings stay in its template; kubectl istio-upgrade uninject takes them out")
		}
	}
	return out
}
