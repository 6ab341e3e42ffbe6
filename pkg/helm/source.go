package helm

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/registry"
	repo "helm.sh/helm/v4/pkg/repo/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// DefaultSource is Istio's own chart registry. It has all versions, and stays
// when the older public repositories are shut down.
const DefaultSource = "oci://ghcr.io/istio/release/charts"

type sourceKind int

const (
	sourceOCI sourceKind = iota
	sourceRepo
	sourceFolder
	sourceArchive
)

// Source is where charts come from: an OCI prefix, a Helm repository, a folder
// or an archive. Helm's own settings (HELM_*, repositories.yaml, the registry
// login) hold for it.
type Source struct {
	kind     sourceKind
	location string
	entry    *repo.Entry // of a Helm repository
	settings *cli.EnvSettings
	loaded   *onceLoaded // nil for what lies on this machine
}

// ParseSource tells what the value of --charts means: an oci:// prefix, the
// URL of a Helm repository, the name of a repository of the user's Helm
// configuration, a folder, or a .tgz; empty means DefaultSource. A bare name
// that is both a configured repository and a folder means the repository. It
// reads files, never the network. Its error is a *gate.BadInput.
func ParseSource(value string) (Source, error) {
	settings := cli.New()
	if value == "" {
		value = DefaultSource
	}
	switch {
	case registry.IsOCI(value):
		u, err := url.Parse(value)
		if err != nil || u.Host == "" {
			return Source{}, gate.BadInputf("the charts source %q is no valid oci:// address", value)
		}
		return Source{kind: sourceOCI, location: strings.TrimSuffix(value, "/"), settings: settings, loaded: &onceLoaded{charts: map[string]*Chart{}}}, nil
	case strings.Contains(value, "://"):
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return Source{}, gate.BadInputf("the charts source %q is no http, https or oci address", value)
		}
		entry := &repo.Entry{URL: value}
		if u.User != nil {
			entry.Username = u.User.Username()
			entry.Password, _ = u.User.Password()
			u.User = nil
			entry.URL = u.String()
		}
		return Source{kind: sourceRepo, location: entry.URL, entry: entry, settings: settings, loaded: &onceLoaded{charts: map[string]*Chart{}}}, nil
	}
	if entry := configured(settings, value); entry != nil {
		if registry.IsOCI(entry.URL) {
			return Source{kind: sourceOCI, location: strings.TrimSuffix(entry.URL, "/"), settings: settings, loaded: &onceLoaded{charts: map[string]*Chart{}}}, nil
		}
		return Source{kind: sourceRepo, location: entry.URL, entry: entry, settings: settings, loaded: &onceLoaded{charts: map[string]*Chart{}}}, nil
	}
	info, err := os.Stat(value)
	switch {
	case err == nil && info.IsDir():
		return Source{kind: sourceFolder, location: filepath.Clean(value), settings: settings}, nil
	case err == nil:
		return Source{kind: sourceArchive, location: value, settings: settings}, nil
	case errors.Is(err, fs.ErrNotExist):
		return Source{}, gate.BadInputf("the charts source %q is neither a folder, a .tgz, an address, nor a repository that helm repo list shows", value)
	}
	return Source{}, gate.BadInputf("read the charts source %s: %v", value, err)
}

// configured looks a repository up in the user's Helm configuration. A missing
// or broken configuration has none, as for helm itself without repositories.
func configured(settings *cli.EnvSettings, name string) *repo.Entry {
	file, err := repo.LoadFile(settings.RepositoryConfig)
	if err != nil {
		return nil
	}
	return file.Get(name)
}

// String gives the source as plans and errors name it, without credentials.
func (s Source) String() string {
	if s.location == "" {
		return DefaultSource
	}
	return s.location
}

// Load gets the chart of a component for an image tag; one that was downloaded
// is kept for the life of the Source and its copies. From a registry or
// repository that is the version of the tag without its variant; from a folder
// or an archive it is what is there. Archives are bounded in size and cannot
// reach outside themselves (helm/helm:pkg/chart/loader/archive).
//
// A source that does not answer, wants a login, has no such version (the
// nearest are named) or is not Istio's gives a *gate.BadInput; ctx's end gives
// ctx.Err.
func (s Source) Load(ctx context.Context, component Component, tag string) (*Chart, error) {
	version, err := ChartVersion(tag)
	if err != nil {
		return nil, err
	}
	if s.settings == nil { // the zero value
		if s, err = ParseSource(""); err != nil {
			return nil, err
		}
	}
	switch s.kind {
	case sourceOCI:
		return s.loaded.remembered(string(component)+"-"+version, func() (*Chart, error) { return s.loadOCI(ctx, component, version) })
	case sourceRepo:
		return s.loaded.remembered(string(component)+"-"+version, func() (*Chart, error) { return s.loadRepo(ctx, component, version) })
	case sourceFolder:
		return s.loadFolder(component, version)
	default:
		return s.loadArchive(component)
	}
}
