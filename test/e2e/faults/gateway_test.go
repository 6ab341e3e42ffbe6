package faults

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

// gateway stands between the plugin and the API server, as a load balancer
// does, and makes what can go wrong there go wrong.
type gateway struct {
	w      *clustertest.World
	server *httptest.Server
	proxy  *httputil.ReverseProxy
	token  string // what the API server knows

	// spoil, where set, answers a request itself and says that it did.
	spoil atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// edit, where set, changes what is passed on.
	edit atomic.Pointer[func(*http.Request)]
	down atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	count map[string]int

	watches map[*http.Request]context.CancelFunc
}

// newGateway starts one, which ends with the test.
func newGateway(w *clustertest.World) *gateway {
	w.T.Helper()
	config := w.Config()
	target, err := url.Parse(config.Host)
	w.Check(err)
	g := &gateway{w: w, token: config.BearerToken, conns: map[net.Conn]bool{}, count: map[string]int{}, watches: map[*http.Request]context.CancelFunc{}}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if edit := g.edit.Load(); edit != nil {
				(*edit)(r.Out)
			}
		},
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, //nolint:gosec // the lab's own, on loopback
		},
		FlushInterval: -1, // watches
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	g.server = httptest.NewUnstartedServer(http.HandlerFunc(g.serve))
	g.server.EnableHTTP2 = true
	g.server.Config.ConnState = g.note
	g.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.proxy.ErrorLog = g.server.Config.ErrorLog
	g.server.StartTLS()
	w.T.Cleanup(func() { g.cut(); g.server.Close() })
	return g
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	if g.down.Load() {
		panic(http.ErrAbortHandler)
	}
	if spoil := g.spoil.Load(); spoil != nil && (*spoil)(w, r) {
		return
	}
	if !watching(r) {
		g.proxy.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	g.mu.Lock()
	g.count["watch"]++
	g.watches[r] = cancel
	g.mu.Unlock()
	defer func() {
		_ = recover() // the end of the copy is the end of the watch, no more
		g.mu.Lock()
		delete(g.watches, r)
		g.mu.Unlock()
	}()
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// closeWatches ends the watches that are open, as an API server does after a
// while.
func (g *gateway) closeWatches() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, end := range g.watches {
		end()
	}
}

// note keeps the connections, and closes those that come while it is down.
func (g *gateway) note(c net.Conn, state http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(g.conns, c)
	default:
		g.conns[c] = true
		if g.down.Load() {
			_ = c.Close()
		}
	}
}

// cut closes all connections at once.
func (g *gateway) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close()
	}
}

// goesDown makes the API server unreachable until comesBack.
func (g *gateway) goesDown()  { g.down.Store(true); g.cut() }
func (g *gateway) comesBack() { g.down.Store(false) }

// spoils sets what goes wrong; nil ends it.
func (g *gateway) spoils(how func(http.ResponseWriter, *http.Request) bool) {
	if how == nil {
		g.spoil.Store(nil)
		return
	}
	g.spoil.Store(&how)
}

// seen counts one thing that happened, and gives how often it has.
func (g *gateway) seen(what string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count[what]++
	return g.count[what]
}

// times is how often a thing happened.
func (g *gateway) times(what string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count[what]
}

// answer is a Status as the API server writes it.
func answer(w http.ResponseWriter, code int, reason, message string) {
	write(w, code, status(code, reason, message))
}

func write(w http.ResponseWriter, code int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func status(code int, reason, message string) map[string]any {
	return map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
	}
}

// watching says whether a request is a watch.
func watching(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

// kubeconfig writes one that leads through the gateway, as this user.
func (g *gateway) kubeconfig(user *clientcmdapi.AuthInfo) string {
	g.w.T.Helper()
	if user == nil {
		user = &clientcmdapi.AuthInfo{Token: g.token}
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{
		Server:                   g.server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.server.Certificate().Raw}),
	}
	config.AuthInfos["lab"] = user
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "lab"}
	config.CurrentContext = "lab"
	path := filepath.Join(g.w.T.TempDir(), "kubeconfig")
	g.w.Check(clientcmd.WriteToFile(*config, path))
	return path
}

// through has the case's runs go through a gateway.
func (s *scene) through() *gateway {
	s.T.Helper()
	g := newGateway(s.World)
	s.OtherKubeconfig = g.kubeconfig(nil)
	return g
}

// bearer is the token that a request bears.
func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}
