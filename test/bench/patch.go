package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// byHand is the script that the plugin replaces: two kubectl a Deployment, the
// grace period from 30 to 31 or back.
const byHand = `set -eu
for d in $(kubectl -n "$0" get deployment -o name); do
  if [ "$(kubectl -n "$0" get "$d" -o 'jsonpath={.spec.template.spec.terminationGracePeriodSeconds}')" = 30 ]; then s=31; else s=30; fi
  kubectl -n "$0" patch "$d" -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":'$s'}}}}'
done`

// contender does one thing in one of several ways.
type contender struct {
	name  string
	do    func(context.Context) (sample, error)
	took  series
	cores []cores // what the lab's parts and the bench used meanwhile, one a round
}

// rounds lets the contenders take turns, a different one beginning in each
// round, each from the same state.
func (b *bench) takeTurns(ctx context.Context, rounds int, contenders []*contender, prepare func(context.Context) error) error {
	for round := range rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			if prepare != nil {
				if err := prepare(ctx); err != nil {
					return err
				}
			}
			finish := b.profileServer(ctx, c.name)
			before := b.used()
			s, err := c.do(ctx)
			if err := errors.Join(err, finish()); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.took, c.cores = append(c.took, s), append(c.cores, b.used().since(before))
			b.say("round %d of %d: %s: %.2f s", round+1, rounds, c.name, s.Wall.Seconds())
		}
	}
	return nil
}

// patch is the first four lines of the speed table: stale Deployments up to the
// last patch.
func (b *bench) patch(ctx context.Context) error {
	f := fleet{namespace: "patch", count: b.deployments, replicas: 2}
	b.say("creating %d Deployments", f.count)
	if err := b.launch(ctx, f); err != nil {
		return err
	}
	var last, phase series // up to the last patch, and from the first to the last
	bare := &contender{name: "bare PATCHes", do: func(ctx context.Context) (sample, error) { return b.bare(ctx, f) }}
	ours := &contender{name: "sidecars", do: func(ctx context.Context) (sample, error) {
		began := time.Now()
		s, text, err := b.ours(ctx, "sidecars-patch", "sidecars", "-n", f.namespace, "--yes",
			"--max-parallel", fmt.Sprint(f.count), "--wait=false", "-o", "json")
		if err != nil {
			return s, err
		}
		d, err := parse(text, "sent", f.count)
		first, end := d.span()
		last = append(last, sample{Wall: end.Sub(began)})
		phase = append(phase, sample{Wall: end.Sub(first)})
		return s, err
	}}
	kubectl := &contender{name: "kubectl rollout restart", do: func(ctx context.Context) (sample, error) {
		s, _, err := b.child(ctx, "", b.parts.Bin("kubectl"), "-n", f.namespace, "rollout", "restart", "deployment")
		return s, err
	}}
	script := &contender{name: "the by-hand script", do: func(ctx context.Context) (sample, error) {
		s, _, err := b.child(ctx, "", "bash", "-c", byHand, f.namespace)
		return s, err
	}}
	contenders := []*contender{bare, ours, kubectl, script}
	if b.profiles != "" {
		contenders = []*contender{ours}
	}
	err := b.takeTurns(ctx, b.rounds, contenders, func(ctx context.Context) error {
		if err := b.rest(ctx, f); err != nil {
			return err
		}
		return b.inject(ctx)
	})
	if err != nil || b.profiles != "" {
		return err
	}
	work := fmt.Sprintf("`sidecars` on %d stale Deployments up to the last patch", f.count)
	peer := fmt.Sprintf("bare concurrent PATCHes, %d at a time (the limit)", parallel)
	for _, g := range []goal{
		b.report.atMost(work, peer, "s", last.of(wall), bare.took.of(wall), 2.0),
		b.report.atMost("its apply phase alone", "the same", "s", phase.of(wall), bare.took.of(wall), 1.2),
		b.report.faster("the whole of it, up to the last patch", "`kubectl rollout restart deployment`", "s", last.of(wall), kubectl.took.of(wall), 4),
		b.report.faster("the same", "the by-hand script, two kubectl a Deployment", "s", last.of(wall), script.took.of(wall), 15),
	} {
		b.say("%s", g)
	}
	t := table{title: fmt.Sprintf("%d stale Deployments, until the process ends: the plugin writes an Event on each when all are sent", f.count), head: []string{"", "wall", "CPU", "peak memory"}}
	for _, c := range contenders {
		t.rows = append(t.rows, c.took.row(c.name))
	}
	b.report.tables = append(b.report.tables, t)
	return nil
}

// bare is the limit: the same patches, sent by a client without any other work.
func (b *bench) bare(ctx context.Context, f fleet) (sample, error) {
	config := b.Config()
	config.QPS = -1
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return sample{}, err
	}
	api := client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(f.namespace)
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"bench":"%d"}}}}}`, b.tag)
	began := time.Now()
	err = each(ctx, f.count, func(ctx context.Context, i int) error {
		_, err := api.Patch(ctx, f.name(i), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	return sample{Wall: time.Since(began)}, err
}
