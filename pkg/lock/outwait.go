package lock

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// outwait looks at a lease that another run holds, and at those of the other
// keys that are held, until all may be taken: when none has changed for as long
// as the longest of them is respected, or for half of it with TakeOver. A change
// in that time proves that the holder lives, or lived until just now, which gives
// a *gate.Stopped: what was planned no longer holds either. What stood still is
// remembered; it is taken as it was seen, or not at all.
func (s *Set) outwait(ctx context.Context, key Key, seen *coordinationv1.Lease, others []Key) error {
	contested, err := s.contested(ctx, others)
	if err != nil {
		return err
	}
	contested[key] = seen
	// A run renews all of its leases, so one of each shows whether it lives.
	keysOf := map[string][]Key{}
	var silence time.Duration
	for key, lease := range contested {
		length := lengthOf(lease)
		if length <= 0 {
			length = duration
		}
		switch {
		case s.o.TakeOver:
			length = min(max(length, duration), longDuration) / 2
		case length > longDuration:
			return &gate.Stopped{Reason: fmt.Sprintf("%s is locked by %s: its lease (%s) is for %s; nothing was changed under this lock; if that run is dead, give --take-over",
				key, claim(lease), key.lease(), length)}
		}
		silence = max(silence, length)
		run := claim(lease)
		keysOf[run] = append(keysOf[run], key)
	}
	for run, keys := range keysOf {
		keysOf[run] = inOrder(keys)
		s.tell(progress.Waiting, keysOf[run][0], fmt.Sprintf("%s is locked by %s; looking for %s whether that run still lives", several(keysOf[run]), run, silence))
	}
	for began := time.Now(); time.Since(began) < silence; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tick):
		}
		for _, keys := range keysOf {
			if err := s.glance(ctx, keys[0], contested[keys[0]]); err != nil {
				return err
			}
		}
	}
	maps.Copy(s.still, contested)
	return nil
}

// glance gives a *gate.Stopped where a lease is not as it was seen.
func (s *Set) glance(ctx context.Context, key Key, seen *coordinationv1.Lease) error {
	now, err := s.kube.CoordinationV1().Leases(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) || err == nil && holder(now) == "":
		return &gate.Stopped{Reason: fmt.Sprintf("%s worked on %s and has just ended, so that the plan no longer holds: nothing was changed under this lock; run the same command again", holder(seen), key)}
	case err == nil && !same(now, seen):
		return lives(key, now)
	}
	// An error: the API server is away for a moment; in the end the lease has to
	// be as it was seen, or it cannot be taken.
	return nil
}

// lives is the answer to a lease whose holder is at work.
func lives(key Key, now *coordinationv1.Lease) error {
	return &gate.Stopped{Reason: fmt.Sprintf("%s is being worked on by %s, which has renewed its lease (%s) just now: nothing was changed under this lock; run the same command again when it has ended",
		key, claim(now), key.lease())}
}

// contested reads which of the keys another run holds. One that cannot be read is
// judged when it is taken.
func (s *Set) contested(ctx context.Context, keys []Key) (map[Key]*coordinationv1.Lease, error) {
	found := map[Key]*coordinationv1.Lease{}
	var mu sync.Mutex
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, key := range keys {
		group.Go(func() error {
			lease, err := s.kube.CoordinationV1().Leases(key.Namespace).Get(reading, key.Name, metav1.GetOptions{})
			if err != nil || holder(lease) == "" || s.ours(lease) {
				return nil //nolint:nilerr // judged when it is taken
			}
			mu.Lock()
			defer mu.Unlock()
			found[key] = lease
			return nil
		})
	}
	_ = group.Wait() // none gives an error
	return found, context.Cause(ctx)
}
