// Command bench measures the plugin on the lab beside the limit and its peers,
// in one run, and prints the ratios. A second on this machine says little; the
// ratio is what counts.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

const (
	namespace   = "bench"
	deployments = 200
	rounds      = 3
	parallel    = 32 // of the bare requests
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a lab with 200 Deployments of two pods, and the plugin's binary.
type bench struct {
	*lab.Cluster
	parts  lab.Parts
	plugin string
	next   string // the version that the injector gives next
	stamp  int
}

func run(ctx context.Context, plugin string) (err error) {
	b := &bench{plugin: plugin, next: lab.NewerIstio}
	if b.parts, err = lab.Build(ctx, os.Stderr); err != nil {
		return err
	}
	if b.Cluster, err = lab.Start(ctx, lab.Options{Nodes: 5}); err != nil {
		return err
	}
	defer func() { _ = b.Stop() }() // the figures are printed by then
	if err := b.prepare(ctx); err != nil {
		return err
	}
	contenders := []struct {
		name string
		do   func(context.Context) error
	}{
		{"bare PATCHes, 32 at a time", b.bare},
		{"kubectl rollout restart", b.kubectl},
		{"sidecars --max-parallel 200 --wait=false", b.sidecars},
	}
	took := make([][]time.Duration, len(contenders))
	for round := range rounds {
		for i := range contenders {
			// A different one begins in each round.
			n := (i + round) % len(contenders)
			if err := b.makeStale(ctx); err != nil {
				return err
			}
			began := time.Now()
			if err := contenders[n].do(ctx); err != nil {
				return fmt.Errorf("%s: %w", contenders[n].name, err)
			}
			took[n] = append(took[n], time.Since(began))
		}
	}
	fmt.Printf("%d stale Deployments of 2 pods, median of %d rounds\n", deployments, rounds)
	for i, c := range contenders {
		slices.Sort(took[i])
		fmt.Printf("  %-42s %6.2f s  (%.2f to %.2f)\n", c.name, median(took[i]), took[i][0].Seconds(), took[i][len(took[i])-1].Seconds())
	}
	ours := median(took[2])
	goal("sidecars / bare PATCHes", ours/median(took[0]), 2.0, true)
	goal("kubectl rollout restart / sidecars", median(took[1])/ours, 4.0, false)
	return b.startUp(ctx)
}

// startUp compares --help with kubectl version --client.
func (b *bench) startUp(ctx context.Context) error {
	var help, version []time.Duration
	for range 11 {
		for _, c := range []struct {
			into *[]time.Duration
			args []string
		}{{&help, []string{b.plugin, "--help"}}, {&version, []string{b.parts.Bin("kubectl"), "version", "--client"}}} {
			began := time.Now()
			if err := exec.CommandContext(ctx, c.args[0], c.args[1:]...).Run(); err != nil {
				return err
			}
			*c.into = append(*c.into, time.Since(began))
		}
	}
	slices.Sort(help)
	slices.Sort(version)
	goal("--help / kubectl version --client", median(help)/median(version), 1.2, true)
	ours, err := os.Stat(b.plugin)
	if err != nil {
		return err
	}
	helm, err := os.Stat(b.parts.Bin("helm"))
	if err != nil {
		return err
	}
	goal("size of the binary / Helm's", float64(ours.Size())/float64(helm.Size()), 1.0, true)
	return nil
}

func median(sorted []time.Duration) float64 { return sorted[len(sorted)/2].Seconds() }

func goal(what string, ratio, bound float64, atMost bool) {
	sign, met := "≥", ratio >= bound
	if atMost {
		sign, met = "≤", ratio <= bound
	}
	word := "met"
	if !met {
		word = "NOT met"
	}
	fmt.Printf("%-45s %6.2f  goal %s %.1f  %s\n", what, ratio, sign, bound, word)
}

func (b *bench) prepare(ctx context.Context) error {
	if err := b.InstallIstio(ctx, lab.OlderIstio, lab.IstioOptions{}); err != nil {
		return err
	}
	if err := b.CreateNamespace(ctx, namespace, map[string]string{"istio-injection": "enabled"}); err != nil {
		return err
	}
	var manifests strings.Builder
	for i := range deployments {
		fmt.Fprintf(&manifests, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-%d, namespace: bench}
spec:
  replicas: 2
  selector: {matchLabels: {app: web-%d}}
  template:
    metadata: {labels: {app: web-%d}}
    spec: {containers: [{name: app, image: "example.com/app:1", readinessProbe: {httpGet: {port: 80}}}]}
`, i, i, i)
	}
	if _, err := b.Kubectl(ctx, []byte(manifests.String()), "apply", "-f", "-"); err != nil {
		return err
	}
	return b.settled(ctx)
}

// settled waits until every rollout has come to its end.
func (b *bench) settled(ctx context.Context) error {
	_, err := b.Kubectl(ctx, nil, "-n", namespace, "rollout", "status", "deployment", "--timeout=10m")
	return err
}

// makeStale waits for rest, and makes the injector give the other version.
func (b *bench) makeStale(ctx context.Context) error {
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.Helm(ctx, "upgrade", "istiod", b.parts.Chart("istiod", lab.OlderIstio), "-n", lab.IstioNamespace,
		"--reuse-values", "--set", "global.tag="+b.next); err != nil {
		return err
	}
	if err := b.AwaitInjection(ctx, "", b.next); err != nil {
		return err
	}
	if b.next == lab.NewerIstio {
		b.next = lab.OlderIstio
	} else {
		b.next = lab.NewerIstio
	}
	return nil
}

// bare is the limit: the same patches, sent by a client without any other work.
func (b *bench) bare(ctx context.Context) error {
	b.stamp++
	config := b.Config()
	config.QPS = -1
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	api := client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(namespace)
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"bench":"%d"}}}}}`, b.stamp)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range deployments {
		group.Go(func() error {
			_, err := api.Patch(ctx, fmt.Sprintf("web-%d", i), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		})
	}
	return group.Wait()
}

func (b *bench) kubectl(ctx context.Context) error {
	_, err := b.Kubectl(ctx, nil, "-n", namespace, "rollout", "restart", "deployment")
	return err
}

func (b *bench) sidecars(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, b.plugin, "sidecars", "-n", namespace, "--yes", "--max-parallel", "200", "--wait=false", "-o", "name")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+b.Kubeconfig(), "HOME="+filepath.Join(b.Dir(), "home"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	if n := strings.Count(string(text), "\n"); n != deployments {
		return fmt.Errorf("%d of %d Deployments were stale:\n%s", n, deployments, text)
	}
	return nil
}
