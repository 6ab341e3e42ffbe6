package lock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server holds leases with the API server's rules: one creation wins, an update
// and a deletion must bear the newest resourceVersion.
type server struct {
	*fake.Clientset
	mu     sync.Mutex
	leases map[Key]*coordinationv1.Lease
	writes int
	// refuse is asked first.
	refuse func(verb, namespace string) error
}

var leaseResource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

func newServer() *server {
	s := &server{Clientset: fake.NewClientset(), leases: map[Key]*coordinationv1.Lease{}}
	s.PrependReactor("*", "leases", func(action ktesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuse != nil {
			if err := s.refuse(action.GetVerb(), action.GetNamespace()); err != nil {
				return true, nil, err
			}
		}
		lease, err := s.answer(action)
		return true, lease, err
	})
	return s
}

func (s *server) answer(action ktesting.Action) (*coordinationv1.Lease, error) {
	switch a := action.(type) {
	case ktesting.UpdateActionImpl:
		lease := a.GetObject().(*coordinationv1.Lease).DeepCopy()
		found := s.leases[Key{lease.Namespace, lease.Name}]
		switch {
		case found == nil:
			return nil, apierrors.NewNotFound(leaseResource, lease.Name)
		case found.ResourceVersion != lease.ResourceVersion:
			return nil, apierrors.NewConflict(leaseResource, lease.Name, errors.New("modified"))
		}
		return s.store(lease), nil
	case ktesting.CreateActionImpl:
		lease := a.GetObject().(*coordinationv1.Lease).DeepCopy()
		if s.leases[Key{lease.Namespace, lease.Name}] != nil {
			return nil, apierrors.NewAlreadyExists(leaseResource, lease.Name)
		}
		return s.store(lease), nil
	case ktesting.DeleteActionImpl:
		key := Key{a.Namespace, a.Name}
		found := s.leases[key]
		switch p := a.DeleteOptions.Preconditions; {
		case found == nil:
			return nil, apierrors.NewNotFound(leaseResource, a.Name)
		case p != nil && (*p.ResourceVersion != found.ResourceVersion || *p.UID != found.UID):
			return nil, apierrors.NewConflict(leaseResource, a.Name, errors.New("modified"))
		}
		delete(s.leases, key)
		return found, nil
	case ktesting.GetActionImpl:
		if found := s.leases[Key{a.Namespace, a.Name}]; found != nil {
			return found.DeepCopy(), nil
		}
		return nil, apierrors.NewNotFound(leaseResource, a.Name)
	}
	return nil, errors.New("unexpected request")
}

func (s *server) store(lease *coordinationv1.Lease) *coordinationv1.Lease {
	s.writes++
	lease.ResourceVersion = strconv.Itoa(s.writes)
	if lease.UID == "" {
		lease.UID = types.UID(lease.ResourceVersion)
	}
	s.leases[Key{lease.Namespace, lease.Name}] = lease
	return lease.DeepCopy()
}

// put changes what is stored, as somebody else would.
func (s *server) put(key Key, change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lease := s.leases[key]
	if lease == nil {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	}
	lease = lease.DeepCopy()
	change(lease)
	s.store(lease)
}

func (s *server) holder(key Key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lease := s.leases[key]; lease != nil {
		return holder(lease)
	}
	return ""
}

func (s *server) setRefusal(refuse func(verb, namespace string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// held puts a lease of another run, whose clock is off by so much.
func (s *server) held(key Key, seconds int32, skew time.Duration) {
	s.put(key, func(l *coordinationv1.Lease) {
		at := metav1.NewMicroTime(time.Now().Add(skew))
		l.Spec = coordinationv1.LeaseSpec{HolderIdentity: new("bob@build pid 7"), LeaseDurationSeconds: &seconds, AcquireTime: &at, RenewTime: &at}
	})
}

// heard gathers the messages of events.
type heard struct {
	mu   sync.Mutex
	text string
}

func (h *heard) Notify(e progress.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text += string(e.Kind) + ": " + e.Message + "\n"
}

func (h *heard) emitter() progress.Emitter { return progress.Emitter{Step: "sidecars", To: h} }

var shop = Workloads("shop")

// refused is the answer of an API server that is away.
var refused = apierrors.NewServerTimeout(leaseResource, "update", 1)

// stoppedBy gives the reason for which a lock was refused.
func stoppedBy(t *testing.T, err error) string {
	t.Helper()
	var stopped *gate.Stopped
	if !errors.As(err, &stopped) {
		t.Fatalf("want a run that is stopped on purpose, got %v", err)
	}
	return stopped.Reason
}

func TestSecondRunIsRefusedWhileTheFirstLives(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			_, first := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
			if err := first.Acquire(t.Context(), progress.Emitter{}, shop); err != nil {
				t.Fatal(err)
			}
			_, second := New(t.Context(), s, Options{Holder: "bob@build pid 7", TakeOver: takeOver})
			began := time.Now()

			err := second.Acquire(t.Context(), progress.Emitter{}, shop)
			second.Release(t.Context())

			if reason := stoppedBy(t, err); !strings.Contains(reason, "namespace shop is being worked on by alice@laptop pid 42 since 2") {
				t.Errorf("who works on it is not told: %s", reason)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s to see that the first run lives", took)
			}
			<-time.After(time.Minute)
			if who := s.holder(shop[0]); who != "alice@laptop pid 42" {
				t.Errorf("the lock is held by %q", who)
			}
			first.Release(t.Context())
			if who := s.holder(shop[0]); who != "" {
				t.Errorf("the lock is still held by %q", who)
			}
		})
	}
}

// A lease that is not renewed is taken when it has stood still for its duration
// on the clock of who looks, whatever time it names itself.
func TestSilentHolderIsTakenOver(t *testing.T) {
	for _, tc := range []struct {
		name     string
		skew     time.Duration
		takeOver bool
		seconds  int32
		after    time.Duration
	}{
		{"clocks agree", 0, false, 15, 15 * time.Second},
		{"its clock is an hour ahead", time.Hour, false, 15, 15 * time.Second},
		{"its clock is an hour behind", -time.Hour, false, 15, 15 * time.Second},
		{"taken over on demand", time.Hour, true, 15, 7500 * time.Millisecond},
		{"taken over on demand, for whatever time it was meant", 0, true, 36000, 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.held(shop[0], tc.seconds, tc.skew)
				var told heard
				work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42", TakeOver: tc.takeOver})
				began := time.Now()

				err := set.Acquire(t.Context(), told.emitter(), shop)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < tc.after || took > tc.after+2*time.Second {
					t.Errorf("taken after %s, want %s", took, tc.after)
				}
				for _, word := range []string{"waiting: namespace shop is locked by bob@build pid 7", "namespace shop taken over from bob@build pid 7"} {
					if !strings.Contains(told.text, word) {
						t.Errorf("want %q in %s", word, told.text)
					}
				}
				<-time.After(time.Minute)
				if work.Err() != nil || s.holder(shop[0]) != "alice@laptop pid 42" {
					t.Errorf("not kept: %v, held by %q", context.Cause(work), s.holder(shop[0]))
				}
				set.Release(t.Context())
			})
		})
	}
}

// A run that was killed while it held many leases is waited for once, not once
// for each: they are looked at together, and by few requests.
func TestManyLeasesOfADeadRun(t *testing.T) {
	for _, tc := range []struct {
		keys    int
		seconds int32
		free    int // the first so many are nobody's
		within  time.Duration
	}{
		{20, 15, 0, 18 * time.Second},
		{200, 60, 0, 63 * time.Second},
		{200, 60, 150, 63 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			names := make([]string, tc.keys)
			for i := range names {
				names[i] = fmt.Sprintf("ns-%03d", i)
			}
			keys, reads := Workloads(names...), 0
			for _, key := range keys[tc.free:] {
				s.held(key, tc.seconds, 0)
			}
			s.setRefusal(func(verb, _ string) error {
				if verb == "get" {
					reads++
				}
				return nil
			})
			var told heard
			work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
			began := time.Now()
			if err := set.Acquire(t.Context(), told.emitter(), keys); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < time.Duration(tc.seconds)*time.Second || took > tc.within {
				t.Errorf("%d leases of %d s taken after %s", tc.keys-tc.free, tc.seconds, took)
			}
			if limit := 2*tc.keys + int(tc.seconds) + 5; reads > limit {
				t.Errorf("%d reads for %d leases", reads, tc.keys)
			}
			if n := strings.Count(told.text, "\n"); n != 2 || !strings.Contains(told.text, fmt.Sprintf("and %d more", tc.keys-tc.free-1)) {
				t.Errorf("told in %d lines: %s", n, told.text)
			}
			<-time.After(2 * time.Minute)
			for _, key := range keys {
				if who := s.holder(key); who != "alice@laptop pid 42" || work.Err() != nil {
					t.Fatalf("%s is held by %q, %v", key, who, context.Cause(work))
				}
			}
			set.Release(t.Context())
		})
	}
}

// Of many contested leases one whose holder lives is enough, although the others'
// is dead.
func TestOneOfManyLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		keys := Workloads("a", "b", "c")
		s.held(keys[0], 15, 0)
		s.held(keys[1], 15, 0)
		_, carol := New(t.Context(), s, Options{Holder: "carol@desk pid 9"})
		if err := carol.Acquire(t.Context(), progress.Emitter{}, keys[2:]); err != nil {
			t.Fatal(err)
		}
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		began := time.Now()
		err := set.Acquire(t.Context(), progress.Emitter{}, keys)
		set.Release(t.Context())
		if reason := stoppedBy(t, err); !strings.Contains(reason, "namespace c is being worked on by carol@desk pid 9") || time.Since(began) > 5*time.Second {
			t.Errorf("after %s: %s", time.Since(began), reason)
		}
		if s.holder(keys[0]) != "bob@build pid 7" {
			t.Errorf("the first was taken by %q", s.holder(keys[0]))
		}
		carol.Release(t.Context())
	})
}

// A holder that comes back just after it was looked at keeps its lock.
func TestHolderThatComesBackLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		keys := Workloads("a", "b")
		s.held(keys[0], 15, 0)
		s.held(keys[1], 15, 0)
		writes := 0
		s.setRefusal(func(verb, namespace string) error {
			if verb == "update" && namespace == "a" {
				if writes++; writes == 1 { // before the answer, b is renewed
					lease := s.leases[keys[1]].DeepCopy()
					lease.Spec.RenewTime = new(metav1.NewMicroTime(time.Now()))
					s.store(lease)
				}
			}
			return nil
		})
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		err := set.Acquire(t.Context(), progress.Emitter{}, keys)
		set.Release(t.Context())
		if reason := stoppedBy(t, err); !strings.Contains(reason, "namespace b is being worked on by bob@build pid 7") {
			t.Error(reason)
		}
		if s.holder(keys[1]) != "bob@build pid 7" {
			t.Errorf("b is held by %q", s.holder(keys[1]))
		}
	})
}

func TestLockOfManyHoursIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.held(shop[0], 36000, 0)
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		err := set.Acquire(t.Context(), progress.Emitter{}, shop)
		set.Release(t.Context())
		if reason := stoppedBy(t, err); !strings.Contains(reason, "bob@build pid 7") || !strings.Contains(reason, "--take-over") {
			t.Error(reason)
		}
	})
}

func TestPlanIsVoidWhereTheOtherRunEndsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.held(shop[0], 15, 0)
		go func() {
			<-time.After(3 * time.Second)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.leases, shop[0])
		}()
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		err := set.Acquire(t.Context(), progress.Emitter{}, shop)
		set.Release(t.Context())
		if reason := stoppedBy(t, err); !strings.Contains(reason, "has just ended") {
			t.Error(reason)
		}
	})
}

// A lease whose creation was stored and its answer lost is taken at once, when
// the request is sent again.
func TestOwnLeaseIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		twice := func(ctx context.Context, do func(context.Context) error) error {
			if err := do(ctx); err != nil {
				return err
			}
			return do(ctx)
		}
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42", Persist: twice})
		began := time.Now()
		if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		<-time.After(10 * time.Second)
		set.Release(t.Context())
		if who := s.holder(shop[0]); who != "" {
			t.Errorf("not released: %q", who)
		}
	})
}

func TestReleasedLeaseIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.held(shop[0], 15, 0)
		s.put(shop[0], func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("") })
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		began := time.Now()
		if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		set.Release(t.Context())
	})
}

func TestLostLockEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil {
			t.Fatal(err)
		}
		s.held(shop[0], 15, 0)
		<-time.After(10 * time.Second)
		if reason := stoppedBy(t, context.Cause(work)); !strings.Contains(reason, "taken by bob@build pid 7") {
			t.Error(reason)
		}
		set.Release(t.Context())
		if who := s.holder(shop[0]); who != "bob@build pid 7" {
			t.Errorf("the other's lock is gone: %q", who)
		}
	})
}

// What happens to a lease without anybody taking it ends no work.
func TestLockIsKeptThrough(t *testing.T) {
	away := func(string, string) error { return apierrors.NewServerTimeout(leaseResource, "update", 1) }
	for name, trouble := range map[string]func(*server){
		"an API server that is away for longer than the lease": func(s *server) {
			s.setRefusal(away)
			<-time.After(40 * time.Second)
			s.setRefusal(nil)
		},
		"a label": func(s *server) {
			s.put(shop[0], func(l *coordinationv1.Lease) { l.Labels = map[string]string{"team": "shop"} })
		},
		"its deletion": func(s *server) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.leases, shop[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
				if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil {
					t.Fatal(err)
				}
				trouble(s)
				<-time.After(10 * time.Second)
				if work.Err() != nil || s.holder(shop[0]) != "alice@laptop pid 42" {
					t.Errorf("cause %v, held by %q", context.Cause(work), s.holder(shop[0]))
				}
				set.Release(t.Context())
				if who := s.holder(shop[0]); who != "" {
					t.Errorf("not released: %q", who)
				}
			})
		})
	}
}

// A run that cannot renew does not write until it can again, by when it knows
// whether the lock is still its own.
func TestHeld(t *testing.T) {
	cut := func(s *server) { s.setRefusal(func(string, string) error { return refused }) }
	held := func(t *testing.T, set *Set, want bool) {
		t.Helper()
		began := time.Now()
		err := set.Held(t.Context())
		var network net.Error
		if want && (err != nil || time.Since(began) > 0) || !want && (!errors.As(err, &network) || !network.Timeout()) {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		held(t, set, true)
		if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		held(t, set, true)
		cut(s)
		<-time.After(duration)
		held(t, set, false)
		if work.Err() != nil {
			t.Errorf("an API server that is away ended the work: %v", context.Cause(work))
		}
		go func() {
			<-time.After(2 * time.Second)
			s.setRefusal(nil)
		}()
		if err := set.Held(t.Context()); err != nil {
			t.Errorf("a renewal on its way is not waited for: %v", err)
		}

		cut(s)
		<-time.After(duration)
		s.held(shop[0], 15, 0) // another run has taken over
		go func() {
			<-time.After(time.Second)
			s.setRefusal(nil)
		}()
		for range 2 {
			if err := set.Held(t.Context()); err == nil || work.Err() == nil {
				t.Errorf("it writes though the lock is another's (%v)", err)
			}
		}
		set.Release(t.Context())
		held(t, set, true)
	})
}

// A right to renew that is gone for a moment is nothing, one that stays away ends
// the work.
func TestRightToRenewIsGone(t *testing.T) {
	for _, tc := range []struct {
		away time.Duration
		lost bool
	}{{8 * time.Second, false}, {30 * time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
			if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil {
				t.Fatal(err)
			}
			s.setRefusal(func(verb, _ string) error {
				if verb != "update" {
					return nil
				}
				return apierrors.NewForbidden(leaseResource, workloadsName, errors.New("no rule"))
			})
			<-time.After(tc.away)
			s.setRefusal(nil)
			<-time.After(5 * time.Second)
			if tc.lost {
				if reason := stoppedBy(t, context.Cause(work)); !strings.Contains(reason, "can no longer be renewed") || !strings.Contains(reason, "forbidden") {
					t.Error(reason)
				}
			} else if work.Err() != nil {
				t.Error(context.Cause(work))
			}
			set.Release(t.Context())
		})
	}
}

// A lease that is there, and that the user may not read, proves that somebody
// holds the lock.
func TestLockThatMayNotBeSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.held(shop[0], 15, 0)
		s.setRefusal(func(verb, _ string) error {
			if verb != "get" {
				return nil
			}
			return apierrors.NewForbidden(leaseResource, workloadsName, errors.New("no rule"))
		})
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		err := set.Acquire(t.Context(), progress.Emitter{}, shop)
		set.Release(t.Context())
		if reason := stoppedBy(t, err); !strings.Contains(reason, "get leases.coordination.k8s.io in namespace shop") {
			t.Error(reason)
		}
	})
}

// Who may not lock works on, and is told so; where the lock can be read and is
// held, it is respected.
func TestNoRightToLock(t *testing.T) {
	forbidden := func(verb, _ string) error {
		if verb == "get" {
			return nil
		}
		return apierrors.NewForbidden(leaseResource, workloadsName, errors.New("no rule"))
	}
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.setRefusal(forbidden)
		var told heard
		work, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		if err := set.Acquire(t.Context(), told.emitter(), shop); err != nil || work.Err() != nil {
			t.Fatal(err, context.Cause(work))
		}
		set.Release(t.Context())
		if !strings.Contains(told.text, "warning: nothing keeps a second run away from namespace shop") {
			t.Error(told.text)
		}

		s.held(shop[0], 15, 0)
		go func() {
			<-time.After(3 * time.Second)
			s.held(shop[0], 15, 0)
		}()
		_, set = New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		err := set.Acquire(t.Context(), told.emitter(), shop)
		set.Release(t.Context())
		stoppedBy(t, err)
	})
}

func TestAllAreReleasedWhereOneIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		keys := Workloads("c", "a", "b", "a", "")
		if len(keys) != 3 || keys[0].Namespace != "a" || keys[2].Namespace != "c" {
			t.Fatalf("not in their order, each once: %v", keys)
		}
		s.held(keys[2], 36000, 0)
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		err := set.Acquire(t.Context(), progress.Emitter{}, keys)
		stoppedBy(t, err)
		if s.holder(keys[0]) == "" || s.holder(keys[1]) == "" {
			t.Error("the first two were not taken")
		}
		set.Release(t.Context())
		if s.holder(keys[0]) != "" || s.holder(keys[1]) != "" {
			t.Error("the first two were not released")
		}
	})
}

func TestReleasedAfterAnInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		ctx, interrupt := context.WithCancel(t.Context())
		_, set := New(ctx, s, Options{Holder: "alice@laptop pid 42"})
		if err := set.Acquire(ctx, progress.Emitter{}, shop); err != nil {
			t.Fatal(err)
		}
		interrupt()
		<-time.After(time.Minute) // what has begun is followed to its end
		if s.holder(shop[0]) == "" {
			t.Error("given up while work may go on")
		}
		set.Release(ctx)
		if who := s.holder(shop[0]); who != "" {
			t.Errorf("not released: %q", who)
		}
	})
}

// Where a lease may not be deleted it is emptied.
func TestReleaseWithoutTheRightToDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		_, set := New(t.Context(), s, Options{Holder: "alice@laptop pid 42"})
		if err := set.Acquire(t.Context(), progress.Emitter{}, shop); err != nil {
			t.Fatal(err)
		}
		s.setRefusal(func(verb, _ string) error {
			if verb == "delete" {
				return apierrors.NewForbidden(leaseResource, workloadsName, errors.New("no rule"))
			}
			return nil
		})
		set.Release(t.Context())
		if lease := s.leases[shop[0]]; lease == nil || holder(lease) != "" {
			t.Errorf("%+v", lease)
		}
	})
}
