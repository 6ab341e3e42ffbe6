package plugin

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// version is set by the release's linker flags.
var version = ""

// Version gives the plugin's version: that of the release, or of the module
// where it was built with go install.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

const versionExample = `  # Of the plugin, and of what runs in the cluster where one answers
  kubectl istio-upgrade version

  # Of the plugin alone, as one word for a script
  kubectl istio-upgrade version --client -o name

  # And what an upgrade to this tag would bring
  kubectl istio-upgrade version --tag 1.31.0`

type versionOptions struct {
	*session
	targetFlags
	output outputFlag
	client bool
}

func newVersionCommand(s *session) *cobra.Command {
	o := &versionOptions{session: s}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the plugin, the cluster's Istio and a target",
		Long: `Print the versions of the plugin, the cluster's Istio and a target.

Of the plugin, the Helm SDK in it and Go; of istiod, the CRDs and the proxies
where the context's cluster answers at once; and with --tag of the charts that
the source offers for it. Without a cluster it tells of the plugin alone.`,
		Example: versionExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.output.validate(); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	o.output.add(cmd.Flags())
	o.targetFlags.add(cmd.Flags())
	cmd.Flags().BoolVar(&o.client, "client", false, "Leave the cluster out")
	return cmd
}

// versions is what version prints as JSON.
type versions struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Plugin     pluginVersions   `json:"plugin"`
	Cluster    *clusterVersions `json:"cluster,omitempty"`
	Target     *targetVersions  `json:"target,omitempty"`
}

// pluginVersions are those of the binary.
type pluginVersions struct {
	Version    string `json:"version"`
	Helm       string `json:"helm"`
	Kubernetes string `json:"kubernetes"` // of the client library
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

// targetVersions are those of the charts that --tag leads to. A chart without a
// version of its own, as in Istio's source tree, has the tag's.
type targetVersions struct {
	Tag    string `json:"tag"`
	Source string `json:"source"`
	Istiod string `json:"istiod"`
	CRDs   string `json:"crds"`
	Proxy  string `json:"proxy"`
}

func (o *versionOptions) run(ctx context.Context) error {
	v := &versions{APIVersion: documentVersion, Kind: "Version", Plugin: readPluginVersions()}
	if o.tag != "" {
		target, err := o.readTarget(ctx)
		if err != nil {
			return err
		}
		v.Target = target
	}
	if !o.client && !o.output.name() {
		var note string
		if v.Cluster, note = o.readCluster(ctx); note != "" {
			fmt.Fprintln(o.ErrOut, "note: "+escape(note))
		}
	}
	switch {
	case o.output.structured():
		return o.output.print(o.Out, v)
	case o.output.name():
		_, err := fmt.Fprintln(o.Out, v.Plugin.Version)
		return err
	}
	return v.show(o.Out)
}

func readPluginVersions() pluginVersions {
	v := pluginVersions{Version: Version(), Helm: "unknown", Kubernetes: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, module := range info.Deps {
		switch module.Path {
		case "helm.sh/helm/v4":
			v.Helm = module.Version
		case "k8s.io/client-go":
			v.Kubernetes = module.Version
		}
	}
	return v
}

// readTarget loads the charts of the target. Its error is the source's.
func (o *versionOptions) readTarget(ctx context.Context) (*targetVersions, error) {
	source, err := helm.ParseSource(o.charts)
	if err != nil {
		return nil, err
	}
	target := &targetVersions{Tag: o.tag, Source: source.String(), Proxy: o.tag}
	for _, part := range []struct {
		now, legacy helm.Component
		version     *string
	}{{helm.Istiod, helm.Istio, &target.Istiod}, {helm.Base, helm.IstioInit, &target.CRDs}} {
		chart, err := source.Load(ctx, part.now, o.tag)
		if err != nil {
			var legacyErr error
			if chart, legacyErr = source.Load(ctx, part.legacy, o.tag); legacyErr != nil {
				return nil, err
			}
		}
		*part.version = chart.Version
		if chart.Placeholder {
			if *part.version, err = helm.ChartVersion(o.tag); err != nil {
				return nil, err
			}
		}
	}
	return target, nil
}

// show prints a line for each part.
func (v *versions) show(w io.Writer) error {
	t := newTable("PART", "VERSION", "WHERE")
	t.row("plugin", v.Plugin.Version, v.Plugin.Platform)
	t.row("Helm SDK", v.Plugin.Helm, "in the plugin")
	t.row("client-go", v.Plugin.Kubernetes, "in the plugin")
	t.row("Go", strings.TrimPrefix(v.Plugin.Go, "go"), "in the plugin")
	if c := v.Cluster; c != nil {
		t.row("Kubernetes", c.Kubernetes, "context "+c.Context)
		for _, p := range c.ControlPlanes {
			t.row("istiod", p.Tag, "revision "+p.Revision+" in "+p.Namespace)
		}
		for _, crd := range c.CRDs {
			t.row("CRDs", crd.Version, plural(crd.Count, "definition"))
		}
		for _, p := range c.Proxies {
			t.row("proxies", p.Version, plural(p.Count, "pod"))
		}
	}
	if target := v.Target; target != nil {
		t.row("istiod", target.Istiod, "target, from "+target.Source)
		t.row("CRDs", target.CRDs, "target")
		t.row("proxies", target.Proxy, "target")
	}
	return t.print(w, true)
}
