package cluster

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
)

// guard is asked before each request that may write.
type guard struct {
	mu  sync.Mutex
	ask []func(context.Context) error
}

// Guard has may asked before each request that does not only read, the Helm SDK's
// too: where it gives an error, that is the request's, which is not sent. Leases
// are written without asking: the answer comes from them.
func (c *Cluster) Guard(may func(context.Context) error) {
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	c.guard.ask = append(c.guard.ask, may)
}

// wrap makes a transport ask.
func (g *guard) wrap(next http.RoundTripper) http.RoundTripper { return &guarded{next, g} }

type guarded struct {
	next http.RoundTripper
	*guard
}

// RoundTrip asks, and sends.
func (g *guarded) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet || request.Method == http.MethodHead || strings.Contains(request.URL.Path, "/apis/coordination.k8s.io/") {
		return g.next.RoundTrip(request)
	}
	g.mu.Lock()
	ask := slices.Clone(g.ask)
	g.mu.Unlock()
	for _, may := range ask {
		if err := may(request.Context()); err != nil {
			if request.Body != nil {
				_ = request.Body.Close() // as a RoundTripper must; nothing was sent
			}
			return nil, err
		}
	}
	return g.next.RoundTrip(request)
}

// WrappedRoundTripper lets client-go see what is below, to close connections.
func (g *guarded) WrappedRoundTripper() http.RoundTripper { return g.next }

// guardedGetter has the clients that the Helm SDK makes ask too.
type guardedGetter struct {
	genericclioptions.RESTClientGetter
	guard *guard
}

// ToRESTConfig gives the user's configuration with the guard in its transport.
func (g *guardedGetter) ToRESTConfig() (*rest.Config, error) {
	config, err := g.RESTClientGetter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.Wrap(g.guard.wrap)
	return config, nil
}
