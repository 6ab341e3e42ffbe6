package lock

import (
	"context"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// take gives the lease of the first of the keys once it is ours, and when the
// request was sent that made it so; nil where the user cannot lock. The other
// keys, which are to be taken after it, are looked at with it where it has to be
// waited for.
func (s *Set) take(ctx context.Context, keys []Key, length time.Duration) (*coordinationv1.Lease, time.Time, error) {
	key := keys[0]
	leases := s.kube.CoordinationV1().Leases(key.Namespace)
	for {
		sent := time.Now()
		lease, err := leases.Create(ctx, s.newLease(key, length), metav1.CreateOptions{})
		if err == nil {
			return lease, sent, nil
		}
		if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsMethodNotSupported(err) {
			s.unprotected(key, err)
			return nil, sent, nil
		}
		if !apierrors.IsAlreadyExists(err) && !apierrors.IsForbidden(err) {
			return nil, sent, fmt.Errorf("lock %s: %w", key, err)
		}
		found, getErr := leases.Get(ctx, key.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsForbidden(err) && (apierrors.IsNotFound(getErr) || apierrors.IsForbidden(getErr)):
			s.unprotected(key, err)
			return nil, sent, nil
		case apierrors.IsNotFound(getErr):
			continue // released between the two requests
		case apierrors.IsForbidden(getErr):
			return nil, sent, &gate.Stopped{Reason: fmt.Sprintf("%s is locked (%s), and you may not see by whom: nothing was changed under this lock; ask for the right to get leases.coordination.k8s.io in namespace %s",
				key, key.lease(), key.Namespace)}
		case getErr != nil:
			return nil, sent, fmt.Errorf("look who works on %s: %w", key, getErr)
		}
		if holder(found) != "" && !s.ours(found) {
			switch seen := s.still[key]; {
			case seen == nil:
				if err := s.outwait(ctx, key, found, keys[1:]); err != nil {
					return nil, sent, err
				}
			case !same(found, seen):
				return nil, sent, lives(key, found)
			}
		}
		taken := s.newLease(key, length)
		taken.ObjectMeta = found.ObjectMeta
		taken.Spec.LeaseTransitions = new(valueOf(found.Spec.LeaseTransitions) + 1)
		sent = time.Now()
		lease, err = leases.Update(ctx, taken, metav1.UpdateOptions{})
		switch {
		case err == nil:
			if who := holder(found); who != "" && !s.ours(found) {
				s.takenFrom[who] = append(s.takenFrom[who], key)
			}
			return lease, sent, nil
		case apierrors.IsConflict(err), apierrors.IsNotFound(err):
			continue // someone was quicker
		case apierrors.IsForbidden(err):
			s.unprotected(key, err)
			return nil, sent, nil
		}
		return nil, sent, fmt.Errorf("lock %s: %w", key, err)
	}
}

// newLease is a lease of ours, from now on.
func (s *Set) newLease(key Key, length time.Duration) *coordinationv1.Lease {
	now := metav1.NewMicroTime(s.o.Now())
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: new(s.o.Holder), LeaseDurationSeconds: new(int32(length / time.Second)),
			AcquireTime: &s.since, RenewTime: &now, LeaseTransitions: new(int32(0)),
		},
	}
}

// ours says whether a lease is this run's.
func (s *Set) ours(lease *coordinationv1.Lease) bool {
	return valueOf(lease.Spec.HolderIdentity) == s.o.Holder && lease.Spec.AcquireTime.Equal(&s.since)
}

// unprotected warns that a run has no lock, be it for a missing right, a quota,
// a policy or a missing namespace.
func (s *Set) unprotected(key Key, err error) {
	s.tell(progress.Warning, key, fmt.Sprintf("nothing keeps a second run away from %s: %v", key, err))
}

// same says whether a lease is in the hands that it was in, not renewed since.
func same(a, b *coordinationv1.Lease) bool {
	return a.UID == b.UID && holder(a) == holder(b) && a.Spec.AcquireTime.Equal(b.Spec.AcquireTime) && a.Spec.RenewTime.Equal(b.Spec.RenewTime)
}

// holder gives who holds a lease, on one line; "" for nobody.
func holder(lease *coordinationv1.Lease) string {
	return strings.Join(strings.Fields(valueOf(lease.Spec.HolderIdentity)), " ")
}

// claim says who holds a lease and since when, by the holder's own clock, in the
// time zone of who reads it.
func claim(lease *coordinationv1.Lease) string {
	if lease.Spec.AcquireTime == nil {
		return holder(lease)
	}
	return holder(lease) + " since " + lease.Spec.AcquireTime.Local().Format("2006-01-02 15:04:05 MST")
}

// lengthOf gives how long a lease is to be respected without renewal.
func lengthOf(lease *coordinationv1.Lease) time.Duration {
	return time.Duration(valueOf(lease.Spec.LeaseDurationSeconds)) * time.Second
}

func valueOf[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
