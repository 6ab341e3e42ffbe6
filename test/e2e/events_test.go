package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// event is a line of --events, as far as the tests read it.
type event struct {
	APIVersion, Time, Step, Event, Message, Error string
	Object                                        struct{ Kind, Namespace, Name string }
	Finished, Total                               int
}

func readEvents(t *testing.T, path string) []event {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var events []event
	for text := range strings.Lines(string(text)) {
		clustertest.WantValid(t, "event", text)
		var e event
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		events = append(events, e)
	}
	return events
}

// Every event is a line of JSON, a run is framed, and a second run is appended.
func TestEventsAndDocuments(t *testing.T) {
	w := sharedCluster(t)
	ns := "events"
	w.Inject(older)
	w.InjectedNamespace(ns)
	w.Apply(
		manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "StatefulSet", Name: "db", Namespace: ns, Replicas: 2}.String(),
		manifest{Kind: "Deployment", Name: "down", Namespace: ns, Replicas: 1, Spec: "strategy: {type: Recreate}"}.String(),
	)
	w.AwaitReady(ns, 5)
	w.Inject(newer)
	path := filepath.Join(t.TempDir(), "events.jsonl")

	if o := w.Run("sidecars", "-n", ns, "--yes", "--events", "-"); o.Code != 2 {
		t.Errorf("standard output holds results alone: %s", o)
	}
	if o := w.Run("sidecars", "-n", ns, "--yes", "--events", filepath.Join(path, "nowhere")); o.Code != 1 || w.Proxies(ns, "web")[older] != 2 {
		t.Errorf("a file that cannot be written is told of before anything changes: %s", o)
	}
	w.Must(0, "sidecars", "-n", ns, "--dry-run", "--events", path, "-o", "json")
	if _, err := os.Stat(path); err == nil {
		t.Error("a dry run wrote events")
	}

	o := w.Must(0, "sidecars", "-n", ns, "--yes", "--events", path, "-o", "json")
	var document struct {
		APIVersion string
		Plan       struct{ Workloads []struct{ Name string } }
		Result     struct{ Counts map[string]int }
		Left       []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(o.Stdout), &document); err != nil {
		t.Fatal(err)
	}
	if document.APIVersion != "istio-upgrade/v1" || len(document.Plan.Workloads) != 3 || document.Result.Counts["done"] != 2 || len(document.Left) != 1 {
		t.Errorf("plan, result and what is left: %+v", document)
	}
	info, err := os.Stat(path)
	w.Check(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file may be read by others: %s", info.Mode())
	}
	events := readEvents(t, path)
	seen := map[string]int{}
	for _, e := range events {
		seen[e.Event+" "+e.Object.Name]++
	}
	for _, want := range []string{"run-started ", "step-started ", "planned web", "planned db", "started web", "done web", "done db", "step-finished ", "run-finished "} {
		if seen[want] != 1 {
			t.Errorf("%d times %q in %v", seen[want], want, seen)
		}
	}
	if first, last := events[0], events[len(events)-1]; first.Event != "run-started" || last.Event != "run-finished" || last.Error != "" {
		t.Errorf("a run from %+v to %+v", first, last)
	}

	// A run that fails says so in its last line, after what was there before.
	o = w.Must(0, "sidecars", "-n", ns, "--yes", "--allow-downtime", "--events", path)
	if again := readEvents(t, path); len(again) <= len(events) || again[0] != events[0] {
		t.Errorf("the second run is not appended: %d and %d lines\n%s", len(events), len(again), o)
	}

	// What is printed as JSON is held against its schema wherever a test runs the
	// plugin; these are the commands that no other test has print it.
	target := []string{"--tag", newer, "--charts", clustertest.Parts.PackagedCharts(), "-o", "json"}
	for _, o := range []outcome{
		w.Must(0, "status", "-n", ns, "-o", "json"),
		w.Must(0, append([]string{"version"}, target...)...),
		w.Must(0, append([]string{"all", "-n", ns, "--dry-run"}, target...)...),
		w.Run(append([]string{"check", "-n", ns}, target...)...),
		w.Run(append([]string{"crds", "--dry-run"}, target...)...),
		w.Run(append([]string{"control-plane", "--dry-run"}, target...)...),
	} {
		if o.Stdout == "" {
			t.Errorf("no document: %s", o)
		}
	}
}
