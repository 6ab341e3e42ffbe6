package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// child runs a program against the lab and gives what it took and what it
// printed on stdout.
func (b *bench) child(ctx context.Context, stdin string, args ...string) (sample, string, error) {
	file := filepath.Join(b.scratch, "usage.json")
	cmd := exec.CommandContext(ctx, filepath.Join(b.tools, "measure"), append([]string{file}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = b.environment()
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, ending(errOut.String()+out.String()))
	}
	raw, readErr := os.ReadFile(file)
	if readErr != nil {
		return sample{}, out.String(), errors.Join(err, readErr)
	}
	var s sample
	return s, out.String(), errors.Join(err, json.Unmarshal(raw, &s))
}

// ending keeps the last words of what a program printed.
func ending(text string) string {
	if len(text) > 2000 {
		text = "…" + text[len(text)-2000:]
	}
	return text
}

// environment is that of the plugin and its peers: the lab's programs come first.
func (b *bench) environment() []string {
	env := append(os.Environ(), "HOME="+b.scratch, "XDG_STATE_HOME="+b.scratch,
		"PATH="+filepath.Dir(b.parts.Bin("kubectl"))+string(os.PathListSeparator)+os.Getenv("PATH"))
	switch {
	case b.Cluster == nil:
	case b.kubeconfig != "":
		env = append(env, "KUBECONFIG="+b.kubeconfig)
	default:
		env = append(env, "KUBECONFIG="+b.Kubeconfig())
	}
	return env
}

// ours runs the plugin. Where profiles are wanted it runs inside the probe, and
// they are called after what it does.
func (b *bench) ours(ctx context.Context, what string, args ...string) (sample, string, error) {
	program := []string{b.plugin}
	if b.profiles != "" {
		program = []string{filepath.Join(b.tools, "probe"), "-profile", filepath.Join(b.profiles, what), "run"}
	}
	return b.child(ctx, "", append(program, args...)...)
}

// profiledFor is how long the API server is profiled while the plugin works, from
// the first moment on.
const profiledFor = 10 * time.Second

// profileServer has the API server write a CPU profile while something is done,
// where profiles are wanted. finish waits for it.
func (b *bench) profileServer(ctx context.Context, what string) (finish func() error) {
	if b.profiles == "" || b.Cluster == nil {
		return func() error { return nil }
	}
	ended := make(chan error, 1)
	go func() {
		raw, err := b.Client().Discovery().RESTClient().Get().AbsPath("/debug/pprof/profile").
			Param("seconds", fmt.Sprint(int(profiledFor.Seconds()))).DoRaw(ctx)
		if err == nil {
			name := strings.ReplaceAll("kube-apiserver while "+what, " ", "-") + ".cpu.pprof"
			err = os.WriteFile(filepath.Join(b.profiles, name), raw, 0o600)
		}
		ended <- err
	}()
	return func() error { return <-ended }
}

// document is what of -o json the bench reads.
type document struct {
	Result struct {
		Workloads []struct {
			Name    string    `json:"name"`
			Outcome string    `json:"outcome"`
			Started time.Time `json:"started"`
			Ended   time.Time `json:"ended"`
		} `json:"workloads"`
	} `json:"result"`
}

// parse reads a document, and complains unless so many workloads had this
// outcome.
func parse(text, outcome string, want int) (document, error) {
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("the plugin printed no document: %w\n%s", err, ending(text))
	}
	have := 0
	for _, w := range d.Result.Workloads {
		if w.Outcome == outcome {
			have++
		}
	}
	if have != want {
		return d, fmt.Errorf("%d of %d workloads were %s:\n%s", have, want, outcome, ending(text))
	}
	return d, nil
}

// span gives when the first workload was written to and when the last ended.
func (d document) span() (first, last time.Time) {
	for _, w := range d.Result.Workloads {
		if first.IsZero() || w.Started.Before(first) {
			first = w.Started
		}
		if w.Ended.After(last) {
			last = w.Ended
		}
	}
	return first, last
}

// requests counts what a client has asked of the API server since a time, by
// verb and resource. The lab must keep an audit log.
func (b *bench) requests(ctx context.Context, userAgent string, since time.Time) (map[string]int, error) {
	events, err := b.AuditEvents(ctx, userAgent)
	if err != nil {
		return nil, err
	}
	counts, seen := map[string]int{}, map[string]bool{}
	for i := range events {
		e := &events[i]
		// A watch is written down when it begins and again when it ends.
		once := e.RequestURI + " " + e.Received.String()
		if e.Received.Before(since) || e.Verb == "watch" && seen[once] {
			continue
		}
		seen[once] = true
		counts[requestName(e)]++
	}
	return counts, nil
}

func requestName(e *lab.AuditEvent) string {
	name := e.Verb + " " + e.Object.Resource
	if e.Object.Subresource != "" {
		name += "/" + e.Object.Subresource
	}
	if strings.Contains(e.RequestURI, "dryRun=All") {
		name += " (dry run)"
	}
	if e.Object.Resource == "" {
		path, _, _ := strings.Cut(e.RequestURI, "?")
		name = e.Verb + " " + path
	}
	return name
}
