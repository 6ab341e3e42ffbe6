package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// hostile are names and messages that try to leave the place where they stand.
var hostile = []string{
	`</script><script>document.title = "owned"</script>`,
	`"><img src=x onerror="document.title='owned'">`,
	"' onmouseover='document.title=1",
	"<!--<script>", "]]>", "\u2028\u2029", "{{.}}", "javascript:alert(1)", "&lt;b&gt;",
}

// example is a run of so many workloads, with hostile names among them.
func example(workloads int) *Run {
	run := &Run{
		APIVersion: "istio-upgrade/v1", Command: "all", Version: "v1.0.0", Context: "prod", Server: "https://127.0.0.1:6443",
		Began: noon, Ended: at(300), Error: "1 failure: " + hostile[0],
		Changes: []Change{
			{"crds", "release istio-base in istio-system", "base-1.30.2", "base-1.31.0", "upgrade"},
			{"control-plane", "release istiod in istio-system (istiod)", "1.30.2 (istiod-1.30.2)", "1.31.0 (istiod-1.31.0)", "upgrade"},
		},
		Notes: []string{hostile[1]},
		Left:  []Left{{"Job", "shop", hostile[2], "1.30.2", "left", hostile[3]}},
	}
	for i := range workloads {
		w := Workload{
			Step: "sidecars", Kind: "Deployment", Namespace: fmt.Sprintf("team-%d", i%7), Name: fmt.Sprintf("service-%04d", i),
			From: "1.30.2", To: "1.31.0", How: "restart", Impact: "none", Services: []string{fmt.Sprintf("service-%04d", i)},
			Outcome: OutcomeDone, Began: at(i * 280 / workloads), Ended: at(i*280/workloads + 12),
			Marks: []Mark{{Time: at(i * 280 / workloads), Desired: 2}, {Time: at(i*280/workloads + 5), Updated: 1, Ready: 2, Desired: 2, Message: "1 of 2 new"}},
		}
		switch {
		case i < len(hostile):
			w.Name, w.Message, w.Outcome = hostile[i], hostile[i], OutcomeFailed
		case i%50 == 20:
			w.Outcome, w.Message = OutcomeFailed, "ImagePullBackOff: registry.example.com/proxyv2:1.31.0"
		case i%40 == 11:
			w.Outcome, w.Message = OutcomeSkipped, "it is scaled to zero"
		}
		run.Workloads = append(run.Workloads, w)
		began := i * 280 / workloads
		s := Service{w.Namespace, fmt.Sprintf("service-%04d", i), points(0, 2, began+4, 3, began+6, 2)}
		if i%60 == 30 {
			s.Points = points(0, 1, began+4, 0, began+9, 1)
		}
		run.Services = append(run.Services, s)
	}
	run.Judge()
	return run
}

// plainly shows what this package's tests let nobody obey.
func plainly(text string) string { return strings.ReplaceAll(text, "\u202e", `\u202e`) }

func page(t *testing.T, run *Run) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, run, plainly); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// walk calls f for every node.
func walk(n *html.Node, f func(*html.Node)) {
	f(n)
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		walk(c, f)
	}
}

// Whatever things in a cluster are called, the page's elements are its own.
func TestPageHoldsHostileTextAsText(t *testing.T) {
	run := example(30)
	text := page(t, run)
	root, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	elements := map[string]int{}
	var data, shown strings.Builder
	walk(root, func(n *html.Node) {
		if n.Type == html.TextNode {
			switch {
			case n.Parent.Data != "script":
				shown.WriteString(n.Data + "\n")
			case slices.ContainsFunc(n.Parent.Attr, func(a html.Attribute) bool { return a.Key == "id" && a.Val == "data" }):
				data.WriteString(n.Data)
			}
		}
		if n.Type != html.ElementNode {
			return
		}
		elements[n.Data]++
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" && a.Val != "data:," {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
		}
	})
	if elements["script"] != 2 || elements["img"] != 0 || elements["link"] != 1 || elements["iframe"] != 0 {
		t.Errorf("elements: %v", elements)
	}
	for _, name := range hostile {
		if !strings.Contains(shown.String(), name) {
			t.Errorf("%q is not shown as text", name)
		}
	}
	var back Run
	if err := json.Unmarshal([]byte(data.String()), &back); err != nil {
		t.Fatalf("the data of the charts: %v", err)
	}
	for i := range run.Workloads {
		if back.Workloads[i].Name != run.Workloads[i].Name {
			t.Errorf("workload %d is called %q in the data, not %q", i, back.Workloads[i].Name, run.Workloads[i].Name)
		}
	}
}

// Every text of a run is shown as the caller wants it, whatever field it is in.
func TestPageShowsTextsAsAsked(t *testing.T) {
	run := example(30)
	all := 0
	texts(reflect.ValueOf(run).Elem(), func(text string) string { all++; return "\u202e" + text })
	for _, of := range []any{run.Changes, run.Workloads, run.Services, run.Left, run.Notes} {
		if reflect.ValueOf(of).Len() == 0 {
			t.Fatalf("the example has no %T", of)
		}
	}

	text := string(page(t, run))

	if all < 30*8 || strings.Contains(text, "\u202e") || strings.Contains(text, "\u202d") {
		t.Errorf("of %d texts one turns the direction of writing", all)
	}
	for _, want := range []string{`<title>\u202e`, `{"time":"`, `"notes":["\\u202e`, `"verdict":"\\u202e`, `"error":"\\u202e`, `"impact":"\\u202e`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the page", want)
		}
	}
}

// What is said of the impact is what is known of it.
func TestPageSaysWhatWasWatched(t *testing.T) {
	const good, partly = "Nothing was disturbed beyond what the plan predicted.", "Nothing was disturbed beyond what the plan predicted, as far as it was watched."
	for name, c := range map[string]struct {
		served    [2]bool // whether a Service sends to the one workload and the other
		want, not string
	}{
		"all of it":  {[2]bool{true, true}, good, "Not watched"},
		"some of it": {[2]bool{true, false}, partly, good},
		"nothing":    {[2]bool{}, "Not watched: 2 of the workloads that moved.", "Nothing was disturbed"},
	} {
		run := &Run{Began: noon, Ended: at(30), Services: []Service{{"shop", "web", points(-10, 2)}}}
		for _, served := range c.served {
			w := Workload{Kind: "Deployment", Namespace: "shop", Name: "web", Impact: "none", Began: at(10), Ended: at(20)}
			if served {
				w.Services = []string{"web"}
			}
			run.Workloads = append(run.Workloads, w)
		}
		run.Judge()
		if text := string(page(t, run)); !strings.Contains(text, c.want) || strings.Contains(text, c.not) {
			t.Errorf("%s: want %q and not %q", name, c.want, c.not)
		}
	}
}

// The page is well-formed: every element that is opened is closed, in order.
func TestPageIsWellFormed(t *testing.T) {
	void := []string{"meta", "link", "input", "br"}
	var open []string
	tokens := html.NewTokenizer(bytes.NewReader(page(t, example(30))))
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("left open: %v", open)
			}
			return
		case html.StartTagToken:
			if name, _ := tokens.TagName(); !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := tokens.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Fatalf("</%s> closes nothing: %v", name, open)
			}
			open = open[:len(open)-1]
		}
	}
}

// Nothing in the page names an address that a browser would ask.
func TestPageAsksNobody(t *testing.T) {
	run := &Run{Began: noon, Ended: at(1), Context: "prod"}
	text := strings.ReplaceAll(string(page(t, run)), "http://www.w3.org/2000/svg", "") // a name, not an address
	for _, not := range []string{"http:", "https:", "//www", "url(", "@import", "fetch(", "XMLHttpRequest", "import("} {
		if strings.Contains(text, not) {
			t.Errorf("the page holds %q", not)
		}
	}
	if !strings.Contains(text, "default-src 'none'") {
		t.Error("no policy keeps the page from asking anybody")
	}
	for _, not := range []string{"null", "<h2>What failed", "<h2>Timeline"} {
		if strings.Contains(strings.ReplaceAll(text, pageJS, ""), not) {
			t.Errorf("the page of an empty run holds %q", not)
		}
	}
}
