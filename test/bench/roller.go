package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// roll is the least that a program can do to roll a fleet, so many at a time and
// the slow first: one list, one watch, one PATCH each. It plans nothing, asks
// nothing beforehand, reads no pod and proves nothing.
func (b *bench) roll(ctx context.Context, f fleet, parallel int) (sample, error) {
	kube, err := b.kube()
	if err != nil {
		return sample{}, err
	}
	api := kube.AppsV1().Deployments(f.namespace)
	order := make([]int, f.count)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(f.start(j), f.start(i)) })
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"bench":"%d"}}}}}`, b.tag)

	began := time.Now()
	list, err := api.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return sample{}, err
	}
	watch, err := api.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return sample{}, err
	}
	defer watch.Stop()
	var mu sync.Mutex
	seen, changed := map[string]*appsv1.Deployment{}, make(chan struct{})
	go func() {
		for event := range watch.ResultChan() {
			if d, ok := event.Object.(*appsv1.Deployment); ok {
				mu.Lock()
				seen[d.Name] = d
				close(changed)
				changed = make(chan struct{})
				mu.Unlock()
			}
		}
	}()
	done := func(ctx context.Context, name string, generation int64) error {
		for {
			mu.Lock()
			d, next := seen[name], changed
			mu.Unlock()
			if d != nil && d.Status.ObservedGeneration >= generation && f.isThrough(d) {
				return nil
			}
			select {
			case <-next:
			case <-ctx.Done():
				return errors.Join(ctx.Err(), fmt.Errorf("%s was not through", name))
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, i := range order {
		group.Go(func() error {
			d, err := api.Patch(ctx, f.name(i), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			if err != nil {
				return err
			}
			return done(ctx, d.Name, d.Generation)
		})
	}
	err = group.Wait()
	return sample{Wall: time.Since(began)}, err
}

// isThrough says whether a Deployment's controller reports that all pods are new
// and available.
func (f fleet) isThrough(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == f.replicas && s.Replicas == f.replicas && s.AvailableReplicas == f.replicas
}
