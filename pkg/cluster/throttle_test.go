package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// busyServer takes so many requests at a time, and refuses the rest as the API
// server's fairness does.
type busyServer struct {
	seats           int32
	underway        atomic.Int32
	taken, refused  atomic.Int32
	retryAfter      string
	mu              sync.Mutex
	bodies          map[string]int
	hold            time.Duration
	refuseEverybody bool
}

func (s *busyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.underway.Add(-1)
	if s.underway.Add(1) > s.seats || s.refuseEverybody {
		s.refused.Add(1)
		if s.retryAfter != "" {
			w.Header().Set("Retry-After", s.retryAfter)
		}
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	body, _ := io.ReadAll(r.Body)
	select {
	case <-r.Context().Done():
	case <-time.After(s.hold):
	}
	s.mu.Lock()
	s.bodies[string(body)]++
	s.mu.Unlock()
	s.taken.Add(1)
	w.WriteHeader(http.StatusOK)
}

// throttledClient gives a client whose waiting takes no time but a moment.
func throttledClient(t *testing.T, s *busyServer) (*http.Client, string, *throttle) {
	t.Helper()
	s.bodies = map[string]int{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	th := newThrottle()
	th.pause = func(ctx context.Context, d time.Duration) bool { return sleep(ctx, min(d, 5*time.Millisecond)) }
	return &http.Client{Transport: th.wrap(http.DefaultTransport)}, server.URL, th
}

func post(t *testing.T, client *http.Client, url, body string) (int, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// A server with three seats gets two hundred requests at once: every one is
// taken in the end, exactly once and with its body.
func TestThrottleGetsEverythingThrough(t *testing.T) {
	s := &busyServer{seats: 3, retryAfter: "1", hold: time.Millisecond}
	client, url, _ := throttledClient(t, s)
	const requests = 200
	var all sync.WaitGroup
	var failed atomic.Int32
	for i := range requests {
		all.Go(func() {
			if code, err := post(t, client, url, fmt.Sprint("body ", i)); err != nil || code != http.StatusOK {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 || s.taken.Load() != requests {
		t.Errorf("%d of %d failed, %d taken", failed.Load(), requests, s.taken.Load())
	}
	if s.refused.Load() == 0 {
		t.Error("nothing was refused: the test proves nothing")
	}
	for i := range requests {
		if n := s.bodies[fmt.Sprint("body ", i)]; n != 1 {
			t.Errorf("body %d arrived %d times", i, n)
		}
	}
}

// What is not a matter of load comes back at once.
func TestThrottleLeavesOthersAlone(t *testing.T) {
	for _, c := range []struct {
		name, path, retryAfter string
	}{
		{"an eviction that a budget forbids", "/api/v1/namespaces/shop/pods/web/eviction", "10"},
		{"a 429 that names no time", "/api/v1/pods", ""},
	} {
		s := &busyServer{refuseEverybody: true, retryAfter: c.retryAfter}
		client, url, th := throttledClient(t, s)
		if code, err := post(t, client, url+c.path, "x"); err != nil || code != http.StatusTooManyRequests {
			t.Errorf("%s: %d, %v", c.name, code, err)
		}
		if s.refused.Load() != 1 || th.limit != 0 {
			t.Errorf("%s: sent %d times, limit %d", c.name, s.refused.Load(), th.limit)
		}
	}
}

// A server that refuses for ever is not asked for ever, and a context ends it.
func TestThrottleEnds(t *testing.T) {
	s := &busyServer{refuseEverybody: true, retryAfter: "1"}
	client, url, th := throttledClient(t, s)
	th.patience = 50 * time.Millisecond
	if code, err := post(t, client, url, "x"); err != nil || code != http.StatusTooManyRequests {
		t.Errorf("after its patience: %d, %v", code, err)
	}
	th.patience = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err == nil {
		_ = response.Body.Close()
		t.Error("it went on after its context")
	}
	if th.underway != 0 {
		t.Errorf("%d requests are still counted", th.underway)
	}
}

// Refusals halve the limit, requests that are taken raise it until there is none.
func TestThrottleLimit(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	th := newThrottle()
	th.now = func() time.Time { return now }
	th.underway = 40
	th.leave(true)
	th.leave(true) // in the same second: once is enough
	if th.limit != 20 {
		t.Errorf("40 under way, one second of refusals: limit %d, want 20", th.limit)
	}
	for range 6 {
		now = now.Add(time.Second)
		th.leave(true)
	}
	if th.limit != 1 {
		t.Errorf("it fell to %d, want 1", th.limit)
	}
	th.underway = 10000
	for range 1 + 2 + 3 {
		th.leave(false)
	}
	if th.limit != 4 {
		t.Errorf("after 6 that were taken: limit %d, want 4", th.limit)
	}
	for range 64 * 64 {
		th.leave(false)
	}
	if th.limit != 0 {
		t.Errorf("it never came off: limit %d", th.limit)
	}
}
