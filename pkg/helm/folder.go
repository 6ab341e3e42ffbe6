package helm

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// roots are the folders of Istio releases that hold charts, below the folder
// that the user names: the release archive of today, that of 1.0 to 1.5, and
// the folder itself.
var roots = []string{"", "manifests/charts", "install/kubernetes/helm"}

// nested are the places of charts within such a root. Anything else is found
// as one chart a folder.
var nested = []string{
	"base", "istio-control/istio-discovery", "istio-cni", "ztunnel", "gateway",
	"istio-init", "istio", "istiod", "istio-discovery", "cni",
}

// loadFolder finds the component's chart in a folder: the folder itself, a
// known layout, one chart a folder, or .tgz files.
func (s Source) loadFolder(component Component, version string) (*Chart, error) {
	for _, dir := range s.chartFolders() {
		metadata, err := readMetadata(filepath.Join(dir, "Chart.yaml"))
		if err != nil {
			continue
		}
		if got, ok := ComponentOf(metadata.Name); ok && got == component && isIstios(metadata) {
			return newChart(component, dir, func() (*chart.Chart, error) { return loader.LoadDir(dir) })
		}
	}
	return s.loadPackaged(component, version)
}

// chartFolders lists the folders that may hold a chart, the likeliest first.
func (s Source) chartFolders() []string {
	dirs := []string{s.location}
	for _, root := range roots {
		for _, place := range nested {
			dirs = append(dirs, filepath.Join(s.location, filepath.FromSlash(path.Join(root, place))))
		}
	}
	entries, err := os.ReadDir(s.location)
	if err != nil {
		return dirs
	}
	for _, entry := range entries {
		if dir := filepath.Join(s.location, entry.Name()); entry.IsDir() && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// loadPackaged takes the component's .tgz from a folder: the only one, or the
// one of the version among several.
func (s Source) loadPackaged(component Component, version string) (*Chart, error) {
	var found []*Chart
	for _, name := range chartNames[component] {
		files, err := filepath.Glob(filepath.Join(s.location, name+"-*.tgz"))
		if err != nil {
			return nil, gate.BadInputf("read the charts source %s: %v", s, err)
		}
		for _, file := range files {
			c, err := newChart(component, file, func() (*chart.Chart, error) { return loader.LoadFile(file) })
			if err == nil {
				found = append(found, c)
			} else if len(files) == 1 && strings.HasPrefix(filepath.Base(file), name+"-"+version) {
				return nil, err
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	have := make([]string, 0, len(found))
	for _, c := range found {
		if c.Version == version {
			return c, nil
		}
		have = append(have, c.Version)
	}
	return nil, absent(component, version, "the folder "+s.location, have)
}

func readMetadata(file string) (*chart.Metadata, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var metadata chart.Metadata
	if err := yaml.Unmarshal(data, &metadata); err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	return &metadata, nil
}

// loadArchive takes the component's chart from a .tgz, which holds the chart
// alone or, like an Istio release, a folder of charts.
func (s Source) loadArchive(component Component) (*Chart, error) {
	files, err := readArchive(s.location)
	if err != nil {
		return nil, gate.BadInputf("the charts source %s is no chart archive: %v", s, err)
	}
	folders := map[string][]*archive.BufferedFile{}
	for _, root := range chartRoots(files) {
		for _, file := range files {
			if rest, ok := strings.CutPrefix(file.Name, root); ok {
				folders[root] = append(folders[root], &archive.BufferedFile{Name: rest, ModTime: file.ModTime, Data: file.Data})
			}
		}
	}
	var last error
	for _, group := range folders {
		c, err := newChart(component, s.location, func() (*chart.Chart, error) { return loader.LoadFiles(group) })
		if err == nil {
			return c, nil
		}
		last = err
	}
	if len(folders) == 1 {
		return nil, last
	}
	return nil, gate.BadInputf("the archive %s holds no chart %s; give a folder or repository of all of Istio's charts with --charts", s, chartNames[component][0])
}

// chartRoots gives the prefixes in an archive under which a chart lies. What
// lies below a chart's own charts folder is a part of it.
func chartRoots(files []*archive.BufferedFile) []string {
	var found []string
	for _, file := range files {
		if path.Base(file.Name) == "Chart.yaml" {
			found = append(found, strings.TrimSuffix(file.Name, "Chart.yaml"))
		}
	}
	return slices.DeleteFunc(found, func(root string) bool {
		return slices.ContainsFunc(found, func(outer string) bool {
			return strings.HasPrefix(root, outer+"charts/")
		})
	})
}

func readArchive(file string) ([]*archive.BufferedFile, error) {
	raw, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = raw.Close() }() // only read
	if err := archive.EnsureArchive(file, raw); err != nil {
		return nil, err
	}
	return archive.LoadArchiveFiles(raw)
}
