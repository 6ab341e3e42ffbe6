package helm

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/registry"
)

// Versions gives the versions of a component's chart that the source offers,
// the newest first. A folder or an archive offers those of the charts that lie
// in it; a placeholder, which says nothing, is left out. What is no semantic
// version is left out too. Its errors are those of Load.
func (s Source) Versions(ctx context.Context, component Component) ([]string, error) {
	if s.settings == nil { // the zero value
		var err error
		if s, err = ParseSource(""); err != nil {
			return nil, err
		}
	}
	var have []string
	var err error
	switch s.kind {
	case sourceOCI:
		have, err = s.versionsOCI(ctx, component)
	case sourceRepo:
		have, err = s.versionsRepo(ctx, component)
	case sourceFolder:
		have = s.versionsFolder(component)
	default:
		var c *Chart
		if c, err = s.loadArchive(component); err == nil && !c.Placeholder {
			have = []string{c.Version}
		}
	}
	if err != nil {
		return nil, err
	}
	return newestFirst(have), nil
}

func (s Source) versionsOCI(ctx context.Context, component Component) ([]string, error) {
	client, err := s.registryClient(ctx)
	if err != nil {
		return nil, err
	}
	ref := strings.TrimPrefix(s.location, registry.OCIScheme+"://") + "/" + chartNames[component][0]
	have, err := within(ctx, func() ([]string, error) { return client.Tags(ref) })
	if err != nil {
		return nil, s.unreachable(ctx, err)
	}
	return have, nil
}

func (s Source) versionsRepo(ctx context.Context, component Component) ([]string, error) {
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
		}
	}
	return have, nil
}

// versionsFolder believes file names of archives, which helm package writes.
func (s Source) versionsFolder(component Component) []string {
	var have []string
	for _, dir := range s.chartFolders() {
		metadata, err := readMetadata(filepath.Join(dir, "Chart.yaml"))
		if err != nil {
			continue
		}
		if got, ok := ComponentOf(metadata.Name); ok && got == component && !slices.Contains(placeholders, metadata.Version) {
			have = append(have, metadata.Version)
		}
	}
	for _, name := range chartNames[component] {
		files, _ := filepath.Glob(filepath.Join(s.location, name+"-*.tgz")) // the pattern is well-formed but for odd folders
		for _, file := range files {
			have = append(have, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), name+"-"), ".tgz"))
		}
	}
	return have
}

// newestFirst sorts versions and drops what is none, and what stands twice.
func newestFirst(have []string) []string {
	type version struct {
		text   string
		parsed *semver.Version
	}
	versions := make([]version, 0, len(have))
	for _, text := range have {
		if parsed, err := semver.StrictNewVersion(text); err == nil {
			versions = append(versions, version{text, parsed})
		}
	}
	slices.SortFunc(versions, func(a, b version) int { return b.parsed.Compare(a.parsed) })
	sorted := make([]string, 0, len(versions))
	for _, v := range versions {
		sorted = append(sorted, v.text)
	}
	return slices.Compact(sorted)
}
