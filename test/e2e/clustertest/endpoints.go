package clustertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// EndpointWatch sees every change of a namespace's EndpointSlices while a test
// runs.
type EndpointWatch struct {
	mu     sync.Mutex
	ready  map[string]map[string]int // service → slice → ready endpoints
	fewest map[string]int            // service → the fewest ready endpoints seen
	stop   func()
}

// WatchEndpoints starts to watch when every Service named has all of its ready
// pods as endpoints, and at least one: EndpointSlices lag behind the pods.
func (w *World) WatchEndpoints(namespace string, services ...string) *EndpointWatch {
	w.T.Helper()
	ctx, cancel := context.WithCancel(w.T.Context())
	e := &EndpointWatch{ready: map[string]map[string]int{}, fewest: map[string]int{}}
	factory := informers.NewSharedInformerFactoryWithOptions(w.Client(), 0, informers.WithNamespace(namespace))
	informer := factory.Discovery().V1().EndpointSlices().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { e.see(obj, false) },
		UpdateFunc: func(_, obj any) { e.see(obj, false) },
		DeleteFunc: func(obj any) { e.see(obj, true) },
	})
	w.Check(err)
	factory.Start(ctx.Done())
	cache.WaitForCacheSync(ctx.Done(), informer.HasSynced)
	e.stop = func() { cancel(); factory.Shutdown() }
	w.T.Cleanup(e.stop)
	ready := map[string]int{}
	for _, s := range services {
		ready[s] = w.readyPods(namespace, s)
	}
	w.Eventually("endpoints of "+namespace, func() string {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, s := range services {
			if n, want := e.count(s), max(1, ready[s]); n < want {
				return fmt.Sprintf("%s has %d of %d", s, n, want)
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

// readyPods counts the pods that a Service selects and that are ready.
func (w *World) readyPods(namespace, service string) int {
	w.T.Helper()
	s, err := w.Client().CoreV1().Services(namespace).Get(w.T.Context(), service, metav1.GetOptions{})
	w.Check(err)
	pods, err := w.Client().CoreV1().Pods(namespace).List(w.T.Context(), metav1.ListOptions{LabelSelector: labels.FormatLabels(s.Spec.Selector)})
	w.Check(err)
	n := 0
	for i := range pods.Items {
		pod := &pods.Items[i]
		ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if ready && pod.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

func (e *EndpointWatch) count(service string) int {
	n := 0
	for _, ready := range e.ready[service] {
		n += ready
	}
	return n
}

func (e *EndpointWatch) see(obj any, gone bool) {
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

// Never ends the test where a Service ever had fewer ready endpoints than this.
func (e *EndpointWatch) Never(w *World, fewerThan int) {
	w.T.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	var bad []string
	for service, n := range e.fewest {
		if n < fewerThan {
			bad = append(bad, fmt.Sprintf("%s had only %d", service, n))
		}
	}
	if len(bad) > 0 {
		w.T.Errorf("ready endpoints, watched through the run: %s; at least %d were promised", strings.Join(bad, ", "), fewerThan)
	}
}

// Forget leaves Services out from now on, because the test itself empties them.
func (e *EndpointWatch) Forget(services ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range services {
		delete(e.fewest, s)
	}
}

// Least gives the fewest ready endpoints that a Service had.
func (e *EndpointWatch) Least(service string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fewest[service]
}
