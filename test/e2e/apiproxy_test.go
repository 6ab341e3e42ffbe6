package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// throughProxy has the plugin talk to the API server through a proxy on loopback
// that asks answer first: a response goes back at once, nil passes the request
// on. The test's own requests go straight.
func (w *world) throughProxy(answer func(*http.Request) *http.Response) {
	w.T.Helper()
	config := w.Config()
	target, err := url.Parse(config.Host)
	w.Check(err)
	transport, err := rest.TransportFor(config)
	w.Check(err)
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, // watches
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = target.Host
		},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if response := answer(r); response != nil {
				response.Request = r
				return response, nil
			}
			return transport.RoundTrip(r)
		}),
	}
	server := httptest.NewServer(proxy)
	w.T.Cleanup(server.Close)
	kubeconfig := filepath.Join(w.T.TempDir(), "kubeconfig")
	w.Check(clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"lab": {Server: server.URL}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"lab": {}},
		Contexts:       map[string]*clientcmdapi.Context{"lab": {Cluster: "lab", AuthInfo: "lab"}},
		CurrentContext: "lab",
	}, kubeconfig))
	w.Check(os.Chmod(kubeconfig, 0o600))
	w.OtherKubeconfig = kubeconfig
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
