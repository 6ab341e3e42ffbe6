package faults

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// What goes wrong between the plugin and the API server.
var apiFaults = []fault{
	{name: "unreachable for 20 s", objects: web("a", "b"), test: unreachable},
	{name: "unreachable from the start", objects: web("a"), test: unreachableFromTheStart},
	{name: "throttled", objects: web("a", "b", "c"), test: throttled},
	{name: "watch closed", objects: web("a", "b", "c"), test: watchClosed},
	{name: "watch expired", objects: web("a", "b", "c"), test: watchExpired},
	{name: "continue token expired", objects: web("a", "b", "c"), test: continueExpired},
	{name: "credential renewed", objects: web("a", "b"), test: credentialRenewed},
	{name: "credential refused", objects: web("a"), test: credentialRefused},
	{name: "server restarted", objects: web("a", "b"), alone: true, test: serverRestarted},
}

// unreachable: the connection is lost for 20 s in the middle of a rollout,
// which goes on in the cluster; the run sees its end and goes on.
func unreachable(s *scene) {
	g := s.through()
	release := s.failing(lab.FailNeverReady)
	p := start(s.World, s.sidecars("--max-parallel", "1")...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	g.goesDown()
	release()
	time.Sleep(20 * time.Second) // what the case is about
	g.comesBack()
	p.must(0, "✓ deployment/a in "+s.ns, "✓ deployment/b in "+s.ns)
	s.finishes(s.sidecars())
}

func unreachableFromTheStart(s *scene) {
	g := s.through()
	g.goesDown()
	s.fails(1, s.sidecars(), "the API server does not answer")
	g.comesBack()
	s.finishes(s.sidecars())
}

// throttled: every request is first answered with 429 and Retry-After.
func throttled(s *scene) {
	g := s.through()
	g.spoils(func(w http.ResponseWriter, r *http.Request) bool {
		if g.seen(r.Method+r.URL.String())%2 == 0 {
			return false
		}
		g.seen("429")
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusTooManyRequests, "TooManyRequests", "too many requests, please try again later")
		return true
	})
	s.finishes(s.sidecars())
	if n := g.times("429"); n < 10 {
		s.T.Errorf("only %d requests were throttled", n)
	}
}

// watchClosed: the watches are closed again and again while workloads move.
func watchClosed(s *scene) {
	g := s.through()
	release := s.failing(lab.FailNeverReady)
	p := start(s.World, s.sidecars("--max-parallel", "1")...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	for range 4 {
		before := g.times("watch")
		g.closeWatches()
		s.Eventually("watches opened anew", func() string {
			if g.times("watch") == before {
				return "none was"
			}
			return ""
		})
	}
	release()
	p.must(0, "✓ deployment/c in "+s.ns)
	s.finishes(s.sidecars())
}

// watchExpired: the resource version that a watch goes on from is too old.
func watchExpired(s *scene) {
	g := s.through()
	release := s.failing(lab.FailNeverReady)
	g.spoils(func(w http.ResponseWriter, r *http.Request) bool {
		if !watching(r) {
			return false
		}
		n := g.seen("spoiled")
		switch {
		case n == 12:
			release()
			return false
		case n > 12:
			return false
		case n%2 == 1: // as an event of the watch
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintln(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}}`)
		default: // as its answer
			answer(w, http.StatusGone, "Expired", "too old resource version")
		}
		return true
	})
	s.finishes(s.sidecars())
	if n := g.times("spoiled"); n < 12 {
		s.T.Errorf("only %d watches were opened", n)
	}
}

// watchesExpire closes the watches, and has each begin with a new list: the
// version to go on from has expired. It gives how many did so far.
func watchesExpire(g *gateway) (expired func() int) {
	var mu sync.Mutex
	paths := map[string]bool{}
	g.spoils(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if !watching(r) || paths[r.URL.Path] {
			return false
		}
		paths[r.URL.Path] = true
		answer(w, http.StatusGone, "Expired", "too old resource version")
		return true
	})
	g.closeWatches()
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(paths)
	}
}

// continueExpired: a long list's second page comes too late.
func continueExpired(s *scene) {
	g := s.through()
	small := func(r *http.Request) {
		q := r.URL.Query()
		if q.Get("limit") != "" {
			q.Set("limit", "2")
			r.URL.RawQuery = q.Encode()
		}
	}
	g.edit.Store(&small)
	g.spoils(func(w http.ResponseWriter, r *http.Request) bool {
		token, now := fromNowOn(r.URL.Query().Get("continue"))
		if token == "" || now {
			return false
		}
		g.seen("expired")
		body := status(http.StatusGone, "Expired", "The provided continue parameter is too old to display a consistent list result.")
		body["metadata"] = map[string]string{"continue": token}
		write(w, http.StatusGone, body)
		return true
	})
	s.finishes(s.sidecars())
	if g.times("expired") == 0 {
		s.T.Error("no list was continued")
	}
}

// fromNowOn gives the token that the API server offers for a list which has
// expired, and whether this is such a one already (k8s.io/apiserver
// pkg/storage/continue.go).
func fromNowOn(token string) (string, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	var fields struct {
		APIVersion      string `json:"v"`
		ResourceVersion int64  `json:"rv"`
		StartKey        string `json:"start"`
	}
	if err != nil || json.Unmarshal(raw, &fields) != nil {
		return "", false
	}
	now := fields.ResourceVersion == -1
	fields.ResourceVersion = -1
	raw, _ = json.Marshal(fields)
	return base64.RawURLEncoding.EncodeToString(raw), now
}

// credentialRenewed: the token expires in the middle of a rollout, and the
// kubeconfig's exec plugin gives another.
func credentialRenewed(s *scene) {
	g := newGateway(s.World)
	dir := s.T.TempDir()
	var valid atomic.Int32
	valid.Store(1)
	mint := func(n int32) {
		s.Check(os.WriteFile(filepath.Join(dir, "token"), fmt.Appendf(nil,
			`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"token-%d"}}`, n), 0o600))
	}
	mint(1)
	right := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+g.token) }
	g.edit.Store(&right)
	g.spoils(func(w http.ResponseWriter, r *http.Request) bool {
		if bearer(r) == fmt.Sprintf("token-%d", valid.Load()) {
			g.seen(bearer(r))
			return false
		}
		g.seen("401")
		answer(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return true
	})
	s.OtherKubeconfig = g.kubeconfig(&clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: "cat", Args: []string{filepath.Join(dir, "token")},
		InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}})
	release := s.failing(lab.FailNeverReady)
	p := start(s.World, s.sidecars("--max-parallel", "1")...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	valid.Store(2)
	mint(2)
	g.cut() // its watches have to be opened anew
	release()
	o := p.must(0, "✓ deployment/b in "+s.ns)
	if g.times("401") == 0 || g.times("token-2") == 0 {
		s.T.Errorf("the new token was never used: %v", g.count)
	}
	if strings.Contains(o.Stdout+o.Stderr, "token-") {
		s.T.Errorf("a token is shown:\n%s", o)
	}
	s.finishes(s.sidecars())
}

// credentialRefused: the token is no longer accepted, and nothing renews it.
func credentialRefused(s *scene) {
	g := s.through()
	g.spoils(func(w http.ResponseWriter, _ *http.Request) bool {
		answer(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return true
	})
	s.fails(1, s.sidecars(), "the API server does not accept the credentials of this context")
	g.spoils(nil)
	s.finishes(s.sidecars())
}

// serverRestarted: the API server itself goes and comes back in the middle.
func serverRestarted(s *scene) {
	release := s.failing(lab.FailNeverReady)
	p := start(s.World, s.sidecars("--max-parallel", "1")...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	s.Check(s.RestartAPIServer(s.T.Context()))
	// The nodes of the lab do not find back to it by themselves.
	s.Check(s.StopPart(lab.Kwok))
	s.Check(s.StartPart(s.T.Context(), lab.Kwok))
	release()
	p.must(0, "✓ deployment/a in "+s.ns, "✓ deployment/b in "+s.ns)
	s.finishes(s.sidecars())
}
