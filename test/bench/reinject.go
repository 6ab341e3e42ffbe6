package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// oneByOne is what an operator does by hand, one workload after the other.
const oneByOne = `set -eu
for f in "$0"/*.yaml; do
  istioctl kube-inject -f "$f" | kubectl apply -f -
done`

// reinject is the line of workloads injected by hand.
func (b *bench) reinject(ctx context.Context) error {
	f := fleet{namespace: "byhand", count: b.manual, replicas: 1}
	originals := filepath.Join(b.scratch, "originals")
	if err := os.MkdirAll(originals, 0o755); err != nil {
		return err
	}
	var all bytes.Buffer
	for i := range f.count {
		raw, err := yaml.Marshal(f.deployment(i))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(originals, f.name(i)+".yaml"), raw, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(&all, "---\n%s", raw)
	}
	if err := b.CreateNamespace(ctx, f.namespace, nil); err != nil {
		return err
	}
	b.say("injecting %d workloads by hand", f.count)
	together := filepath.Join(b.scratch, "all.yaml")
	if err := os.WriteFile(together, all.Bytes(), 0o600); err != nil {
		return err
	}
	injected, err := b.Istioctl(ctx, "kube-inject", "-f", together)
	if err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, []byte(injected), "apply", "-f", "-"); err != nil {
		return err
	}
	flags := []string{"--yes", "--wait=false", "--max-parallel", fmt.Sprint(f.count), "-o", "name", "--istioctl", b.parts.Bin("istioctl")}
	command := func(what string, args ...string) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) {
			s, text, err := b.ours(ctx, what, append(args, flags...)...)
			if n := strings.Count(text, "\n"); err == nil && n != f.count {
				err = fmt.Errorf("%d of %d workloads were injected again:\n%s", n, f.count, ending(text))
			}
			return s, err
		}
	}
	live := &contender{name: "sidecars, from the live workloads", do: command("sidecars-reinject", "sidecars", "-n", f.namespace)}
	files := &contender{name: "sidecars -f, from the original files", do: command("sidecars-files", "sidecars", "-f", originals)}
	peer := &contender{name: "istioctl kube-inject | kubectl apply, one each", do: func(ctx context.Context) (sample, error) {
		s, _, err := b.child(ctx, "", "bash", "-c", oneByOne, originals)
		return s, err
	}}
	bare := &contender{name: "bare PATCHes of an annotation of the same workloads, 32 at a time", do: func(ctx context.Context) (sample, error) { return b.bare(ctx, f) }}
	contenders := []*contender{live, files, bare, peer}
	if b.profiles != "" {
		contenders = contenders[:2]
	}
	if err := b.takeTurns(ctx, min(2, b.rounds), contenders, func(ctx context.Context) error {
		if err := b.rest(ctx, f); err != nil {
			return err
		}
		return b.inject(ctx)
	}); err != nil || b.profiles != "" {
		return err
	}
	work := fmt.Sprintf("re-inject %d manual workloads", f.count)
	name := "`istioctl kube-inject` piped to `kubectl apply`, one each"
	b.say("%s", b.report.faster(work, name, "s", live.took.of(wall), peer.took.of(wall), 20))
	b.say("%s", b.report.faster("the same from their original files (`-f`)", name, "s", files.took.of(wall), peer.took.of(wall), 20))
	t := table{title: fmt.Sprintf("%d workloads injected by hand, Istio %s", f.count, lab.NewerIstio), head: []string{"", "wall", "CPU", "peak memory"}}
	for _, c := range contenders {
		t.rows = append(t.rows, c.took.row(c.name))
	}
	b.report.tables = append(b.report.tables, t, whoHadTheCores("Who had the cores while workloads were injected by hand", contenders...))
	return nil
}
