package helm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// Chart is one of Istio's charts, loaded into memory.
type Chart struct {
	Component Component
	Name      string
	Version   string
	// Placeholder is true where Version says nothing: 1.0.0 in Istio's source
	// tree, 1.1.0 in the legacy charts. The tag alone decides then.
	Placeholder bool
	// From says where the chart was loaded from, for plans and errors.
	From string
	// Chart is the chart as the Helm SDK has it. Rendering changes it, so each
	// use takes its own copy through load.
	Chart *chart.Chart

	load func() (*chart.Chart, error)
}

// variants are the suffixes that a tag of Istio's images may bear, which
// charts do not (istio/istio:tools/docker.yaml).
var variants = []string{"-distroless", "-debug"}

// ChartVersion gives the version of the chart that belongs to an image tag:
// the tag without its variant. It refuses a tag that is no version.
func ChartVersion(tag string) (string, error) {
	base := tag
	for _, variant := range variants {
		base = strings.TrimSuffix(base, variant)
	}
	if _, err := semver.StrictNewVersion(strings.TrimPrefix(base, "v")); err != nil {
		return "", gate.BadInputf("the tag %q is no version; give one such as 1.31.0 or 1.31.0-distroless", tag)
	}
	return strings.TrimPrefix(base, "v"), nil
}

// placeholders are the versions that the charts bear in git, where the release
// builder has not replaced them.
var placeholders = []string{"1.0.0", "1.1.0"}

// newChart checks that what was loaded is Istio's chart of the component.
func newChart(component Component, from string, load func() (*chart.Chart, error)) (*Chart, error) {
	loaded, err := load()
	if err != nil {
		return nil, gate.BadInputf("load a chart from %s: %v", from, err)
	}
	if loaded.Metadata == nil || !isIstios(loaded.Metadata) {
		return nil, gate.BadInputf("the chart %s in %s is not one of Istio's; give the source of Istio's own with --charts", loaded.Name(), from)
	}
	if got, ok := ComponentOf(loaded.Name()); !ok || got != component {
		return nil, gate.BadInputf("%s holds the chart %s, not %s; give a source of all of Istio's charts with --charts", from, loaded.Name(), chartNames[component][0])
	}
	return &Chart{
		Component: component, Name: loaded.Name(), Version: loaded.Metadata.Version,
		Placeholder: slices.Contains(placeholders, loaded.Metadata.Version),
		From:        from, Chart: loaded, load: load,
	}, nil
}

// isIstios tells whether a chart says that it is Istio's: other projects have
// charts called gateway or base too.
func isIstios(m *chart.Metadata) bool {
	if _, ok := ComponentOf(m.Name); !ok {
		return false
	}
	said := append([]string{m.Home, m.Icon, m.Description}, m.Sources...)
	said = append(said, m.Keywords...)
	return slices.ContainsFunc(said, func(s string) bool { return strings.Contains(strings.ToLower(s), "istio") })
}

// nearest gives up to five of the versions, those closest to the wanted one
// first, for errors that say what there is instead.
func nearest(wanted string, have []string) []string {
	target, err := semver.NewVersion(wanted)
	if err != nil {
		return have[:min(5, len(have))]
	}
	type candidate struct {
		raw      string
		distance uint64
		version  *semver.Version
	}
	var candidates []candidate
	for _, raw := range have {
		v, err := semver.NewVersion(raw)
		if err != nil {
			continue
		}
		candidates = append(candidates, candidate{raw, distance(target, v), v})
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		if a.distance != b.distance {
			if a.distance < b.distance {
				return -1
			}
			return 1
		}
		return b.version.Compare(a.version)
	})
	var out []string
	for _, c := range candidates {
		if len(out) < 5 && !slices.Contains(out, c.raw) {
			out = append(out, c.raw)
		}
	}
	return out
}

// distance weighs a difference of minor versions above one of patches, which
// says something within a minor version only.
func distance(a, b *semver.Version) uint64 {
	apart := func(x, y uint64) uint64 { return max(x, y) - min(x, y) }
	if a.Major() != b.Major() || a.Minor() != b.Minor() {
		return apart(a.Major(), b.Major())*1_000_000 + apart(a.Minor(), b.Minor())*1_000
	}
	return apart(a.Patch(), b.Patch())
}

// absent is the error for a version that a source does not have.
func absent(component Component, version, from string, have []string) error {
	if len(have) == 0 {
		return gate.BadInputf("%s has no chart %s; give a source that has it with --charts", from, chartNames[component][0])
	}
	return gate.BadInputf("%s has no version %s of the chart %s; nearest: %s",
		from, version, chartNames[component][0], strings.Join(nearest(version, have), ", "))
}

// String gives the chart as helm list names it.
func (c *Chart) String() string { return fmt.Sprintf("%s-%s", c.Name, c.Version) }

// OtherMinor tells whether the chart is of another minor version of Istio than
// the target, as far as its own version says anything.
func (c *Chart) OtherMinor(target *semver.Version) bool {
	v, err := semver.NewVersion(c.Version)
	return err == nil && !c.Placeholder && (v.Major() != target.Major() || v.Minor() != target.Minor())
}

// OtherMinorWarning says that a chart taken as it is belongs to another version
// than the target; nil where it does not.
func (c *Chart) OtherMinorWarning(target *semver.Version) []string {
	if !c.OtherMinor(target) {
		return nil
	}
	return []string{fmt.Sprintf("the chart %s from %s is not of the target's version %s", c, c.From, target)}
}

// Texts gives the chart's templates and files, subcharts included.
func (c *Chart) Texts() []string {
	var texts []string
	var add func(*chart.Chart)
	add = func(ch *chart.Chart) {
		for _, file := range ch.Templates {
			texts = append(texts, string(file.Data))
		}
		for _, file := range ch.Files {
			if !strings.HasSuffix(file.Name, ".md") {
				texts = append(texts, string(file.Data))
			}
		}
		for _, sub := range ch.Dependencies() {
			add(sub)
		}
	}
	add(c.Chart)
	return texts
}
