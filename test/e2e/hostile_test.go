package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// evil drives a terminal, starts lines of its own, turns the direction of
// writing and hides what follows.
const evil = "\x1b]0;owned\a\x1b[2J\u009b31m\u202egnihton\u2066\u200b\ufeff\u2028"

// raw gives the first character of a text that a terminal must not get.
func raw(text string) (rune, bool) {
	for _, r := range text {
		if r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
			return r, true
		}
	}
	return 0, false
}

// Nothing of what the cluster says reaches the terminal raw or without end.
func TestHostileText(t *testing.T) {
	w := sharedCluster(t)
	const ns = "hostile"
	w.InjectedNamespace(ns)
	text := yamlString(evil + "\nerror: all is lost\n" + strings.Repeat("long ", 20_000))
	w.Apply(
		manifest{Kind: "Deployment", Name: "skipped", Namespace: ns, Replicas: 1, Annotations: "istio-upgrade/skip: " + text}.String(),
		manifest{Kind: "Deployment", Name: "owned", Namespace: ns, Replicas: 2, Annotations: "argocd.argoproj.io/tracking-id: " + text}.String(),
		manifest{Kind: "Deployment", Name: "denied", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
	)
	w.AwaitReady(ns, 7)
	w.Apply(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: hostile}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  matchConditions: [{name: one, expression: "object.metadata.?labels[?'app'].orValue('') == 'denied'"}]
  validations: [{expression: "false", messageExpression: %s}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: hostile}
spec: {policyName: hostile, validationActions: [Deny]}`, yamlString(fmt.Sprintf("%q", "denied "+strings.ReplaceAll(evil, "\u2028", "")))))
	t.Cleanup(func() {
		for _, kind := range []string{"validatingadmissionpolicy", "validatingadmissionpolicybinding"} {
			_, _ = w.Kubectl(context.WithoutCancel(t.Context()), nil, "delete", kind, "hostile", "--ignore-not-found")
		}
	})
	w.Inject(newer)

	// Injected by hand, with a template and a volume that nobody has heard of.
	injected := filepath.Join(t.TempDir(), "injected.yaml")
	w.Check(os.WriteFile(injected, []byte(`apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations:
    inject.istio.io/templates: `+yamlString("sidecar,\x1b]0;owned\a\x1b[2J")+`
    sidecar.istio.io/status: `+yamlString(`{"containers":["istio-proxy"],"volumes":["v\u001b[2J"]}`)+`
spec: {containers: [{name: app, image: a}, {name: istio-proxy, image: "proxyv2:1.30.2"}]}
`), 0o600))
	page, events := filepath.Join(t.TempDir(), "report.html"), filepath.Join(t.TempDir(), "events.jsonl")
	for _, args := range [][]string{
		{"status", "-n", ns},
		{"status", "-n", ns, "-o", "wide"},
		{"status", "-n", ns, "-o", "json"},
		{"status", "-n", ns, "-o", "yaml"},
		{"status", "-n", ns, "-o", "jsonpath={.sidecars.workloads[*].reason}"},
		{"check", "-n", ns},
		{"check", "-n", ns, "-o", "json"},
		{"sidecars", "-n", ns, "--dry-run"},
		{"sidecars", "-n", ns, "--dry-run", "-o", "wide"},
		{"sidecars", "-n", ns, "--dry-run", "-o", "json"},
		{"uninject", "-f", injected},
		{"sidecars", "-n", ns, "--yes", "--force", "--timeout", "30s", "-v", "4", "--report", page, "--events", events},
	} {
		o := w.Run(args...)
		if r, found := raw(o.Stdout + o.Stderr); found {
			t.Errorf("%s: %U reaches the terminal\n%.3000s", strings.Join(args, " "), r, o)
		}
		structured := strings.Contains(strings.Join(args, " "), "json") || strings.Contains(strings.Join(args, " "), "yaml")
		for line := range strings.Lines(o.Stdout + o.Stderr) {
			if len(line) > 5000 && !structured {
				t.Errorf("%s: a line of %d characters", strings.Join(args, " "), len(line))
			}
			if strings.HasPrefix(line, "error: all is lost") {
				t.Errorf("%s: a line of the cluster's own", strings.Join(args, " "))
			}
		}
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	for _, path := range []string{page, events} {
		text, err := os.ReadFile(path)
		w.Check(err)
		if r, found := raw(string(text)); found || len(text) == 0 {
			t.Errorf("%s: %U in %d bytes", filepath.Base(path), r, len(text))
		}
	}
	// What the page's own script reads is as harmless.
	if _, data := readPage(t, page); len(data.Left) == 0 {
		t.Errorf("the report lacks what was left: %+v", data)
	} else if r, found := raw(fmt.Sprint(data)); found || !strings.Contains(fmt.Sprint(data), `\u202e`) {
		t.Errorf("the report's data hold %U: %.2000s", r, fmt.Sprint(data))
	}
}

// yamlString quotes text for YAML, with everything odd written as an escape.
func yamlString(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// Tokens, Secrets and secret values stay out of output, logs at every verbosity,
// events and backups.
func TestSecretsStaySecret(t *testing.T) {
	w := sharedCluster(t)
	const ns, secret = "secrets", "hunter2-correct-horse"
	w.InjectedNamespace(ns)
	w.Apply(
		fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: %s}\nstringData: {password: %s}", ns, secret),
		fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: %s}\nstringData: {password: %s}", lab.IstioNamespace, secret),
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: secrets}\nspec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}",
	)
	t.Cleanup(func() {
		_, _ = w.Kubectl(context.WithoutCancel(t.Context()), nil, "delete", "secret", "db", "-n", lab.IstioNamespace, "--ignore-not-found")
	})
	w.RunKubectl("-n", ns, "set", "env", "deployment/web", "DB_PASSWORD="+secret)
	w.AwaitReady(ns, 2)
	w.Inject(newer)
	dir := t.TempDir()
	charts := clustertest.Parts.PackagedCharts()
	token := w.Config().BearerToken
	if token == "" {
		t.Fatal("the administrator has no token: the test looks for nothing")
	}

	for _, args := range [][]string{
		{"status", "-n", ns, "-o", "json", "-v", "9"},
		{"check", "-n", ns, "--tag", newer, "--charts", charts, "-v", "10"},
		{"control-plane", "--tag", newer, "--charts", charts, "--set", "pilot.env.DB_PASSWORD=" + secret, "--dry-run", "--force", "-o", "json", "-v", "10"},
		{"control-plane", "--tag", newer, "--charts", charts, "--set", "pilot.env.DB_PASSWORD=" + secret, "--dry-run", "--force", "-o", "wide", "--diff"},
		{"crds", "--tag", newer, "--charts", charts, "--dry-run", "-v", "10"},
		{"sidecars", "-n", ns, "--yes", "-v", "10", "--events", filepath.Join(dir, "events"), "--report", filepath.Join(dir, "report.html"), "--backup-dir", filepath.Join(dir, "backup")},
	} {
		o := w.Run(args...)
		if o.Code != 0 {
			t.Errorf("%s: exit code %d: %s", strings.Join(args, " "), o.Code, o.Stderr[max(0, len(o.Stderr)-1000):])
		}
		for what, planted := range map[string]string{
			"the secret": secret, "the secret in base64": base64.StdEncoding.EncodeToString([]byte(secret)), "the token": token,
		} {
			if at := strings.Index(o.Stdout+o.Stderr, planted); at >= 0 {
				t.Errorf("%s: %s is in the output: …%.400s", strings.Join(args, " "), what, (o.Stdout + o.Stderr)[max(0, at-200):])
			}
		}
	}
	w.Check(filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), secret) || strings.Contains(string(text), token) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	}))
	events, err := w.Kubectl(t.Context(), nil, "get", "events", "-n", ns, "-o", "yaml")
	w.Check(err)
	if strings.Contains(events, secret) {
		t.Error("an event holds a secret")
	}
}
