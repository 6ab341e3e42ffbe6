// Package lock keeps two runs from working on the same thing at once: one
// coordination.k8s.io Lease for each namespace whose workloads are moved, and
// one for the control plane. A lease is created when a run begins to write,
// renewed while it works and deleted at its end.
//
// Whether a holder lives is judged as client-go's leader election does
// (tools/leaderelection): by whether its lease changes while it is looked at,
// over time as the local monotonic clock counts it. What time the lease itself
// names is shown and never compared, so that clocks may differ.
package lock

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// The names of the leases.
const (
	workloadsName    = "istio-upgrade"
	controlPlaneName = "istio-upgrade-control-plane"
)

// Key names what is locked.
type Key struct {
	Namespace string
	// Name is that of the lease.
	Name string
}

// Workloads gives the locks of namespaces whose workloads are moved, in the
// order in which they are taken, each once. Cluster-scoped things, whose
// namespace is empty, have none.
func Workloads(namespaces ...string) []Key {
	keys := make([]Key, 0, len(namespaces))
	for _, namespace := range namespaces {
		if namespace != "" {
			keys = append(keys, Key{namespace, workloadsName})
		}
	}
	return inOrder(keys)
}

// ControlPlane gives the lock of the control plane and the definitions, which
// lies in Istio's namespace.
func ControlPlane(istioNamespace string) Key { return Key{istioNamespace, controlPlaneName} }

// String says in words what is locked.
func (k Key) String() string {
	if k.Name == controlPlaneName {
		return "the control plane in " + k.Namespace
	}
	return "namespace " + k.Namespace
}

func (k Key) lease() string { return fmt.Sprintf("lease/%s in %s", k.Name, k.Namespace) }

func inOrder(keys []Key) []Key {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(keys)
}

const (
	// duration is how long a lease that is not renewed is respected: fewLeases
	// at most are renewed at this rate, more at a slower one.
	duration     = 15 * time.Second
	longDuration = time.Minute
	fewLeases    = 20
	// renewals is how many times a lease is renewed within its duration.
	renewals = 5
	// tick is how often leases are looked at: those that are due for renewal,
	// and those of others that are waited for.
	tick = time.Second
	// requestTimeout bounds a single request for a lease.
	requestTimeout = 5 * time.Second
	// parallel bounds how many leases are renewed or released at a time.
	parallel = 16
)

// Options say who locks, and how.
type Options struct {
	// Holder names the run to others: "alice@laptop pid 4242".
	Holder string
	// TakeOver takes the lock of a holder that has fallen silent without waiting
	// for its lease to expire.
	TakeOver bool
	// Now is the clock that leases bear; nil means time.Now.
	Now func() time.Time
	// Persist tries again while the API server is away; nil means once.
	Persist func(ctx context.Context, do func(context.Context) error) error
}

// Set is the locks that one run holds.
type Set struct {
	kube kubernetes.Interface
	o    Options
	lose context.CancelCauseFunc
	// since is when the run began; with the holder it tells our leases.
	since metav1.MicroTime

	mu   sync.Mutex
	held map[Key]*hold
	loss error // why nothing may be written any more
	// still are leases of others that stood still while they were looked at, as
	// they were seen then.
	still map[Key]*coordinationv1.Lease
	// takenFrom are the keys that were taken over, by who held them.
	takenFrom map[string][]Key
	emit      progress.Emitter
	// stop ends the renewing, which then closes stopped; nil before it began.
	stop, stopped chan struct{}
}

// hold is one lease that is ours.
type hold struct {
	lease *coordinationv1.Lease
	// renewed is when the request was sent that the API server took last; it has
	// a monotonic reading.
	renewed time.Time
}

// New gives an empty set, and a context for the work under its locks: it is
// cancelled when one of them is lost, with a *gate.Stopped as its cause.
func New(ctx context.Context, kube kubernetes.Interface, o Options) (context.Context, *Set) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Persist == nil {
		o.Persist = func(ctx context.Context, do func(context.Context) error) error { return do(ctx) }
	}
	work, lose := context.WithCancelCause(ctx)
	since := metav1.NewMicroTime(o.Now().Truncate(time.Microsecond))
	return work, &Set{
		kube: kube, o: o, lose: lose, since: since, held: map[Key]*hold{},
		still: map[Key]*coordinationv1.Lease{}, takenFrom: map[string][]Key{},
	}
}

// Acquire takes the locks that the set does not hold yet, in their order, so that
// of two runs on the same namespaces one wins. A lock whose holder lives gives a
// *gate.Stopped that names it. Locks that are not renewed are looked at all
// together, for as long as the longest of them is respected, and taken over.
// Where the user may not lock, or there is no such namespace, an event warns and
// the work is not protected. Release what was taken in every case.
func (s *Set) Acquire(ctx context.Context, emit progress.Emitter, keys []Key) error {
	keys = slices.DeleteFunc(inOrder(keys), s.holds)
	s.mu.Lock()
	s.emit = emit
	s.mu.Unlock()
	length := duration
	if len(keys) > fewLeases {
		length = longDuration
	}
	clear(s.still)
	defer s.tellTaken()
	for i, key := range keys {
		var lease *coordinationv1.Lease
		var sent time.Time
		err := s.o.Persist(ctx, func(ctx context.Context) (err error) {
			lease, sent, err = s.take(ctx, keys[i:], length)
			return err
		})
		if err != nil {
			return err
		}
		if lease != nil {
			s.keep(ctx, key, lease, sent)
		}
	}
	return nil
}

// tellTaken says from whom locks were taken over, once for each holder.
func (s *Set) tellTaken() {
	for who, keys := range s.takenFrom {
		s.tell(progress.Warning, keys[0], fmt.Sprintf("%s taken over from %s, which has not renewed it", several(keys), who))
	}
	clear(s.takenFrom)
}

// several names the first of some keys, and counts the others.
func several(keys []Key) string {
	if len(keys) == 1 {
		return keys[0].String()
	}
	return fmt.Sprintf("%s and %d more", keys[0], len(keys)-1)
}

func (s *Set) holds(key Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[key] != nil
}

// keep remembers a lease as ours, and begins to renew where it is the first.
func (s *Set) keep(ctx context.Context, key Key, lease *coordinationv1.Lease, sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = &hold{lease: lease, renewed: sent}
	if s.stop == nil {
		s.stop, s.stopped = make(chan struct{}), make(chan struct{})
		// Locks are kept until they are released: a run that was interrupted may
		// still have something to finish.
		go s.renewAll(context.WithoutCancel(ctx))
	}
}

// tell emits an event about a lock.
func (s *Set) tell(kind progress.Kind, key Key, message string) {
	s.mu.Lock()
	emit := s.emit
	s.mu.Unlock()
	emit.Emit(progress.Event{Kind: kind, Object: progress.Object{Kind: "lease", Namespace: key.Namespace, Name: key.Name}, Message: message})
}
