package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

const virtualServices = "virtualservices.networking.istio.io"

// crdCluster gives a cluster without an istiod: the step needs none.
func crdCluster(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{AuditLog: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(c, t)
	w.Check(w.CreateNamespace(ctx, lab.IstioNamespace, nil))
	w.Check(w.CreateNamespace(ctx, "shop", nil))
	return w
}

// in gives the same cluster to a subtest, without any definition or release.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	sub := newWorld(w.Cluster, t)
	for _, release := range strings.Fields(sub.RunKubectl("get", "secrets", "-A", "-l", "owner=helm", "-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.labels.name}{"\n"}{end}`)) {
		namespace, name, _ := strings.Cut(release, "/")
		if err := sub.Helm(t.Context(), "uninstall", name, "--namespace", namespace, "--ignore-not-found"); err != nil {
			t.Fatal(err)
		}
	}
	if names := sub.definitions(); len(names) > 0 {
		args := []string{"delete", "customresourcedefinition"}
		for name := range names {
			args = append(args, name)
		}
		sub.RunKubectl(args...)
	}
	return sub
}

// definitions gives the UIDs of Istio's definitions.
func (w *world) definitions() map[string]string {
	w.T.Helper()
	uids := map[string]string{}
	for line := range strings.Lines(w.RunKubectl("get", "crd", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}`)) {
		if name, uid, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasSuffix(name, ".istio.io") {
			uids[name] = uid
		}
	}
	return uids
}

// crdPlan is the document of the step, as far as the tests read it.
type crdPlan struct {
	Plan struct {
		Action string `json:"action"`
		Backup string `json:"backup"`
		CRDs   []struct {
			Name, Action, AdoptedFrom, Owner string
		} `json:"crds"`
		Invalid []struct {
			Kind, Name string
			Errors     []string
		} `json:"invalid"`
		LeftoverJobs []string `json:"leftoverJobs"`
		Refusals     []struct{ Object, Reason string }
	} `json:"plan"`
}

func crdsOf(t *testing.T, o outcome) crdPlan {
	t.Helper()
	var p crdPlan
	if err := json.Unmarshal([]byte(o.Stdout), &p); err != nil {
		t.Fatalf("stdout is no document: %v\n%s", err, o)
	}
	return p
}

// writesButLocks gives what the plugin wrote so far, its locks aside.
func (w *world) writesButLocks() []string {
	w.T.Helper()
	return slices.DeleteFunc(w.Writes(), func(request string) bool { return strings.Contains(request, "/leases") })
}

// base installs the chart base of a version as users do.
func (w *world) base(version string) {
	w.T.Helper()
	w.Check(w.Helm(w.T.Context(), "install", "istio-base", clustertest.Parts.Chart("base", version), "--namespace", lab.IstioNamespace,
		"--set", "base.validationURL=https://localhost:1/validate", "--set", "global.mine=kept"))
	w.AwaitEstablished()
}

func virtualService(version, name string) string {
	return fmt.Sprintf(`{apiVersion: networking.istio.io/%s, kind: VirtualService, metadata: {name: %s, namespace: shop},
  spec: {hosts: [%s.example], http: [{route: [{destination: {host: a}}]}]}}`, version, name, name)
}

// services gives the specs of the VirtualServices by name, and their UIDs.
func (w *world) services() (specs, uids map[string]string) {
	w.T.Helper()
	specs, uids = map[string]string{}, map[string]string{}
	for line := range strings.Lines(w.RunKubectl("get", virtualServices, "-n", "shop", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.spec}{"\n"}{end}`)) {
		if fields := strings.SplitN(strings.TrimSpace(line), " ", 3); len(fields) == 3 {
			specs[fields[0]], uids[fields[0]] = fields[2], fields[1]
		}
	}
	return specs, uids
}

// unchanged runs something and checks that no definition that was there before
// and no VirtualService got another UID.
func (w *world) unchanged(do func()) {
	w.T.Helper()
	before, after := w.definitions(), map[string]string{}
	_, services := w.services()
	do()
	for name, uid := range w.definitions() {
		if _, old := before[name]; old {
			after[name] = uid
		}
	}
	if !maps.Equal(before, after) {
		w.T.Errorf("definitions were made anew or lost: %v, now %v", before, after)
	}
	if _, now := w.services(); !maps.Equal(services, now) {
		w.T.Errorf("objects were made anew or lost: %v, now %v", services, now)
	}
}

// silent runs the step again and checks that it writes nothing.
func (w *world) silent(args ...string) {
	w.T.Helper()
	before := w.Writes()
	o := w.Must(0, args...)
	if after := w.Writes(); len(after) != len(before) {
		w.T.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// chartWithFolder makes a chart base as it was up to 1.23: the definitions lie
// in its crds folder.
func (w *world) chartWithFolder(version string) string {
	w.T.Helper()
	dir := filepath.Join(w.T.TempDir(), "base")
	w.Check(os.CopyFS(dir, os.DirFS(filepath.Join(clustertest.Parts.ChartFolder(version), "base"))))
	w.Check(os.MkdirAll(filepath.Join(dir, "crds"), 0o755))
	w.Check(os.Rename(filepath.Join(dir, "files", "crd-all.gen.yaml"), filepath.Join(dir, "crds", "crd-all.gen.yaml")))
	w.Check(os.Remove(filepath.Join(dir, "templates", "crds.yaml")))
	return dir
}

func TestCRDs(t *testing.T) {
	cluster := crdCluster(t)
	charts := []string{"--charts", clustertest.Parts.PackagedCharts(), "--tag", newer}
	step := func(more ...string) []string { return append(append([]string{"crds"}, charts...), more...) }

	t.Run("upgrades the release and loses nothing", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.Apply(virtualService("v1", "a"), virtualService("v1", "b"), virtualService("v1", "c"))
		w.unchanged(func() { w.Must(0, step("--yes")...) })
		if got := w.RunKubectl("get", "crd", virtualServices, "-o", `jsonpath={.metadata.labels.app\.kubernetes\.io/version}`); got != newer {
			t.Errorf("the definition is of %q", got)
		}
		if values := w.helmValues("istio-base"); !strings.Contains(values, `"mine":"kept"`) {
			t.Errorf("the user's values are %s", values)
		}
		w.silent(step("--yes")...)
	})

	t.Run("a dry run changes nothing", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		before := len(w.Writes())
		for _, how := range []string{"client", "server"} {
			w.Must(0, step("--dry-run="+how)...)
		}
		if after := w.Writes(); len(after) != before {
			t.Errorf("a dry run wrote %v", after[before:])
		}
		if p := crdsOf(t, w.Must(0, step("--dry-run", "-o", "json")...)); p.Plan.Action != "upgrade" || len(p.Plan.CRDs) != len(w.definitions()) {
			t.Errorf("plan: %+v", p.Plan)
		}
	})

	t.Run("the backup restores what is deleted", func(t *testing.T) { backupRestores(cluster.in(t)) })

	t.Run("a backup that cannot be written stops before the first write", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.Apply(virtualService("v1", "a"))
		blocked := filepath.Join(t.TempDir(), "file")
		w.Check(os.WriteFile(blocked, nil, 0o600))
		before := len(w.writesButLocks())
		o := w.Must(1, step("--yes", "--backup-dir", filepath.Join(blocked, "backup"))...)
		if after := w.writesButLocks(); len(after) != before || !strings.Contains(o.Stderr, "nothing was changed") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
	})

	t.Run("adopts definitions so that the next helm upgrade goes through", func(t *testing.T) {
		w := cluster.in(t)
		chart := w.chartWithFolder(older)
		w.RunKubectl("apply", "-f", filepath.Join(chart, "crds"))
		w.AwaitEstablished()
		w.Check(w.Helm(t.Context(), "install", "istio-base", chart, "--namespace", lab.IstioNamespace, "--set", "base.validationURL=https://localhost:1/validate"))
		w.Apply(virtualService("v1", "a"), virtualService("v1", "b"), virtualService("v1", "c"))
		w.unchanged(func() {
			p := crdsOf(t, w.Must(0, step("--yes", "-o", "json")...))
			for _, crd := range p.Plan.CRDs {
				if crd.AdoptedFrom != "nobody" {
					t.Errorf("%s is adopted from %q", crd.Name, crd.AdoptedFrom)
				}
			}
			w.Check(w.Helm(t.Context(), "upgrade", "istio-base", clustertest.Parts.Chart("base", older), "--namespace", lab.IstioNamespace, "--reset-then-reuse-values"))
			w.Check(w.Helm(t.Context(), "upgrade", "istio-base", clustertest.Parts.Chart("base", newer), "--namespace", lab.IstioNamespace, "--reset-then-reuse-values"))
		})
		w.silent(step("--yes")...)
	})

	t.Run("a crds folder is applied before the release", func(t *testing.T) {
		w := cluster.in(t)
		w.Check(w.Helm(t.Context(), "install", "istio-base", w.chartWithFolder(older), "--namespace", lab.IstioNamespace))
		w.AwaitEstablished()
		w.Apply(virtualService("v1", "a"))
		args := []string{"crds", "--tag", newer, "--charts", w.chartWithFolder(newer), "--yes"}
		w.unchanged(func() { w.Must(0, args...) })
		if managers := w.RunKubectl("get", "crd", virtualServices, "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}"); strings.Contains(managers, "istio-upgrade") {
			t.Errorf("managers: %s", managers)
		}
		w.silent(args...)
	})

	t.Run("applies definitions where there is no release whatever kubectl left on them", func(t *testing.T) {
		w := cluster.in(t)
		w.RunKubectl("apply", "--server-side", "-f", filepath.Join(clustertest.Parts.ChartFolder(older), "base", "files", "crd-all.gen.yaml"))
		w.AwaitEstablished()
		w.Apply(virtualService("v1", "a"))
		w.Want(w.Must(0, "crds", "--tag", newer, "--charts", clustertest.Parts.ChartFolder(older), "--dry-run"), "is not of the target's version "+newer)
		const note = "kubectl.kubernetes.io/last-applied-configuration"
		w.Check(w.annotate(virtualServices, note, strings.Repeat("x", 250<<10)))
		w.unchanged(func() { w.Must(0, step("--yes")...) })
		if got := w.RunKubectl("get", "crd", virtualServices, "-o", "jsonpath={.metadata.annotations}"); strings.Contains(got, note) {
			t.Error("the stale annotation is still there")
		}
		w.silent(step("--yes")...)
	})

	t.Run("goes on where a killed run stopped", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.Apply(virtualService("v1", "a"))
		w.unchanged(func() {
			killed := w.Command(t.Context(), step("--yes")...)
			w.Check(killed.Start())
			w.Eventually("the record of the new revision", func() string {
				if _, err := w.Kubectl(t.Context(), nil, "get", "secret", "-n", lab.IstioNamespace, "sh.helm.release.v1.istio-base.v2"); err != nil {
					return err.Error()
				}
				return ""
			})
			w.Check(killed.Process.Kill())
			if err := killed.Wait(); err == nil {
				t.Skip("the run was done before it could be killed")
			}
			w.Must(0, step("--yes")...)
		})
		w.silent(step("--yes")...)
	})

	t.Run("refuses what another release owns unless it is named", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		chart := t.TempDir()
		w.Check(os.WriteFile(filepath.Join(chart, "Chart.yaml"), []byte("{apiVersion: v2, name: umbrella, version: 0.1.0}"), 0o644))
		w.Check(w.Helm(t.Context(), "install", "umbrella", chart, "--namespace", "shop"))
		w.RunKubectl("annotate", "--overwrite", "crd", virtualServices, "meta.helm.sh/release-name=umbrella", "meta.helm.sh/release-namespace=shop")
		before := len(w.Writes())
		o := w.Must(3, step("--yes", "--force")...)
		if after := w.Writes(); len(after) != before || !strings.Contains(o.Stderr, "umbrella in shop") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
		w.Must(0, step("--yes", "--adopt-from", "shop/umbrella")...)
		if got := w.RunKubectl("get", "crd", virtualServices, "-o", `jsonpath={.metadata.annotations.meta\.helm\.sh/release-name}`); got != "istio-base" {
			t.Errorf("the owner is %q", got)
		}
	})

	t.Run("refuses an upgrade that would delete a definition", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.Apply(virtualService("v1", "a"))
		w.RunKubectl("annotate", "crd", virtualServices, "helm.sh/resource-policy-")
		w.Check(w.Helm(t.Context(), "upgrade", "istio-base", clustertest.Parts.Chart("base", older), "--namespace", lab.IstioNamespace, "--reuse-values",
			"--set", "base.validationURL=https://localhost:2/validate"))
		w.RunKubectl("annotate", "--overwrite", "crd", virtualServices, "helm.sh/resource-policy-")
		chart := filepath.Join(t.TempDir(), "base")
		w.Check(os.CopyFS(chart, os.DirFS(filepath.Join(clustertest.Parts.ChartFolder(newer), "base"))))
		w.dropDefinition(filepath.Join(chart, "files", "crd-all.gen.yaml"), virtualServices)
		refused := func() {
			o := w.Must(3, "crds", "--tag", newer, "--charts", chart, "--yes", "--force")
			if !strings.Contains(o.Stderr, virtualServices) || !strings.Contains(o.Stderr, "would delete it") {
				t.Error(o)
			}
		}
		w.unchanged(func() {
			refused()
			// A revision that failed and is without the definition changes nothing: Helm
			// compares with the one in force.
			wrong := filepath.Join(chart, "templates", "wrong.yaml")
			w.Check(os.WriteFile(wrong, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_A_Name}}"), 0o644))
			if err := w.Helm(t.Context(), "upgrade", "istio-base", chart, "--namespace", lab.IstioNamespace, "--reuse-values"); err == nil {
				t.Error("an upgrade with a wrong object went through")
			}
			w.Check(os.Remove(wrong))
			refused()
		})
	})

	t.Run("lists objects that the target refuses", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		// As an object looks that was stored before its schema was narrowed.
		w.RunKubectl("patch", "crd", virtualServices, "--type=json", "-p",
			`[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/hosts/items","value":{"type":"integer"}}]`)
		w.Eventually("the wider schema", func() string {
			_, err := w.Kubectl(t.Context(), []byte(`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: odd, namespace: shop}, spec: {hosts: [7]}}`), "apply", "-f", "-")
			if err != nil {
				return err.Error()
			}
			return ""
		})
		o := w.Must(3, step("--yes", "-o", "json")...)
		p := crdsOf(t, o)
		if len(p.Plan.Invalid) != 1 || p.Plan.Invalid[0].Name != "odd" || !strings.Contains(p.Plan.Invalid[0].Errors[0], "spec.hosts[0]") {
			t.Errorf("invalid: %+v", p.Plan.Invalid)
		}
		w.unchanged(func() { w.Must(0, step("--yes", "--force")...) })
	})

	t.Run("external definitions are only compared", func(t *testing.T) {
		w := cluster.in(t)
		w.RunKubectl("apply", "--server-side", "-f", filepath.Join(clustertest.Parts.ChartFolder(older), "base", "files", "crd-all.gen.yaml"))
		w.AwaitEstablished()
		w.RunKubectl("annotate", "crd", virtualServices, "argocd.argoproj.io/tracking-id=mesh:x")
		before := len(w.Writes())
		w.Must(3, step("--external", "--yes")...)
		w.Must(0, "crds", "--charts", clustertest.Parts.PackagedCharts(), "--tag", older, "--external")
		o := w.Must(3, step("--yes")...)
		if after := w.Writes(); len(after) != before || !strings.Contains(o.Stderr, "Argo CD Application mesh") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
		// Also where a release is there whose values switch them off.
		w.Check(w.Helm(t.Context(), "install", "istio-base", clustertest.Parts.Chart("base", older), "--namespace", lab.IstioNamespace,
			"--set", "global.resourceScope=namespace"))
		w.Must(3, step("--external")...)
		w.Must(0, "crds", "--charts", clustertest.Parts.PackagedCharts(), "--tag", older, "--external")
		w.Want(w.Must(1, step("--yes")...), "give --external")
	})

	t.Run("bad input", func(t *testing.T) {
		w := cluster.in(t)
		if o := w.Must(1, step("--yes")...); !strings.Contains(o.Stderr, "no Istio") {
			t.Error(o)
		}
		w.base(older)
		for text, args := range map[string][]string{
			"is no version":        {"crds", "--tag", "newest", "--charts", clustertest.Parts.PackagedCharts()},
			"nearest: 1.31.0":      {"crds", "--tag", "1.77.0", "--charts", clustertest.Parts.PackagedCharts()},
			"neither a folder":     {"crds", "--tag", newer, "--charts", "./nowhere"},
			"no chart base":        {"crds", "--tag", newer, "--charts", t.TempDir()},
			"holds the chart cni,": {"crds", "--tag", newer, "--charts", clustertest.Parts.Chart("cni", newer)},
		} {
			if o := w.Must(1, args...); !strings.Contains(o.Stderr, text) || strings.Count(o.Stderr, "\n") != 1 {
				t.Errorf("want one line with %q\n%s", text, o)
			}
		}
	})
}

// annotate puts a note on a definition that is too long for a command line.
func (w *world) annotate(crd, key, value string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
	if err != nil {
		return err
	}
	file := filepath.Join(w.T.TempDir(), "patch.json")
	if err := os.WriteFile(file, patch, 0o600); err != nil {
		return err
	}
	_, err = w.Kubectl(w.T.Context(), nil, "patch", "crd", crd, "--type=merge", "--patch-file", file)
	return err
}

// dropDefinition takes a definition out of a file of several.
func (w *world) dropDefinition(file, name string) {
	w.T.Helper()
	text, err := os.ReadFile(file)
	w.Check(err)
	var kept []string
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(doc, "  name: "+name+"\n") {
			kept = append(kept, doc)
		}
	}
	if len(kept) == strings.Count(string(text), "\n---\n")+1 {
		w.Check(errors.New(name + " is not in " + file))
	}
	w.Check(os.WriteFile(file, []byte(strings.Join(kept, "\n---\n")), 0o644))
}

// helmValues gives what the user set for a release, as JSON.
func (w *world) helmValues(release string) string {
	w.T.Helper()
	cmd := w.Command(w.T.Context())
	cmd.Path, cmd.Args = clustertest.Parts.Bin("helm"), []string{"helm", "get", "values", release, "--namespace", lab.IstioNamespace, "-o", "json"}
	out, err := cmd.Output()
	w.Check(err)
	return string(out)
}
