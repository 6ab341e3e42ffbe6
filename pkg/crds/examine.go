package crds

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// parallelKinds is how many kinds are read at a time.
const parallelKinds = 8

// examine counts the objects of each definition, and judges those of
// definitions that change by the target's schema.
func (p *Plan) examine(ctx context.Context, c *cluster.Cluster, live []mesh.CRD) error {
	counts, invalid := make([]int, len(live)), make([][]InvalidObject, len(live))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelKinds)
	for i, crd := range live {
		group.Go(func() error {
			judge, err := p.judgeFor(crd)
			if err != nil {
				return err
			}
			return eachObject(ctx, c, crd, func() error {
				counts[i], invalid[i] = 0, nil
				return nil
			}, func(object *unstructured.Unstructured) error {
				counts[i]++
				if bad, found := judge(ctx, object); found {
					invalid[i] = append(invalid[i], bad)
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, crd := range live {
		if counts[i] > 0 {
			p.Objects = append(p.Objects, Count{CRD: crd.Name, Kind: crd.Kind, Objects: counts[i]})
		}
		p.Invalid = append(p.Invalid, invalid[i]...)
	}
	return nil
}

// judgeFor gives the judge of a definition's objects. Definitions that stay as
// they are need none.
func (p *Plan) judgeFor(crd mesh.CRD) (func(context.Context, *unstructured.Unstructured) (InvalidObject, bool), error) {
	passes := func(context.Context, *unstructured.Unstructured) (InvalidObject, bool) { return InvalidObject{}, false }
	at := slices.IndexFunc(p.work.targets, func(t target) bool { return t.Name == crd.Name })
	if at < 0 || !slices.ContainsFunc(p.CRDs, func(change Change) bool { return change.Name == crd.Name && change.Action == Changed }) {
		return passes, nil
	}
	t := p.work.targets[at]
	version := crd.Served()
	if !slices.Contains(versionNames(t.Versions), version) {
		version = t.Storage()
	}
	next, err := newValidator(t.Object, version)
	if err != nil {
		return nil, gate.BadInputf("the chart %s: %v", p.work.chart, err)
	}
	now, err := newValidator(crd.Object, crd.Served())
	if err != nil {
		return nil, fmt.Errorf("judge the objects of %s: %w", crd.Name, err)
	}
	return func(ctx context.Context, object *unstructured.Unstructured) (InvalidObject, bool) {
		problems := next.errors(ctx, object)
		if len(problems) == 0 {
			return InvalidObject{}, false
		}
		return InvalidObject{
			Kind: crd.Kind, Namespace: object.GetNamespace(), Name: object.GetName(), Version: version, Errors: problems,
			Already: len(without(problems, now.errors(ctx, object))) == 0,
		}, true
	}, nil
}

// judgeInvalid refuses, unless forced, a target that would make objects
// invalid which are valid now: they would stay in force, and their next change
// would fail.
func (p *Plan) judgeInvalid() {
	for _, object := range p.Invalid {
		name := object.Kind + "/" + object.Name
		if object.Namespace != "" {
			name += " in " + object.Namespace
		}
		if object.Already {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s is invalid already: %s", name, object.Errors[0]))
			continue
		}
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: name, Forceable: true,
			Reason: fmt.Sprintf("the schema of Istio %s refuses it: %s", p.Brings(), object.Errors[0]),
			Cure:   "correct the object first",
		})
	}
}
