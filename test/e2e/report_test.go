package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pageData are the data of a report's charts, as far as the tests read them.
type pageData struct {
	Error     string
	Workloads []struct {
		Name, From, To, Outcome, Impact string
		Services                        []string
		Seen                            struct {
			Known, Worse bool
			Fewest       int
		}
	}
	Services []struct {
		Name   string
		Points []struct{ Ready int }
	}
	Left  []struct{ Name, Verdict, Reason string }
	Notes []string
}

func readPage(t *testing.T, path string) (string, pageData) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ := strings.Cut(string(text), `<script type="application/json" id="data">`)
	data, _, _ = strings.Cut(data, "</script>")
	var page pageData
	if err := json.Unmarshal([]byte(data), &page); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return string(text), page
}

// The report tells what was upgraded, what it disturbed, and what is left. A run
// without the right to watch endpoints says so once and goes on.
func TestReport(t *testing.T) {
	w := sharedCluster(t)
	ns := "report"
	w.Inject(older)
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "Deployment", Name: "down", Namespace: ns, Replicas: 1, Spec: "strategy: {type: Recreate}"}.String(),
	)
	w.AwaitReady(ns, 3)
	w.WatchEndpoints(ns, "web", "down") // returns when they are there
	w.Inject(newer)
	path := filepath.Join(t.TempDir(), "report.html")

	w.Must(0, "sidecars", "-n", ns, "--yes", "--report", path)

	text, page := readPage(t, path)
	if len(page.Workloads) != 1 || page.Workloads[0].Name != "web" {
		t.Fatalf("workloads: %+v", page.Workloads)
	}
	web := page.Workloads[0]
	if web.From != older || web.To != newer || web.Outcome != "done" || web.Impact != "none" || len(web.Services) != 1 {
		t.Errorf("web: %+v", web)
	}
	if !web.Seen.Known || web.Seen.Worse || web.Seen.Fewest < 2 {
		t.Errorf("what was seen of web: %+v in %+v", web.Seen, page.Services)
	}
	if len(page.Left) != 1 || page.Left[0].Name != "down" || !strings.Contains(page.Left[0].Reason, "--allow-downtime") {
		t.Errorf("left: %+v", page.Left)
	}
	for _, want := range []string{"deployment/down", older, newer, "Nothing was disturbed beyond what the plan predicted", "What is left, and why"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}

	// What was predicted to be down is seen to be down.
	w.podsTake(noticed)
	w.Must(0, "sidecars", "-n", ns, "--yes", "--allow-downtime", "--report", path)
	_, page = readPage(t, path)
	if len(page.Workloads) != 1 || page.Workloads[0].Impact != "outage" || page.Workloads[0].Seen.Fewest != 0 || page.Workloads[0].Seen.Worse {
		t.Errorf("an outage as predicted: %+v", page.Workloads)
	}

	w.Inject(older)
	kubeconfig, err := w.KubeconfigAs("blind")
	w.Check(err)
	w.RunKubectl("create", "clusterrole", "blind", "--verb=get,list,watch,create,patch,update,delete",
		"--resource=pods,deployments.apps,replicasets.apps,statefulsets.apps,daemonsets.apps,services,configmaps,namespaces,events,resourcequotas,leases.coordination.k8s.io")
	w.RunKubectl("create", "rolebinding", "blind", "-n", ns, "--clusterrole=blind", "--user=blind")
	t.Cleanup(func() {
		if _, err := w.Kubectl(context.WithoutCancel(t.Context()), nil, "delete", "clusterrole", "blind"); err != nil {
			t.Error(err)
		}
	})
	w.OtherKubeconfig = kubeconfig
	defer func() { w.OtherKubeconfig = "" }()
	o := w.Must(0, "sidecars", "-n", ns, "--yes", "--allow-downtime", "--report", path)
	if strings.Count(o.Stderr, "endpointslices.discovery.k8s.io") != 1 {
		t.Errorf("the missing right is told once: %s", o)
	}
	if _, page = readPage(t, path); len(page.Notes) == 0 || len(page.Workloads) != 2 || page.Workloads[0].Seen.Known {
		t.Errorf("a run that saw no endpoints: %+v", page)
	}
}
