package report

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// Endpoints watches how many ready endpoints each Service has. It counts as
// kube-proxy does: an endpoint is ready unless its condition says otherwise
// (discovery.k8s.io/v1, EndpointConditions).
type Endpoints struct {
	now     func() time.Time
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	services map[string]*watched
}

type watched struct {
	Service
	slices map[string]count
}

type count struct {
	family discoveryv1.AddressType
	ready  int
}

// endpointsOf are the rights that a watch of a namespace ("" for all) needs.
func endpointsOf(namespace string) []cluster.Permission {
	const group, resource = "discovery.k8s.io", "endpointslices"
	return []cluster.Permission{
		{Verb: "list", Group: group, Resource: resource, Namespace: namespace},
		{Verb: "watch", Group: group, Resource: resource, Namespace: namespace},
	}
}

// WatchEndpoints watches the EndpointSlices of namespaces until Stop, and is
// back when it knows them all. Namespaces that the user may not watch are left
// out and given back. The error is the API server's.
func WatchEndpoints(ctx context.Context, c *cluster.Cluster, namespaces []string, now func() time.Time) (e *Endpoints, denied []string, err error) {
	e = &Endpoints{now: now, services: map[string]*watched{}}
	ctx, e.stop = context.WithCancel(ctx)
	wanted := map[string]bool{}
	for _, namespace := range namespaces {
		wanted[namespace] = true
	}
	scopes := []string{}
	lacking, err := c.Denied(ctx, endpointsOf(""))
	switch {
	case err != nil:
		e.stop()
		return nil, nil, err
	case len(lacking) == 0 && len(wanted) > 3:
		scopes = append(scopes, "") // one watch instead of many
	default:
		for namespace := range wanted {
			if len(lacking) > 0 {
				theirs, err := c.Denied(ctx, endpointsOf(namespace))
				if err != nil {
					e.stop()
					return nil, nil, err
				}
				if len(theirs) > 0 {
					denied = append(denied, namespace)
					continue
				}
			}
			scopes = append(scopes, namespace)
		}
	}
	slices.Sort(denied)
	for _, scope := range scopes {
		if err := e.watch(ctx, c, scope, wanted); err != nil {
			e.stop()
			return nil, denied, err
		}
	}
	return e, denied, nil
}

// firstLook is how long the endpoints that there are may take to be read: what the
// page shows of them is not worth waiting for.
const firstLook = 30 * time.Second

func (e *Endpoints) watch(ctx context.Context, c *cluster.Cluster, scope string, wanted map[string]bool) error {
	if _, err := c.Kube.DiscoveryV1().EndpointSlices(scope).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("list endpointslices: %w", err) // of an API server before 1.21, say, which has none
	}
	informer := discoveryinformers.NewEndpointSliceInformer(c.Kube, scope, 0, cache.Indexers{})
	see := func(obj any, gone bool) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		if slice, ok := obj.(*discoveryv1.EndpointSlice); ok && wanted[slice.Namespace] {
			e.see(slice, gone)
		}
	}
	handle, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { see(obj, false) },
		UpdateFunc: func(_, obj any) { see(obj, false) },
		DeleteFunc: func(obj any) { see(obj, true) },
	})
	if err != nil {
		return fmt.Errorf("watch endpoints: %w", err)
	}
	e.running.Go(func() { informer.RunWithContext(ctx) })
	first, cancel := context.WithTimeoutCause(ctx, firstLook, fmt.Errorf("no answer in %s", firstLook))
	defer cancel()
	if !cache.WaitForCacheSync(first.Done(), handle.HasSynced) {
		return fmt.Errorf("watch endpoints: %w", context.Cause(first))
	}
	return nil
}

// see takes in a slice as it is now.
func (e *Endpoints) see(slice *discoveryv1.EndpointSlice, gone bool) {
	name := slice.Labels[discoveryv1.LabelServiceName]
	if name == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.services[slice.Namespace+"/"+name]
	if s == nil {
		s = &watched{Service: Service{Namespace: slice.Namespace, Name: name, Points: []Point{}}, slices: map[string]count{}}
		e.services[slice.Namespace+"/"+name] = s
	}
	n := 0
	for i := range slice.Endpoints {
		if ready := slice.Endpoints[i].Conditions.Ready; ready == nil || *ready {
			n++
		}
	}
	s.slices[slice.Name] = count{slice.AddressType, n}
	if gone {
		delete(s.slices, slice.Name)
	}
	ready := s.ready()
	if last := len(s.Points) - 1; last < 0 || s.Points[last].Ready != ready {
		s.Points = append(s.Points, Point{Time: e.now().UTC(), Ready: ready})
	}
}

// ready counts a Service's ready endpoints. Both families of a dual-stack
// Service have slices of their own for the same pods.
func (s *watched) ready() int {
	families := map[discoveryv1.AddressType]int{}
	most := 0
	for _, c := range s.slices {
		families[c.family] += c.ready
		most = max(most, families[c.family])
	}
	return most
}

// Stop ends the watch and gives the Services that had endpoints at any time,
// in order of their names.
func (e *Endpoints) Stop() []Service {
	e.stop()
	e.running.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []Service{}
	for _, s := range e.services {
		if slices.ContainsFunc(s.Points, func(p Point) bool { return p.Ready > 0 }) {
			list = append(list, s.Service)
		}
	}
	slices.SortFunc(list, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}
