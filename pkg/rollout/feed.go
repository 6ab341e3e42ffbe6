package rollout

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// fewNamespaces is up to how many namespaces each has watches of its own; more
// share watches of the whole cluster, where the user may watch it.
const fewNamespaces = 8

// feed is all that the watches of a run tell: of how many workloads it may be,
// one watch for each kind, one for the pods and one for the warnings, in each of
// a few namespaces or in the whole cluster.
type feed struct {
	byRef      map[workload.Ref]*run
	namespaces map[string]bool
	watches    map[string]*watches // by namespace, "" for the whole cluster
	wake       chan struct{}
	stop       context.CancelFunc

	mu    sync.Mutex
	dirty map[workload.Ref]bool
	newer map[workload.Ref]bool
}

// open opens the watches and returns when each has its first list.
func (f *feed) open(ctx context.Context, c *cluster.Cluster, byRef map[workload.Ref]*run) error {
	f.byRef, f.namespaces, f.watches = byRef, map[string]bool{}, map[string]*watches{}
	f.wake, f.dirty, f.newer = make(chan struct{}, 1), map[workload.Ref]bool{}, map[workload.Ref]bool{}
	kinds, all := map[string]map[string]bool{}, map[string]bool{}
	for ref, r := range byRef {
		if r.Unwatched {
			continue
		}
		if kinds[ref.Namespace] == nil {
			kinds[ref.Namespace] = map[string]bool{}
		}
		kinds[ref.Namespace][ref.Kind], all[ref.Kind], f.namespaces[ref.Namespace] = true, true, true
	}
	if len(kinds) > fewNamespaces {
		denied, err := c.Denied(ctx, watchRights(all))
		if err != nil {
			return err
		}
		if len(denied) == 0 {
			kinds = map[string]map[string]bool{"": all}
		}
	}
	ctx, f.stop = context.WithCancel(ctx)
	group, groupCtx := errgroup.WithContext(ctx)
	for namespace, set := range kinds {
		w, err := newWatches(c, namespace, slices.Sorted(maps.Keys(set)), f)
		if err != nil {
			f.close()
			return err
		}
		f.watches[namespace] = w
		w.start(ctx)
		group.Go(func() error { return w.synchronise(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		f.close()
		return err
	}
	return nil
}

// watchRights is what watching these kinds in the whole cluster takes.
func watchRights(kinds map[string]bool) []cluster.Permission {
	wanted := []cluster.Permission{{Resource: "pods"}, {Resource: "events"}}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		resource := workload.Resources[kind]
		wanted = append(wanted, cluster.Permission{Group: resource.Group, Resource: resource.Resource})
	}
	for i := range wanted {
		wanted[i].Verb = "watch"
		list := wanted[i]
		list.Verb = "list"
		wanted = append(wanted, list)
	}
	return wanted
}

// close ends the watches.
func (f *feed) close() {
	f.stop()
	for _, w := range f.watches {
		w.stop()
	}
}

func (f *feed) of(ref workload.Ref) *watches {
	if w := f.watches[""]; w != nil {
		return w
	}
	return f.watches[ref.Namespace]
}

// see gives what the watches show of a workload.
func (f *feed) see(ref workload.Ref) sight {
	if w := f.of(ref); w != nil {
		return w.see(ref)
	}
	return sight{}
}

// forget drops what was warned of so far.
func (f *feed) forget(ref workload.Ref) {
	if w := f.of(ref); w != nil {
		w.forget(ref)
	}
}

// gotOn drops what was said of pods that cannot be made.
func (f *feed) gotOn(ref workload.Ref) {
	if w := f.of(ref); w != nil {
		w.gotOn(ref)
	}
}

// ending says whether pods of the workload's namespace are on their way out.
func (f *feed) ending(ref workload.Ref, now time.Time) bool {
	w := f.of(ref)
	return w != nil && w.ending(ref.Namespace, now)
}

// moves says whether the workload is one of the run's.
func (f *feed) moves(ref workload.Ref) bool { return f.byRef[ref] != nil }

// changed marks a workload to be looked at, and wakes the loop. Those that are
// none of the run's are left out.
func (f *feed) changed(ref workload.Ref) {
	if !f.moves(ref) {
		return
	}
	f.mu.Lock()
	f.dirty[ref] = true
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) takeDirty() []workload.Ref {
	f.mu.Lock()
	defer f.mu.Unlock()
	refs := slices.Collect(maps.Keys(f.dirty))
	clear(f.dirty)
	return refs
}

// came notes a workload that came into being during the run.
func (f *feed) came(ref workload.Ref) {
	if f.moves(ref) || !f.namespaces[ref.Namespace] {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newer[ref] = true
}

// went forgets one that came and went.
func (f *feed) went(ref workload.Ref) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.newer, ref)
}

// arrivals gives the workloads that came into being during the run and are
// still there, in their order.
func (f *feed) arrivals() []workload.Ref {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.newer), workload.Ref.Compare)
}
