package helm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	repo "helm.sh/helm/v4/pkg/repo/v1"
	"k8s.io/client-go/transport"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// answers is between an address and the status that came from it.
const answers = "answers"

// loadRepo gets a chart from a Helm repository.
func (s Source) loadRepo(ctx context.Context, component Component, version string) (*Chart, error) {
	client, err := s.httpClient()
	if err != nil {
		return nil, err
	}
	index, err := s.index(ctx, client)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, name := range chartNames[component] {
		for _, candidate := range index.Entries[name] {
			have = append(have, candidate.Version)
			if candidate.Version != version || len(candidate.URLs) == 0 {
				continue
			}
			data, err := s.download(ctx, client, candidate.URLs[0])
			if err != nil {
				return nil, s.unreachable(ctx, err)
			}
			return newChart(component, s.location, func() (*chart.Chart, error) {
				return loader.LoadArchive(bytes.NewReader(data))
			})
		}
	}
	return nil, absent(component, version, s.location, have)
}

// index reads the repository's index.yaml.
func (s Source) index(ctx context.Context, client *http.Client) (*repo.IndexFile, error) {
	data, err := s.download(ctx, client, "index.yaml")
	if err != nil {
		return nil, s.unreachable(ctx, err)
	}
	// Helm's loader, which checks and sorts the index, wants a file.
	dir, err := os.MkdirTemp("", "istio-upgrade-index-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the index of %s: %w", s, err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	file := filepath.Join(dir, "index.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, fmt.Errorf("keep the index of %s: %w", s, err)
	}
	index, err := repo.LoadIndexFile(file)
	if err != nil {
		return nil, gate.BadInputf("%s is no Helm repository: its index.yaml cannot be read; look at --charts", s)
	}
	return index, nil
}

// httpClient has the TLS settings of the repository in Helm's configuration.
// Helm's own download takes no context and has no bound.
func (s Source) httpClient() (*http.Client, error) {
	e := s.entry
	config, err := transport.TLSConfigFor(&transport.Config{TLS: transport.TLSConfig{
		CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile, Insecure: e.InsecureSkipTLSVerify,
	}})
	if err != nil {
		return nil, fmt.Errorf("read the TLS settings of the repository %s: %w", s, err)
	}
	return &http.Client{Timeout: patience, Transport: bounded{&http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true,
	}}}, nil
}

// download gets what a reference in the repository points at. Credentials go
// to the repository's own host only, unless Helm's configuration says that
// they are meant for all.
func (s Source) download(ctx context.Context, client *http.Client, reference string) ([]byte, error) {
	address, err := repo.ResolveReferenceURL(s.location, reference)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	home, err := url.Parse(s.location)
	if err != nil {
		return nil, err
	}
	own := home.Scheme == request.URL.Scheme && home.Host == request.URL.Host
	if s.entry.Username != "" && (own || s.entry.PassCredentialsAll) {
		request.SetBasicAuth(s.entry.Username, s.entry.Password)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s "+answers+" %s", request.URL.Redacted(), response.Status)
	}
	return io.ReadAll(response.Body)
}
