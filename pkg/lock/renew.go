package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// renewAll renews the leases as they come due, until Release.
func (s *Set) renewAll(ctx context.Context) {
	defer close(s.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
		group := errgroup.Group{}
		group.SetLimit(parallel)
		for key, lease := range s.due() {
			group.Go(func() error {
				s.renew(ctx, key, lease)
				return nil
			})
		}
		_ = group.Wait() // renew says itself what went wrong
	}
}

// due gives the leases that are to be renewed now.
func (s *Set) due() map[Key]*coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := map[Key]*coordinationv1.Lease{}
	for key, h := range s.held {
		if h.age() >= lengthOf(h.lease)/renewals {
			due[key] = h.lease
		}
	}
	return due
}

// age is how long ago a lease was renewed: by the monotonic clock, which stands
// still while a machine sleeps, or by the wall clock, whichever says more.
func (h *hold) age() time.Duration {
	now := time.Now()
	return max(now.Sub(h.renewed), now.Round(0).Sub(h.renewed.Round(0)))
}

// Unrenewed is the error of Held.
type Unrenewed struct {
	Key Key
	Age time.Duration
}

// Error says what is not done, and why.
func (u *Unrenewed) Error() string {
	return fmt.Sprintf("the lock of %s could not be renewed for %s, so another run may take it: nothing is written until it is renewed", u.Key, u.Age.Round(time.Second))
}

// Timeout says that it may go away by itself, as net.Error has it.
func (u *Unrenewed) Timeout() bool { return true }

// Temporary belongs to net.Error.
func (u *Unrenewed) Temporary() bool { return true }

// Held says whether the set may still write: nil unless one of its leases was not
// renewed for half of its duration, so that another run with TakeOver may have it
// by now. It waits for a renewal that is on its way, and gives an *Unrenewed where
// none comes within five seconds. A set that has lost a lock may not until it is
// released, and an empty one may.
func (s *Set) Held(ctx context.Context) error {
	for began := time.Now(); ; {
		err := s.unsafe()
		if err == nil || !errors.As(err, new(*Unrenewed)) || time.Since(began) >= requestTimeout {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tick / 4):
		}
	}
}

// unsafe says why nothing may be written now.
func (s *Set) unsafe() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loss != nil {
		return s.loss
	}
	for key, h := range s.held {
		if age := h.age(); age >= lengthOf(h.lease)/2 {
			return &Unrenewed{key, age}
		}
	}
	return nil
}

// renew renews a lease. An API server that does not answer is asked again: as
// long as it is away, nobody else can take the lease either. A right to renew
// that is gone, and stays so for the lease's duration, is the loss of the lock.
func (s *Set) renew(ctx context.Context, key Key, lease *coordinationv1.Lease) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	leases := s.kube.CoordinationV1().Leases(key.Namespace)
	lease = lease.DeepCopy()
	lease.Spec.RenewTime = new(metav1.NewMicroTime(s.o.Now()))
	sent := time.Now()
	updated, err := leases.Update(ctx, lease, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		fresh := lease.DeepCopy()
		fresh.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
		updated, err = leases.Create(ctx, fresh, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			s.forget(key)
			s.tell(progress.Warning, key, fmt.Sprintf("the lock of %s was deleted and cannot be made again: %v", key, err))
			return
		}
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		found, getErr := leases.Get(ctx, key.Name, metav1.GetOptions{})
		switch {
		case getErr != nil:
			return
		case !s.ours(found):
			s.lost(key, takenBy(found))
			return
		}
		// Still ours: someone labelled it, or our last renewal was stored and its
		// answer never came.
		found.Spec.RenewTime = lease.Spec.RenewTime
		sent = time.Now()
		updated, err = leases.Update(ctx, found, metav1.UpdateOptions{})
	}
	if apierrors.IsForbidden(err) && s.expired(key) {
		s.lost(key, fmt.Sprintf("can no longer be renewed (%v)", err))
	}
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] != nil {
		s.held[key] = &hold{lease: updated, renewed: sent}
	}
}

// takenBy words whose a lease is now.
func takenBy(lease *coordinationv1.Lease) string {
	if holder(lease) == "" {
		return "was taken by someone"
	}
	return "was taken by " + claim(lease)
}

// expired says whether a lease was not renewed for its whole duration.
func (s *Set) expired(key Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[key]
	return h != nil && h.age() >= lengthOf(h.lease)
}

func (s *Set) forget(key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, key)
}

// lost ends the work under the locks; what has become of it continues the words
// "the lock of X".
func (s *Set) lost(key Key, what string) {
	reason := fmt.Sprintf("the lock of %s %s: nothing new is started, and what has begun goes on by itself; look at kubectl istio-upgrade status before you run this again", key, what)
	s.tell(progress.Failed, key, reason)
	loss := &gate.Stopped{Reason: reason}
	s.mu.Lock()
	s.loss = loss
	delete(s.held, key)
	s.mu.Unlock()
	s.lose(loss)
}

// Release gives the locks back, also after an interrupt: each lease is deleted,
// or emptied where the user may not delete. What cannot be released expires.
func (s *Set) Release(ctx context.Context) {
	defer s.lose(nil)
	if s.stop == nil {
		return
	}
	close(s.stop)
	<-s.stopped
	s.stop = nil
	defer s.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for key, h := range s.held {
		group.Go(func() error {
			if err := s.release(ctx, key, h.lease); err != nil {
				s.tell(progress.Warning, key, fmt.Sprintf("the lock of %s could not be released and expires by itself: %v", key, err))
			}
			return nil
		})
	}
	_ = group.Wait() // told already
}

// end leaves the set as it was before its first lock.
func (s *Set) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.held)
	s.loss = nil
}

func (s *Set) release(ctx context.Context, key Key, lease *coordinationv1.Lease) error {
	leases := s.kube.CoordinationV1().Leases(key.Namespace)
	err := leases.Delete(ctx, key.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion},
	})
	if apierrors.IsConflict(err) {
		found, getErr := leases.Get(ctx, key.Name, metav1.GetOptions{})
		if getErr == nil && s.ours(found) {
			err = leases.Delete(ctx, key.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &found.UID, ResourceVersion: &found.ResourceVersion},
			})
		} else if getErr == nil || apierrors.IsNotFound(getErr) {
			return nil // it is another's by now
		}
	}
	if apierrors.IsForbidden(err) {
		empty := lease.DeepCopy()
		empty.Spec.HolderIdentity = new("")
		_, err = leases.Update(ctx, empty, metav1.UpdateOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
