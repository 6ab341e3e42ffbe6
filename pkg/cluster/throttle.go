package cluster

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// throttle sends fewer requests at a time while the API server refuses some of
// them for being too many (429 with a Retry-After, kubernetes
// apiserver/pkg/server/filters/priority-and-fairness.go), and more again while
// it takes them. client-go alone gives up after ten tries, all of which may be
// lost to the requests that are sent beside it.
//
// An eviction that a PodDisruptionBudget forbids is a 429 too, and no matter of
// load: it goes to the caller as it is.
type throttle struct {
	// patience is how long one request is tried; what is refused after that
	// comes back as it is.
	patience time.Duration
	// pause waits, and is false where the context ended first.
	pause func(ctx context.Context, d time.Duration) bool
	now   func() time.Time

	mu       sync.Mutex
	limit    int // how many may be under way; 0 is no limit
	underway int
	taken    int           // requests that were taken since the limit last changed
	lowered  time.Time     // when the limit was last lowered
	freed    chan struct{} // closed, and made anew, when a request may start
}

const (
	// throttlePatience is as long as an API server that sheds load may take.
	throttlePatience = 5 * time.Minute
	// unthrottled is the limit from which on none is kept: no step sends more.
	unthrottled = 64
)

func newThrottle() *throttle {
	return &throttle{patience: throttlePatience, pause: sleep, now: time.Now, freed: make(chan struct{})}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// wrap makes a transport obey the throttle, together with all others that it
// wraps.
func (t *throttle) wrap(next http.RoundTripper) http.RoundTripper { return &throttled{next, t} }

type throttled struct {
	next http.RoundTripper
	*throttle
}

// WrappedRoundTripper lets client-go see what is below, to close connections.
func (t *throttled) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip sends a request when its turn has come, and again while it is
// refused for load.
func (t *throttled) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	began := t.now()
	for {
		if err := t.enter(ctx); err != nil {
			if request.Body != nil {
				_ = request.Body.Close() // as every RoundTripper must
			}
			return nil, err
		}
		response, err := t.next.RoundTrip(request)
		after, refused := retryAfter(request, response, err)
		t.leave(refused)
		if !refused || t.now().Sub(began) >= t.patience {
			return response, err
		}
		again, err := anew(request)
		if err != nil || again == nil {
			return response, nil //nolint:nilerr // a body that cannot be sent twice: the caller decides
		}
		klog.FromContext(ctx).V(2).Info("The API server is too busy", "path", request.URL.Path, "again after", after)
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
		_ = response.Body.Close()
		// Those that were refused together do not come back together.
		if !t.pause(ctx, after+rand.N(after/2+1)) {
			return nil, context.Cause(ctx)
		}
		request = again
	}
}

// anew gives the request with a body that can be read again, nil where there is
// none.
func anew(request *http.Request) (*http.Request, error) {
	again := request.Clone(request.Context())
	if request.Body == nil || request.Body == http.NoBody {
		return again, nil
	}
	if request.GetBody == nil {
		return nil, nil
	}
	body, err := request.GetBody()
	again.Body = body
	return again, err
}

// retryAfter says whether the API server refused a request for load, and how
// long it wants to be left alone.
func retryAfter(request *http.Request, response *http.Response, err error) (time.Duration, bool) {
	if err != nil || response.StatusCode != http.StatusTooManyRequests || strings.HasSuffix(request.URL.Path, "/eviction") {
		return 0, false
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}

// enter waits until one more request may be under way.
func (t *throttle) enter(ctx context.Context) error {
	for {
		t.mu.Lock()
		if t.limit == 0 || t.underway < t.limit {
			t.underway++
			t.mu.Unlock()
			return nil
		}
		freed := t.freed
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-freed:
		}
	}
}

// leave ends a request. A refusal halves what may be under way, at most once a
// second, since many are refused at once; as many that are taken as may be
// under way allow one more.
func (t *throttle) leave(refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case refused && t.now().Sub(t.lowered) >= time.Second:
		if t.limit == 0 {
			t.limit = min(t.underway, unthrottled)
		}
		t.limit, t.taken, t.lowered = max(1, t.limit/2), 0, t.now()
	case !refused && t.limit > 0:
		if t.taken++; t.taken >= t.limit {
			t.limit, t.taken = t.limit+1, 0
		}
		if t.limit >= unthrottled {
			t.limit = 0
		}
	}
	t.underway--
	close(t.freed)
	t.freed = make(chan struct{})
}
