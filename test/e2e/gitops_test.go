package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// fluxSync plays a sync of Flux's kustomize-controller: fields that managers
// whose name begins with kubectl wrote become the controller's own, so that the
// apply which follows prunes those that the manifest does not have (fluxcd/pkg
// ssa, PatchReplaceFieldsManagers; kustomize-controller
// internal/controller/kustomization_controller.go).
func (w *world) fluxSync(ns, name, manifest string) {
	w.T.Helper()
	const manager = "kustomize-controller"
	ctx := w.T.Context()
	api := w.Client().AppsV1().Deployments(ns)
	d, err := api.Get(ctx, name, metav1.GetOptions{})
	w.Check(err)
	fields, taken := d.ManagedFields[:0:0], false
	for _, f := range d.ManagedFields {
		if f.Subresource == "" && (strings.HasPrefix(f.Manager, "kubectl") || f.Manager == "before-first-apply") {
			f.Manager, f.Operation, taken = manager, metav1.ManagedFieldsOperationApply, true
		} else if f.Manager == manager {
			continue // the next apply writes it anew
		}
		fields = append(fields, f)
	}
	if taken {
		patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/metadata/managedFields", "value": fields}})
		w.Check(err)
		_, err = api.Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: manager})
		w.Check(err)
	}
	raw, err := yaml.YAMLToJSON([]byte(manifest))
	w.Check(err)
	force := true
	_, err = api.Patch(ctx, name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: manager, Force: &force})
	w.Check(err)
}

// deploymentOf is the manifest of the Deployment alone.
func deploymentOf(m manifest) string {
	first, _, _ := strings.Cut(m.String(), "\n---\n")
	return first
}

// settled gives the generation and the names of the pods' owner: what a sync
// must leave as they are.
func (w *world) settled(ns, name string) string {
	w.T.Helper()
	return w.RunKubectl("-n", ns, "get", "deployment", name, "-o", "jsonpath={.metadata.generation} {.spec.template.metadata.annotations}") +
		w.RunKubectl("-n", ns, "get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].metadata.uid}")
}

// The next sync of whatever owns a workload neither takes its restart back nor
// repeats it.
func TestGitOpsSyncLeavesTheRestart(t *testing.T) {
	w := sharedCluster(t)
	for _, c := range []struct {
		name, labels, notes string
		sync                func(w *world, ns, manifest string)
	}{
		{"flux", "kustomize.toolkit.fluxcd.io/name: shop, kustomize.toolkit.fluxcd.io/namespace: flux-system", "", func(w *world, ns, manifest string) {
			w.fluxSync(ns, "web", manifest)
		}},
		{"argocd-client", "app.kubernetes.io/instance: shop", "argocd.argoproj.io/tracking-id: 'shop:apps/Deployment:x/web'", func(w *world, ns, manifest string) {
			_, err := w.Kubectl(w.T.Context(), []byte(manifest), "apply", "-f", "-", "--field-manager=argocd-controller")
			w.Check(err)
		}},
		{"argocd-server", "argocd.argoproj.io/instance: shop", "", func(w *world, ns, manifest string) {
			_, err := w.Kubectl(w.T.Context(), []byte(manifest), "apply", "-f", "-", "--server-side", "--force-conflicts", "--field-manager=argocd-controller")
			w.Check(err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(w.Cluster, t)
			w.Inject(older)
			ns := "gitops-" + c.name
			w.InjectedNamespace(ns)
			manifest := deploymentOf(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2, Labels: c.labels, Annotations: c.notes})
			if c.name == "flux" {
				w.Apply(manifest) // there before the controller took it over
			}
			c.sync(w, ns, manifest)
			w.AwaitReady(ns, 2)
			w.Inject(newer)

			w.Must(0, "sidecars", "-n", ns, "--yes")

			w.WantProxies(ns, "web", map[string]int{newer: 2})
			before := w.settled(ns, "web")
			if !strings.Contains(before, "istio-upgrade/restarted") {
				t.Fatalf("no stamp: %s", before)
			}
			for range 2 {
				c.sync(w, ns, manifest)
			}
			if after := w.settled(ns, "web"); after != before {
				t.Errorf("the sync changed it:\nbefore %s\nafter  %s", before, after)
			}
			if c.name != "flux" {
				return
			}
			// The sync that is played here is one that does undo: kubectl's own
			// restart does not outlive it.
			w.RunKubectl("-n", ns, "rollout", "restart", "deployment/web")
			w.RunKubectl("-n", ns, "rollout", "status", "deployment/web", "--timeout=60s")
			c.sync(w, ns, manifest)
			if now := w.settled(ns, "web"); strings.Contains(now, "kubectl.kubernetes.io/restartedAt") {
				t.Errorf("kubectl's restart outlived the sync, so that it proves nothing: %s", now)
			}
		})
	}
}

// A helm upgrade of the workload's own release leaves the restart alone, by
// server-side apply and by the older three-way merge.
func TestGitOpsHelmUpgradeLeavesTheRestart(t *testing.T) {
	w := sharedCluster(t)
	for _, serverSide := range []string{"true", "false"} {
		t.Run("server-side="+serverSide, func(t *testing.T) {
			w := newWorld(w.Cluster, t)
			w.Inject(older)
			ns := "gitops-helm-" + serverSide
			w.InjectedNamespace(ns)
			chart := t.TempDir()
			w.Check(os.MkdirAll(filepath.Join(chart, "templates"), 0o755))
			w.Check(os.WriteFile(filepath.Join(chart, "Chart.yaml"), []byte("apiVersion: v2\nname: shop\nversion: 1.0.0\n"), 0o600))
			w.Check(os.WriteFile(filepath.Join(chart, "values.yaml"), []byte("tier: front\n"), 0o600))
			text := manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2, Labels: "tier: {{ .Values.tier }}"}.String()
			w.Check(os.WriteFile(filepath.Join(chart, "templates", "web.yaml"), []byte(text), 0o600))
			w.Check(w.Helm(t.Context(), "install", "shop", chart, "-n", ns, "--server-side="+serverSide))
			w.AwaitReady(ns, 2)
			w.Inject(newer)

			w.Must(0, "sidecars", "-n", ns, "--yes")

			w.WantProxies(ns, "web", map[string]int{newer: 2})
			before := w.settled(ns, "web")
			w.Check(w.Helm(t.Context(), "upgrade", "shop", chart, "-n", ns, "--set", "tier=back", "--server-side="+serverSide))
			if tier := w.RunKubectl("-n", ns, "get", "deployment", "web", "-o", "jsonpath={.metadata.labels.tier}"); tier != "back" {
				t.Fatalf("the upgrade did not reach the Deployment: tier %s", tier)
			}
			if after := w.settled(ns, "web"); after != before {
				t.Errorf("the upgrade changed it:\nbefore %s\nafter  %s", before, after)
			}
		})
	}
}

// A restart by grace period would be put back by the next sync, and so be
// repeated: that is said beforehand; so is that a manual sidecar would come
// back.
func TestGitOpsWarns(t *testing.T) {
	w := sharedCluster(t)
	ns := "gitops-warns"
	w.InjectedNamespace(ns)
	w.MakeNamespace(ns+"-manual", nil)
	flux := "kustomize.toolkit.fluxcd.io/name: shop, kustomize.toolkit.fluxcd.io/namespace: flux-system"
	w.Apply(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1, Labels: flux}.String(),
		w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns + "-manual", Replicas: 1, Labels: flux}.String()))
	w.AwaitReady(ns, 1)
	w.AwaitReady(ns+"-manual", 1)
	w.Inject(newer)
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"-n", ns, "--restart-with", "grace-period"}, []string{"Flux Kustomization flux-system/shop", "restart-with annotation"}},
		{[]string{"-n", ns + "-manual", istioctl()}, []string{"Flux Kustomization flux-system/shop", "puts the old sidecar back"}},
	} {
		o := w.Must(0, append([]string{"sidecars", "--dry-run"}, c.args...)...)
		for _, words := range c.says {
			if !strings.Contains(o.Stdout+o.Stderr, words) {
				t.Errorf("%v: %q is not said\n%s", c.args, words, o)
			}
		}
	}
	if o := w.Must(0, "sidecars", "--dry-run", "-n", ns); strings.Contains(o.Stdout+o.Stderr, "Flux") {
		t.Errorf("a restart by annotation needs no warning\n%s", o)
	}
}
