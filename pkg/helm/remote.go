package helm

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/registry"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// patience is how long one request to a chart source may take.
const patience = 60 * time.Second

// maxDownload bounds what a chart source may send: Istio's largest chart has
// less than 200 KiB, the index of its repository a few MiB.
const maxDownload = 100 << 20

// onceLoaded keeps what was downloaded: a run plans more than once.
type onceLoaded struct {
	sync.Mutex
	charts map[string]*Chart
}

// remembered gives the chart that load got for the key before.
func (o *onceLoaded) remembered(key string, load func() (*Chart, error)) (*Chart, error) {
	if o == nil {
		return load()
	}
	o.Lock()
	defer o.Unlock()
	if ch := o.charts[key]; ch != nil {
		return ch, nil
	}
	ch, err := load()
	if err == nil {
		o.charts[key] = ch
	}
	return ch, err
}

// loadOCI pulls a chart from a registry, one repository a chart.
func (s Source) loadOCI(ctx context.Context, component Component, version string) (*Chart, error) {
	client, err := s.registryClient(ctx)
	if err != nil {
		return nil, err
	}
	name := chartNames[component][0]
	ref := strings.TrimPrefix(s.location, registry.OCIScheme+"://") + "/" + name
	data, err := within(ctx, func() ([]byte, error) {
		result, err := client.Pull(ref + ":" + strings.ReplaceAll(version, "+", "_"))
		if err != nil {
			return nil, err
		}
		return result.Chart.Data, nil
	})
	if err != nil {
		if !notFound(err) {
			return nil, s.unreachable(ctx, err)
		}
		have, tagsErr := within(ctx, func() ([]string, error) { return client.Tags(ref) })
		if tagsErr != nil && !notFound(tagsErr) {
			return nil, s.unreachable(ctx, tagsErr)
		}
		return nil, absent(component, version, s.location, have)
	}
	return newChart(component, s.location+"/"+name, func() (*chart.Chart, error) {
		return loader.LoadArchive(bytes.NewReader(data))
	})
}

// registryClient makes a client with the user's registry logins. A registry on
// loopback may speak plain HTTP, as container engines allow it too.
func (s Source) registryClient(ctx context.Context) (*registry.Client, error) {
	options := []registry.ClientOption{
		registry.ClientOptCredentialsFile(s.settings.RegistryConfig),
		registry.ClientOptHTTPClient(&http.Client{
			Transport: bounded{registry.NewTransport(false)}, Timeout: patience,
		}),
	}
	u, err := url.Parse(s.location)
	if err != nil {
		return nil, gate.BadInputf("the charts source %q is no valid oci:// address", s.location)
	}
	if loopback(u.Hostname()) && plainHTTP(ctx, u.Host) {
		options = append(options, registry.ClientOptPlainHTTP())
	}
	client, err := registry.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("read the registry logins in %s: %w", s.settings.RegistryConfig, err)
	}
	return client, nil
}

// within runs what takes no context, and stops waiting for it when ctx ends;
// its own timeout ends it soon after.
func within[T any](ctx context.Context, run func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := run()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// unreachable words an error of a chart source; ctx's own end is not its fault.
func (s Source) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("read the charts source %s: %w", s, ctx.Err())
	}
	text := strings.TrimSpace(err.Error())
	switch code := statusOf(text); {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, strings.Contains(text, "credential"):
		return gate.BadInputf("the charts source %s wants a login: use helm registry login, or helm repo add with --username (%s)", s, text)
	case code == http.StatusNotFound:
		return gate.BadInputf("the charts source %s does not exist (%s)", s, text)
	}
	return gate.BadInputf("the charts source %s cannot be reached: %s", s, text)
}

// statusWords come before the status of a response: in the errors of registries
// (oras-go:registry/remote/errcode), and in ours.
var statusWords = regexp.MustCompile(`(?:response status code|` + answers + `) ([0-9]{3})\b`)

// statusOf gives the HTTP status that an error's text tells, 0 for none: digits
// alone may be of a port or a version.
func statusOf(text string) int {
	found := statusWords.FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	code, err := strconv.Atoi(found[1])
	if err != nil {
		return 0
	}
	return code
}

// notFound tells a version or repository that a registry does not have from
// other errors: registries answer 404, NAME_UNKNOWN or MANIFEST_UNKNOWN.
func notFound(err error) bool {
	text := strings.ToLower(err.Error())
	if strings.Contains(text, "credential") { // "basic credential not found"
		return false
	}
	if statusOf(text) == http.StatusNotFound {
		return true
	}
	for _, sign := range []string{": not found", "name_unknown", "manifest_unknown", "name unknown", "manifest unknown"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// plainHTTP asks a host on loopback whether it speaks plain HTTP.
func plainHTTP(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/v2/", http.NoBody)
	if err != nil {
		return false
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()        // only read
	return response.StatusCode != http.StatusBadRequest // what a TLS server answers
}
