// Package cluster is the connection to one API server: its clients, its name
// for plans and prompts, and what the user may do there.
package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster is a connection to one API server with the rights of its user.
type Cluster struct {
	// Getter is where the connection came from; the Helm SDK wants it.
	Getter genericclioptions.RESTClientGetter
	// Config has no client-side rate limit: the API server's own fairness
	// governs, and 429 with its Retry-After slows the whole connection down.
	Config    *rest.Config
	Kube      kubernetes.Interface
	Dynamic   dynamic.Interface
	Metadata  metadata.Interface
	Discovery discovery.CachedDiscoveryInterface
	// Context, Server and User name the cluster: every plan and prompt shows
	// the first two, restart stamps bear the third.
	Context string
	Server  string
	User    string
	// Namespace is the context's namespace, or the one given by -n.
	Namespace string

	mapper  meta.RESTMapper
	reached atomic.Bool // the API server has answered before
	guard   guard
}

// Identity says which cluster a plan is for.
type Identity struct {
	Context string `json:"context"`
	Server  string `json:"server"`
}

// Identity gives the names that every plan and prompt shows.
func (c *Cluster) Identity() Identity {
	return Identity{Context: c.Context, Server: c.Server}
}

// ErrNoKubeconfig says that nothing names an API server.
var ErrNoKubeconfig = errors.New("no kubeconfig: set KUBECONFIG, or give --kubeconfig or --server")

// noServer is the address that cli-runtime falls back to without a kubeconfig
// (cli-runtime pkg/genericclioptions/client_config.go).
const noServer = "http://localhost:8080"

// Connect reads the user's kubeconfig, with what kubectl's flags put in its place,
// and makes the clients. It sends nothing. Its errors say what in the kubeconfig is
// wrong.
func Connect(flags *genericclioptions.ConfigFlags) (*Cluster, error) {
	loader := flags.ToRawKubeConfigLoader()
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if len(raw.Clusters) == 0 && config.Host == noServer {
		if files := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); files != "" {
			return nil, fmt.Errorf("%w; KUBECONFIG is %s, where there is none", ErrNoKubeconfig, files)
		}
		return nil, ErrNoKubeconfig
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the namespace of the kubeconfig's context: %w", err)
	}
	cached, err := flags.ToDiscoveryClient()
	if err != nil {
		return nil, fmt.Errorf("make a discovery client: %w", err)
	}
	c := &Cluster{
		Config: config, Discovery: cached,
		// The file's own words know nothing of the flags.
		Context: cmp.Or(*flags.Context, raw.CurrentContext), Server: config.Host, Namespace: namespace,
	}
	c.User = *flags.AuthInfoName
	if entry, ok := raw.Contexts[c.Context]; ok && c.User == "" {
		c.User = entry.AuthInfo
	}
	c.Getter = &guardedGetter{flags, &c.guard}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &noting{next, &c.reached} })
	config.Wrap(newThrottle().wrap)
	config.Wrap(c.guard.wrap)
	typed := rest.CopyConfig(config)
	typed.ContentType = runtime.ContentTypeProtobuf
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if c.Kube, err = kubernetes.NewForConfig(typed); err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	if c.Dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	if c.Metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return c, nil
}

// Mapper gives the REST mapper, made when first wanted: it reads the API
// server's discovery, which most commands never need.
func (c *Cluster) Mapper() (meta.RESTMapper, error) {
	if c.mapper == nil {
		mapper, err := c.Getter.ToRESTMapper()
		if err != nil {
			return nil, fmt.Errorf("read the API server's resources: %w", err)
		}
		c.mapper = mapper
	}
	return c.mapper, nil
}
