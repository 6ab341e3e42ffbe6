package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// endpointWatch sees every change of a namespace's EndpointSlices while a test
// runs.
type endpointWatch struct {
	mu     sync.Mutex
	ready  map[string]map[string]int // service → slice → ready endpoints
	fewest map[string]int            // service → the fewest ready endpoints seen
	stop   func()
}

// watchEndpoints starts to watch; every Service named must have an endpoint
// that is ready by then.
func (w *world) watchEndpoints(namespace string, services ...string) *endpointWatch {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	e := &endpointWatch{ready: map[string]map[string]int{}, fewest: map[string]int{}}
	factory := informers.NewSharedInformerFactoryWithOptions(w.Client(), 0, informers.WithNamespace(namespace))
	informer := factory.Discovery().V1().EndpointSlices().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { e.see(obj, false) },
		UpdateFunc: func(_, obj any) { e.see(obj, false) },
		DeleteFunc: func(obj any) { e.see(obj, true) },
	})
	w.check(err)
	factory.Start(ctx.Done())
	cache.WaitForCacheSync(ctx.Done(), informer.HasSynced)
	e.stop = func() { cancel(); factory.Shutdown() }
	w.t.Cleanup(e.stop)
	w.eventually("endpoints of "+namespace, func() string {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, s := range services {
			if e.count(s) == 0 {
				return s + " has none"
			}
		}
		clear(e.fewest)
		for _, s := range services {
			e.fewest[s] = e.count(s)
		}
		return ""
	})
	return e
}

func (e *endpointWatch) count(service string) int {
	n := 0
	for _, ready := range e.ready[service] {
		n += ready
	}
	return n
}

func (e *endpointWatch) see(obj any, gone bool) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	service := slice.Labels[discoveryv1.LabelServiceName]
	if e.ready[service] == nil {
		e.ready[service] = map[string]int{}
	}
	n := 0
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
			n++
		}
	}
	if gone {
		n = 0
	}
	e.ready[service][slice.Name] = n
	if fewest, watched := e.fewest[service]; watched {
		e.fewest[service] = min(fewest, e.count(service))
	}
}

// never ends the test where a Service ever had fewer ready endpoints than this.
func (e *endpointWatch) never(w *world, fewerThan int) {
	w.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	var bad []string
	for service, n := range e.fewest {
		if n < fewerThan {
			bad = append(bad, fmt.Sprintf("%s had only %d", service, n))
		}
	}
	if len(bad) > 0 {
		w.t.Errorf("ready endpoints, watched through the run: %s; at least %d were promised", strings.Join(bad, ", "), fewerThan)
	}
}

// least gives the fewest ready endpoints that a Service had.
func (e *endpointWatch) least(service string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fewest[service]
}
