package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const virtualServices = "virtualservices.networking.istio.io"

// crdCluster gives a cluster without an istiod: the step needs none.
func crdCluster(t *testing.T) *world {
	t.Helper()
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
	w := &world{Cluster: c, t: t}
	w.check(w.CreateNamespace(ctx, lab.IstioNamespace, nil))
	w.check(w.CreateNamespace(ctx, "shop", nil))
	return w
}

// in gives the same cluster to a subtest, without any definition or release.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	sub := &world{Cluster: w.Cluster, t: t}
	for _, release := range strings.Fields(sub.kubectl("get", "secrets", "-A", "-l", "owner=helm", "-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.labels.name}{"\n"}{end}`)) {
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
		sub.kubectl(args...)
	}
	return sub
}

// definitions gives the UIDs of Istio's definitions.
func (w *world) definitions() map[string]string {
	w.t.Helper()
	uids := map[string]string{}
	for line := range strings.Lines(w.kubectl("get", "crd", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}`)) {
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

func (o outcome) crds(t *testing.T) crdPlan {
	t.Helper()
	var p crdPlan
	if err := json.Unmarshal([]byte(o.Stdout), &p); err != nil {
		t.Fatalf("stdout is no document: %v\n%s", err, o)
	}
	return p
}

// base installs the chart base of a version as users do.
func (w *world) base(version string) {
	w.t.Helper()
	w.check(w.Helm(w.t.Context(), "install", "istio-base", parts.Chart("base", version), "--namespace", lab.IstioNamespace,
		"--set", "base.validationURL=https://localhost:1/validate", "--set", "global.mine=kept"))
	w.established()
}

func (w *world) established() {
	w.t.Helper()
	args := []string{"wait", "--for=condition=Established", "--timeout=60s"}
	for name := range w.definitions() {
		args = append(args, "crd/"+name)
	}
	w.kubectl(args...)
}

func virtualService(version, name string) string {
	return fmt.Sprintf(`{apiVersion: networking.istio.io/%s, kind: VirtualService, metadata: {name: %s, namespace: shop},
  spec: {hosts: [%s.example], http: [{route: [{destination: {host: a}}]}]}}`, version, name, name)
}

// services gives the specs of the VirtualServices by name, and their UIDs.
func (w *world) services() (specs, uids map[string]string) {
	w.t.Helper()
	specs, uids = map[string]string{}, map[string]string{}
	for line := range strings.Lines(w.kubectl("get", virtualServices, "-n", "shop", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.spec}{"\n"}{end}`)) {
		if fields := strings.SplitN(strings.TrimSpace(line), " ", 3); len(fields) == 3 {
			specs[fields[0]], uids[fields[0]] = fields[2], fields[1]
		}
	}
	return specs, uids
}

// unchanged runs something and checks that no definition that was there before
// and no VirtualService got another UID.
func (w *world) unchanged(do func()) {
	w.t.Helper()
	before, after := w.definitions(), map[string]string{}
	_, services := w.services()
	do()
	for name, uid := range w.definitions() {
		if _, old := before[name]; old {
			after[name] = uid
		}
	}
	if !maps.Equal(before, after) {
		w.t.Errorf("definitions were made anew or lost: %v, now %v", before, after)
	}
	if _, now := w.services(); !maps.Equal(services, now) {
		w.t.Errorf("objects were made anew or lost: %v, now %v", services, now)
	}
}

// silent runs the step again and checks that it writes nothing.
func (w *world) silent(args ...string) {
	w.t.Helper()
	before := w.writes()
	o := w.must(0, args...)
	if after := w.writes(); len(after) != len(before) {
		w.t.Errorf("the second run wrote: %v\n%s", after[len(before):], o)
	}
}

// chartWithFolder makes a chart base as it was up to 1.23: the definitions lie
// in its crds folder.
func (w *world) chartWithFolder(version string) string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "base")
	w.check(os.CopyFS(dir, os.DirFS(filepath.Join(parts.ChartFolder(version), "base"))))
	w.check(os.MkdirAll(filepath.Join(dir, "crds"), 0o755))
	w.check(os.Rename(filepath.Join(dir, "files", "crd-all.gen.yaml"), filepath.Join(dir, "crds", "crd-all.gen.yaml")))
	w.check(os.Remove(filepath.Join(dir, "templates", "crds.yaml")))
	return dir
}

func TestCRDs(t *testing.T) {
	cluster := crdCluster(t)
	charts := []string{"--charts", parts.PackagedCharts(), "--tag", newer}
	step := func(more ...string) []string { return append(append([]string{"crds"}, charts...), more...) }

	t.Run("upgrades the release and loses nothing", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.apply(virtualService("v1", "a"), virtualService("v1", "b"), virtualService("v1", "c"))
		w.unchanged(func() { w.must(0, step("--yes")...) })
		if got := w.kubectl("get", "crd", virtualServices, "-o", `jsonpath={.metadata.labels.app\.kubernetes\.io/version}`); got != newer {
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
		before := len(w.writes())
		for _, how := range []string{"client", "server"} {
			w.must(0, step("--dry-run="+how)...)
		}
		if after := w.writes(); len(after) != before {
			t.Errorf("a dry run wrote %v", after[before:])
		}
		if p := w.must(0, step("--dry-run", "-o", "json")...).crds(t); p.Plan.Action != "upgrade" || len(p.Plan.CRDs) != len(w.definitions()) {
			t.Errorf("plan: %+v", p.Plan)
		}
	})

	t.Run("the backup restores what is deleted", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.apply(virtualService("v1", "a"), virtualService("v1", "b"))
		before, _ := w.services()
		folder := filepath.Join(t.TempDir(), "backup")
		w.must(0, step("--yes", "--backup-dir", folder)...)
		w.kubectl("delete", virtualServices, "--all", "-n", "shop")
		w.kubectl("apply", "-f", folder)
		if after, _ := w.services(); !maps.Equal(before, after) {
			t.Errorf("restored %v of %v", after, before)
		}
	})

	t.Run("a backup that cannot be written stops before the first write", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.apply(virtualService("v1", "a"))
		blocked := filepath.Join(t.TempDir(), "file")
		w.check(os.WriteFile(blocked, nil, 0o600))
		before := len(w.writes())
		o := w.must(1, step("--yes", "--backup-dir", filepath.Join(blocked, "backup"))...)
		if after := w.writes(); len(after) != before || !strings.Contains(o.Stderr, "nothing was changed") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
	})

	t.Run("adopts definitions so that the next helm upgrade goes through", func(t *testing.T) {
		w := cluster.in(t)
		chart := w.chartWithFolder(older)
		w.kubectl("apply", "-f", filepath.Join(chart, "crds"))
		w.established()
		w.check(w.Helm(t.Context(), "install", "istio-base", chart, "--namespace", lab.IstioNamespace, "--set", "base.validationURL=https://localhost:1/validate"))
		w.apply(virtualService("v1", "a"), virtualService("v1", "b"), virtualService("v1", "c"))
		w.unchanged(func() {
			p := w.must(0, step("--yes", "-o", "json")...).crds(t)
			for _, crd := range p.Plan.CRDs {
				if crd.AdoptedFrom != "nobody" {
					t.Errorf("%s is adopted from %q", crd.Name, crd.AdoptedFrom)
				}
			}
			w.check(w.Helm(t.Context(), "upgrade", "istio-base", parts.Chart("base", older), "--namespace", lab.IstioNamespace, "--reset-then-reuse-values"))
			w.check(w.Helm(t.Context(), "upgrade", "istio-base", parts.Chart("base", newer), "--namespace", lab.IstioNamespace, "--reset-then-reuse-values"))
		})
		w.silent(step("--yes")...)
	})

	t.Run("a crds folder is applied before the release", func(t *testing.T) {
		w := cluster.in(t)
		w.check(w.Helm(t.Context(), "install", "istio-base", w.chartWithFolder(older), "--namespace", lab.IstioNamespace))
		w.established()
		w.apply(virtualService("v1", "a"))
		args := []string{"crds", "--tag", newer, "--charts", w.chartWithFolder(newer), "--yes"}
		w.unchanged(func() { w.must(0, args...) })
		if managers := w.kubectl("get", "crd", virtualServices, "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}"); strings.Contains(managers, "istio-upgrade") {
			t.Errorf("managers: %s", managers)
		}
		w.silent(args...)
	})

	t.Run("applies definitions where there is no release whatever kubectl left on them", func(t *testing.T) {
		w := cluster.in(t)
		w.kubectl("apply", "--server-side", "-f", filepath.Join(parts.ChartFolder(older), "base", "files", "crd-all.gen.yaml"))
		w.established()
		w.apply(virtualService("v1", "a"))
		const note = "kubectl.kubernetes.io/last-applied-configuration"
		w.check(w.annotate(virtualServices, note, strings.Repeat("x", 250<<10)))
		w.unchanged(func() { w.must(0, step("--yes")...) })
		if got := w.kubectl("get", "crd", virtualServices, "-o", "jsonpath={.metadata.annotations}"); strings.Contains(got, note) {
			t.Error("the stale annotation is still there")
		}
		w.silent(step("--yes")...)
	})

	t.Run("goes on where a killed run stopped", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.apply(virtualService("v1", "a"))
		w.unchanged(func() {
			killed := w.command(t.Context(), step("--yes")...)
			w.check(killed.Start())
			w.eventually("the record of the new revision", func() string {
				if _, err := w.Kubectl(t.Context(), nil, "get", "secret", "-n", lab.IstioNamespace, "sh.helm.release.v1.istio-base.v2"); err != nil {
					return err.Error()
				}
				return ""
			})
			w.check(killed.Process.Kill())
			if err := killed.Wait(); err == nil {
				t.Skip("the run was done before it could be killed")
			}
			w.must(0, step("--yes")...)
		})
		w.silent(step("--yes")...)
	})

	t.Run("refuses what another release owns unless it is named", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		chart := t.TempDir()
		w.check(os.WriteFile(filepath.Join(chart, "Chart.yaml"), []byte("{apiVersion: v2, name: umbrella, version: 0.1.0}"), 0o644))
		w.check(w.Helm(t.Context(), "install", "umbrella", chart, "--namespace", "shop"))
		w.kubectl("annotate", "--overwrite", "crd", virtualServices, "meta.helm.sh/release-name=umbrella", "meta.helm.sh/release-namespace=shop")
		before := len(w.writes())
		o := w.must(3, step("--yes", "--force")...)
		if after := w.writes(); len(after) != before || !strings.Contains(o.Stderr, "umbrella in shop") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
		w.must(0, step("--yes", "--adopt-from", "shop/umbrella")...)
		if got := w.kubectl("get", "crd", virtualServices, "-o", `jsonpath={.metadata.annotations.meta\.helm\.sh/release-name}`); got != "istio-base" {
			t.Errorf("the owner is %q", got)
		}
	})

	t.Run("refuses an upgrade that would delete a definition", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		w.apply(virtualService("v1", "a"))
		w.kubectl("annotate", "crd", virtualServices, "helm.sh/resource-policy-")
		w.check(w.Helm(t.Context(), "upgrade", "istio-base", parts.Chart("base", older), "--namespace", lab.IstioNamespace, "--reuse-values",
			"--set", "base.validationURL=https://localhost:2/validate"))
		w.kubectl("annotate", "--overwrite", "crd", virtualServices, "helm.sh/resource-policy-")
		chart := filepath.Join(t.TempDir(), "base")
		w.check(os.CopyFS(chart, os.DirFS(filepath.Join(parts.ChartFolder(newer), "base"))))
		w.dropDefinition(filepath.Join(chart, "files", "crd-all.gen.yaml"), virtualServices)
		w.unchanged(func() {
			o := w.must(3, "crds", "--tag", newer, "--charts", chart, "--yes", "--force")
			if !strings.Contains(o.Stderr, virtualServices) || !strings.Contains(o.Stderr, "would delete it") {
				t.Error(o)
			}
		})
	})

	t.Run("lists objects that the target refuses", func(t *testing.T) {
		w := cluster.in(t)
		w.base(older)
		// As an object looks that was stored before its schema was narrowed.
		w.kubectl("patch", "crd", virtualServices, "--type=json", "-p",
			`[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/hosts/items","value":{"type":"integer"}}]`)
		w.eventually("the wider schema", func() string {
			_, err := w.Kubectl(t.Context(), []byte(`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: odd, namespace: shop}, spec: {hosts: [7]}}`), "apply", "-f", "-")
			if err != nil {
				return err.Error()
			}
			return ""
		})
		o := w.must(3, step("--yes", "-o", "json")...)
		p := o.crds(t)
		if len(p.Plan.Invalid) != 1 || p.Plan.Invalid[0].Name != "odd" || !strings.Contains(p.Plan.Invalid[0].Errors[0], "spec.hosts[0]") {
			t.Errorf("invalid: %+v", p.Plan.Invalid)
		}
		w.unchanged(func() { w.must(0, step("--yes", "--force")...) })
	})

	t.Run("external definitions are only compared", func(t *testing.T) {
		w := cluster.in(t)
		w.kubectl("apply", "--server-side", "-f", filepath.Join(parts.ChartFolder(older), "base", "files", "crd-all.gen.yaml"))
		w.established()
		w.kubectl("annotate", "crd", virtualServices, "argocd.argoproj.io/tracking-id=mesh:x")
		before := len(w.writes())
		w.must(3, step("--external", "--yes")...)
		w.must(0, "crds", "--charts", parts.PackagedCharts(), "--tag", older, "--external")
		o := w.must(3, step("--yes")...)
		if after := w.writes(); len(after) != before || !strings.Contains(o.Stderr, "Argo CD Application mesh") {
			t.Errorf("wrote %v\n%s", after[before:], o)
		}
	})

	t.Run("bad input", func(t *testing.T) {
		w := cluster.in(t)
		if o := w.must(1, step("--yes")...); !strings.Contains(o.Stderr, "no Istio") {
			t.Error(o)
		}
		w.base(older)
		for text, args := range map[string][]string{
			"is no version":        {"crds", "--tag", "newest", "--charts", parts.PackagedCharts()},
			"nearest: 1.31.0":      {"crds", "--tag", "1.77.0", "--charts", parts.PackagedCharts()},
			"neither a folder":     {"crds", "--tag", newer, "--charts", "./nowhere"},
			"no chart base":        {"crds", "--tag", newer, "--charts", t.TempDir()},
			"holds the chart cni,": {"crds", "--tag", newer, "--charts", parts.Chart("cni", newer)},
		} {
			if o := w.must(1, args...); !strings.Contains(o.Stderr, text) || strings.Count(o.Stderr, "\n") != 1 {
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
	file := filepath.Join(w.t.TempDir(), "patch.json")
	if err := os.WriteFile(file, patch, 0o600); err != nil {
		return err
	}
	_, err = w.Kubectl(w.t.Context(), nil, "patch", "crd", crd, "--type=merge", "--patch-file", file)
	return err
}

// dropDefinition takes a definition out of a file of several.
func (w *world) dropDefinition(file, name string) {
	w.t.Helper()
	text, err := os.ReadFile(file)
	w.check(err)
	var kept []string
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		if !strings.Contains(doc, "  name: "+name+"\n") {
			kept = append(kept, doc)
		}
	}
	if len(kept) == strings.Count(string(text), "\n---\n")+1 {
		w.check(errors.New(name + " is not in " + file))
	}
	w.check(os.WriteFile(file, []byte(strings.Join(kept, "\n---\n")), 0o644))
}

// helmValues gives what the user set for a release, as JSON.
func (w *world) helmValues(release string) string {
	w.t.Helper()
	cmd := w.command(w.t.Context())
	cmd.Path, cmd.Args = parts.Bin("helm"), []string{"helm", "get", "values", release, "--namespace", lab.IstioNamespace, "-o", "json"}
	out, err := cmd.Output()
	w.check(err)
	return string(out)
}
