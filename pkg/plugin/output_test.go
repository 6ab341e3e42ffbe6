package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

func TestOutputFlag(t *testing.T) {
	value := document{APIVersion: documentVersion, Kind: "Report", Step: "crds"}
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		flag       string
		bad        bool // a usage error
		structured bool
		want       string // what is printed, where structured
	}{
		{flag: "table"},
		{flag: ""},
		{flag: "wide"},
		{flag: "name"},
		{flag: "json", structured: true, want: "{\n  \"apiVersion\": \"istio-upgrade/v1\",\n  \"kind\": \"Report\",\n  \"step\": \"crds\",\n  \"dryRun\": false\n}\n"},
		{flag: "yaml", structured: true, want: "apiVersion: istio-upgrade/v1\ndryRun: false\nkind: Report\nstep: crds\n"},
		{flag: "jsonpath={.step}", structured: true, want: "crds\n"},
		{flag: "jsonpath={.kind}/{.step}", structured: true, want: "Report/crds\n"},
		{flag: "jsonpath={.error}", structured: true, want: "\n"},  // a missing key is no error
		{flag: "jsonpath=.step", structured: true, want: "crds\n"}, // as kubectl relaxes it
		{flag: "jsonpath=step", structured: true, want: "crds\n"},
		{flag: "go-template={{.kind}}/{{.step}}", structured: true, want: "Report/crds\n"},
		{flag: "go-template-file=" + file("template", "{{.step}}\n"), structured: true, want: "crds\n"},
		{flag: "jsonpath-file=" + file("path", "{.step}"), structured: true, want: "crds\n"},
		{flag: "go-template={{.step", structured: true, bad: true},
		{flag: "go-template-file=/nowhere/template", structured: true, bad: true},
		{flag: "jsonpath={.step", structured: true, bad: true},
		{flag: "jsonpath", bad: true},
		{flag: "xml", bad: true},
		{flag: "JSON", bad: true},
	} {
		t.Run(tc.flag, func(t *testing.T) {
			o := outputFlag{tc.flag}
			err := o.validate()
			if tc.bad {
				if ExitCode(t.Context(), err) != exitUsage {
					t.Errorf("error %v, want one of usage", err)
				}
				return
			}
			if err != nil || o.structured() != tc.structured {
				t.Fatalf("%v, structured %v", err, o.structured())
			}
			if !tc.structured {
				return
			}
			var b strings.Builder
			if err := o.print(&b, value); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, b.String()); d != "" {
				t.Errorf("printed (-want +got):\n%s", d)
			}
		})
	}
}

func TestPlainLog(t *testing.T) {
	web := progress.Object{Kind: "Deployment", Namespace: "shop", Name: "web"}
	for _, tc := range []struct {
		event progress.Event
		want  string
	}{
		{progress.Event{Step: "sidecars", Kind: progress.StepStarted, Message: "3 workloads"}, "▸ sidecars: 3 workloads\n"},
		{progress.Event{Step: "sidecars", Kind: progress.Started, Object: web}, "→ deployment/web in shop: started\n"},
		{progress.Event{Kind: progress.Updated, Object: web, Message: "1 of 2 new, 2 ready"}, "  deployment/web in shop: 1 of 2 new, 2 ready\n"},
		{progress.Event{Kind: progress.Done, Object: web, Finished: 2, Total: 3}, "✓ deployment/web in shop: done (2 of 3)\n"},
		{progress.Event{Kind: progress.Failed, Object: web, Message: "CrashLoopBackOff", Finished: 3, Total: 3}, "× deployment/web in shop: CrashLoopBackOff\n"},
		{progress.Event{Kind: progress.Done, Object: progress.Object{Kind: "CustomResourceDefinition", Name: "gateways.networking.istio.io"}}, "✓ customresourcedefinition/gateways.networking.istio.io: done\n"},
		// What comes from the cluster can neither drive the terminal nor pass for other events.
		{progress.Event{Kind: progress.Failed, Object: web, Message: "denied\x1b]0;owned\r"}, "× deployment/web in shop: denied^[]0;owned\\r\n"},
		{progress.Event{Kind: progress.Failed, Object: web, Message: "denied\n✓ deployment/api in shop: done"}, "× deployment/web in shop: denied ✓ deployment/api in shop: done\n"},
	} {
		var b strings.Builder
		newLog(&b).Notify(tc.event)
		if d := cmp.Diff(tc.want, b.String()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

func TestFromTo(t *testing.T) {
	form := func(tag string, native bool) sidecars.ProxyForm {
		return sidecars.ProxyForm{Image: "istio/proxyv2:" + tag, Version: tag, Native: native}
	}
	count := func(f sidecars.ProxyForm) sidecars.ProxyCount { return sidecars.ProxyCount{ProxyForm: f} }
	before, after := form("1.30.2", false), form("1.31.0", false)
	native := form("1.31.0", true)
	digest := sidecars.ProxyForm{Image: "istio/proxyv2@sha256:0123456789abcdef"}
	for _, tc := range []struct {
		item sidecars.Item
		want string
	}{
		{sidecars.Item{Proxies: []sidecars.ProxyCount{count(before)}, To: &after}, "1.30.2 → 1.31.0"},
		{sidecars.Item{Proxies: []sidecars.ProxyCount{count(before), count(after)}, To: &after}, "1.30.2 (+1) → 1.31.0"},
		{sidecars.Item{Proxies: []sidecars.ProxyCount{count(after)}, To: &native}, "1.31.0 classic → 1.31.0 native"},
		{sidecars.Item{Proxies: []sidecars.ProxyCount{count(after)}, To: &after}, "1.31.0"},
		{sidecars.Item{Proxies: []sidecars.ProxyCount{count(before)}}, "1.30.2"},
		{sidecars.Item{To: &native}, "none → 1.31.0"},
		{sidecars.Item{}, "none"},
		{sidecars.Item{Proxies: []sidecars.ProxyCount{count(digest)}}, "sha256:0123456"},
	} {
		if got := fromTo(&tc.item); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestSidecarsTable(t *testing.T) {
	ref := func(name string) workload.Ref {
		return workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: name}
	}
	from := []sidecars.ProxyCount{{ProxyForm: sidecars.ProxyForm{Version: "1.30.2"}, Pods: 2}}
	to := &sidecars.ProxyForm{Version: "1.31.0"}
	plan := &sidecars.Plan{
		Cluster: cluster.Identity{Context: "prod\x1b[2J", Server: "https://127.0.0.1:6443"}, Scope: "namespace shop",
		Items: []sidecars.Item{
			{Ref: ref("web"), Verdict: sidecars.Stale, Lags: true, Proxies: from, To: to, How: sidecars.Restart, Impact: sidecars.AtRisk, ImpactReason: "no readiness probe", Pods: 2, Ready: 1, Revision: "canary"},
			{Ref: ref("api"), Verdict: sidecars.Stale, Lags: true, Proxies: from, To: to, How: sidecars.Nothing, Held: "it would be down: --allow-downtime"},
			{Ref: ref("old"), Verdict: sidecars.Loses, Reason: "no webhook serves it", Proxies: from, How: sidecars.Nothing},
			{Ref: ref("new"), Verdict: sidecars.Fresh, Proxies: from, How: sidecars.Nothing},
		},
		ExpectedSeconds: 90,
		Warnings:        []string{"you may not list services\r"},
	}
	for _, tc := range []struct {
		name string
		wide bool
		want []string // the words of each line
	}{
		{"narrow", false, []string{
			`Plan for sidecars: context prod^[[2J, server https://127.0.0.1:6443, namespace shop`,
			`4 workloads: 1 loses, 2 stale, 1 fresh; 1 move`, `Impact of moving: 1 at risk`,
			`Expected: about 1m30s, by how long the present pods took to start`, ``,
			`Moves, 1.30.2 → 1.31.0:`, `NAMESPACE WORKLOAD PODS HOW`,
			`at risk: no readiness probe (1)`, `shop deployment/web 1/2 restart`, ``,
			`Stays, and lags:`, `NAMESPACE WORKLOAD PODS PROXY`,
			`stale: it would be down: --allow-downtime (1)`, `shop deployment/api 0/0 1.30.2 → 1.31.0`,
			`loses: no webhook serves it (1)`, `shop deployment/old 0/0 1.30.2`,
			`‼ you may not list services\r`,
		}},
		{"wide", true, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			if err := sidecarsTable(plan)(&b, tc.wide); err != nil {
				t.Fatal(err)
			}
			if has := strings.Contains(b.String(), "canary"); has != tc.wide {
				t.Errorf("the revision is for -o wide alone:\n%s", &b)
			}
			if tc.want == nil {
				return
			}
			var got []string
			for line := range strings.SplitSeq(strings.TrimSuffix(b.String(), "\n"), "\n") {
				got = append(got, strings.Join(strings.Fields(line), " "))
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("lines (-want +got):\n%s", d)
			}
		})
	}
	var b strings.Builder
	if err := sidecarsTable(&sidecars.Plan{})(&b, false); err != nil || !strings.Contains(b.String(), "No workload has a proxy") || strings.Contains(b.String(), "NAMESPACE") {
		t.Errorf("an empty plan: %v\n%s", err, &b)
	}
	if got := impact(&sidecars.Item{Reason: "istiod moves it"}); got != "istiod moves it" {
		t.Errorf("without an impact: %q", got)
	}
}
