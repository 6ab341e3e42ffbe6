package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// Patience is how long a request is tried again while the API server cannot be
// reached or is too busy: longer than its restart takes.
const Patience = 90 * time.Second

// Persist is the function of that name with the usual patience. An API server
// that has never answered is not waited for: its address is wrong, most likely.
func (c *Cluster) Persist(ctx context.Context, do func(context.Context) error) error {
	if !c.reached.Load() {
		return do(ctx)
	}
	return Persist(ctx, Patience, do)
}

// Reading is Persist for a request that gives something, such as a list.
func Reading[T any](ctx context.Context, c *Cluster, read func(context.Context) (T, error)) (T, error) {
	var got T
	err := c.Persist(ctx, func(ctx context.Context) (err error) {
		got, err = read(ctx)
		return err
	})
	return got, err
}

// noting notes that the API server has answered.
type noting struct {
	next    http.RoundTripper
	reached *atomic.Bool
}

func (n *noting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := n.next.RoundTrip(request)
	if err == nil {
		n.reached.Store(true)
	}
	return response, err
}

// WrappedRoundTripper lets client-go see what is below, to close connections.
func (n *noting) WrappedRoundTripper() http.RoundTripper { return n.next }

// Unreachable says that a request to the API server got no answer: it, or what
// lies between, refused or broke the connection or kept silent.
type Unreachable struct{ Err error }

// Error gives what the connection failed with.
func (u *Unreachable) Error() string { return u.Err.Error() }

// Unwrap gives the error itself.
func (u *Unreachable) Unwrap() error { return u.Err }

// Mark gives an error as an *Unreachable where it comes from a request to this
// API server that got no answer, and any other error as it is: those of files, of
// charts and of manifests from elsewhere are not the API server's.
func (c *Cluster) Mark(err error) error {
	var request *url.Error // client-go sends all of its requests by net/http
	if !errors.As(err, &request) || errors.Is(err, context.Canceled) || errors.As(err, new(*Unreachable)) {
		return err
	}
	to, parseErr := url.Parse(request.URL)
	server, _, serverErr := rest.DefaultServerUrlFor(c.Config)
	if parseErr != nil || serverErr != nil || to.Host != server.Host {
		return err
	}
	return &Unreachable{err}
}

// Persist calls do until it succeeds or fails for good, and at most as long as
// given: a request that fails because the API server is restarted, unreachable
// or busy is sent again, with growing pauses of at most 5 s. What do sends must
// do no harm when it is sent twice. The error is that of the last try. 429 with
// a Retry-After has been obeyed by client-go before it comes back.
func Persist(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	deadline := time.Now().Add(limit)
	backoff := wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 1 << 20, Cap: 5 * time.Second}
	pause := backoff.DelayFunc()
	for {
		err := do(ctx)
		if err == nil || !Transient(err) || ctx.Err() != nil {
			return err
		}
		wait := time.NewTimer(pause())
		if time.Now().After(deadline) {
			wait.Stop()
			return err
		}
		select {
		case <-ctx.Done():
			wait.Stop()
			return err
		case <-wait.C:
		}
	}
}

// Transient says whether an error may go away by itself: the API server is not
// reached, is shutting down or is too busy. An eviction that a
// PodDisruptionBudget holds back is not meant, although it is a 429 too.
func Transient(err error) bool {
	if _, budget := apierrors.StatusCause(err, "DisruptionBudget"); budget {
		return false
	}
	var network net.Error
	var dns *net.DNSError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsServiceUnavailable(err):
		return true
	case utilnet.IsConnectionRefused(err), utilnet.IsConnectionReset(err), utilnet.IsHTTP2ConnectionLost(err), utilnet.IsProbableEOF(err):
		return true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return true
	case errors.As(err, &dns) && dns.IsTemporary: // a resolver that is restarted; a name that does not exist is not
		return true
	}
	return errors.As(err, &network) && network.Timeout()
}
