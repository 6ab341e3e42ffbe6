package plugin

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v4/pkg/cli"
	repo "helm.sh/helm/v4/pkg/repo/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// completionPatience is how long a completion may take: a person waits for it
// with a finger on a key.
const completionPatience = 3 * time.Second

// offer finds the words that may stand in a place, each with a description
// after a tab where that helps.
type offer func(ctx context.Context, cmd *cobra.Command) ([]string, error)

// completeFlags tells the shell what the flags of a command and of all below it
// may be set to.
func (s *session) completeFlags(root *cobra.Command) {
	offers := s.offers()
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, flags := range []*pflag.FlagSet{cmd.PersistentFlags(), cmd.LocalNonPersistentFlags()} {
			flags.VisitAll(func(f *pflag.Flag) { s.completeFlag(cmd, f, offers[f.Name]) })
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// completeFlag registers what one flag may be set to. Flags of which nothing is
// known are left alone: the shell offers files. Registering fails only where a
// flag has a completion already.
func (s *session) completeFlag(cmd *cobra.Command, f *pflag.Flag, find offer) {
	if find != nil {
		_ = cmd.RegisterFlagCompletionFunc(f.Name, s.complete(find))
		return
	}
	if words, ok := flagWords[f.Name]; ok {
		if f.Value.Type() == "format" {
			words = []string{"yaml", "json"}
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		return
	}
	switch f.Name {
	case "backup-dir", "cache-dir":
		_ = cmd.MarkFlagDirname(f.Name)
	case "values", "inject-config", "mesh-config", "injection-values":
		_ = cmd.MarkFlagFilename(f.Name, "yaml", "yml", "json")
	case "filename":
		_ = cmd.MarkFlagFilename(f.Name, "yaml", "yml", "json")
	default:
		if t := f.Value.Type(); t == "int" || t == "duration" {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
		}
	}
}

// flagWords are the flags that take one of a few words.
var flagWords = map[string][]string{
	"dry-run":      {dryRunNone, dryRunClient, dryRunServer},
	"on-failure":   {string(rollout.Halt), string(rollout.Continue), string(rollout.Undo)},
	"restart-with": {string(sidecars.RestartByAnnotation), string(sidecars.RestartByGracePeriod)},
	"component":    componentNames,
	"output":       {"table", "wide", "json", "yaml", "name", "jsonpath="},
}

// offers are the flags whose values are asked of the kubeconfig, the cluster or
// the source of the charts.
func (s *session) offers() map[string]offer {
	return map[string]offer{
		"namespace":       s.onCluster(namespaces),
		"istio-namespace": s.onCluster(namespaces),
		"revision":        s.onCluster(s.revisions),
		"adopt-from":      s.onCluster(s.crdReleases),
		"to":              s.onCluster(s.releaseRevisions),
		"context":         s.fromKubeconfig("context"),
		"cluster":         s.fromKubeconfig("cluster"),
		"user":            s.fromKubeconfig("user"),
		"tag":             offeredTags,
		"charts":          chartSources,
	}
}

// complete bounds a search in time. What fails offers nothing: an error would
// land in the middle of a command line.
func (s *session) complete(find offer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		s.completing = true
		quietKlog(s.ErrOut)
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		found := make(chan []string, 1)
		go func() { // what client-go does without a context ends with the process
			words, _ := find(ctx, cmd)
			found <- words
		}()
		var words []string
		select {
		case words = <-found:
		case <-ctx.Done():
		}
		words = slices.DeleteFunc(words, func(word string) bool { return !strings.HasPrefix(word, prefix) })
		directive := cobra.ShellCompDirectiveNoFileComp
		if f := cmd.Flag("charts"); f != nil && len(words) == 0 && prefix != "" && strings.ContainsAny(prefix[:1], "./~") {
			directive = cobra.ShellCompDirectiveDefault // the charts may be a folder
		}
		return words, directive | cobra.ShellCompDirectiveKeepOrder
	}
}

// silence keeps a connection from asking or telling its user anything while a
// word is completed.
func silence(c *rest.Config) {
	c.WarningHandler = rest.NoWarnings{}
	if c.ExecProvider != nil {
		exec := *c.ExecProvider
		exec.StdinUnavailable, exec.StdinUnavailableMessage = true, "completing"
		c.ExecProvider = &exec
	}
}

func (s *session) onCluster(find func(context.Context, *cluster.Cluster) ([]string, error)) offer {
	return func(ctx context.Context, _ *cobra.Command) ([]string, error) {
		c, err := s.connect()
		if err != nil {
			return nil, err
		}
		return find(ctx, c)
	}
}

// fromKubeconfig offers the entries of a kind in the kubeconfig.
func (s *session) fromKubeconfig(kind string) offer {
	return func(context.Context, *cobra.Command) ([]string, error) {
		raw, err := s.config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, err
		}
		switch kind {
		case "context":
			return slices.Sorted(maps.Keys(raw.Contexts)), nil
		case "cluster":
			return slices.Sorted(maps.Keys(raw.Clusters)), nil
		}
		return slices.Sorted(maps.Keys(raw.AuthInfos)), nil
	}
}

var namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

func namespaces(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	list, err := c.Metadata.Resource(namespaceResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var words []string
	for i := range list.Items {
		words = append(words, list.Items[i].Name)
	}
	return words, nil
}

// revisions offers the control planes' revisions and the tags that lead to them.
func (s *session) revisions(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	m, err := mesh.Read(ctx, c, s.istioNamespace)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, p := range m.ControlPlanes {
		words = append(words, p.Revision+"\t"+cmp.Or(p.Tag, "control plane")+" in "+p.Namespace)
		for _, tag := range p.Tags {
			words = append(words, tag+"\ttag of "+p.Revision)
		}
	}
	return words, nil
}

// crdReleases offers the Helm releases that bring definitions.
func (s *session) crdReleases(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	releases, err := helm.Releases(ctx, c, "")
	if err != nil {
		return nil, err
	}
	var words []string
	for _, r := range releases {
		words = append(words, r.Namespace+"/"+r.Name+"\t"+r.ChartName+" "+r.ChartVersion)
	}
	return words, nil
}

// releaseRevisions offers the revisions of the control plane's release, the
// newest first.
func (s *session) releaseRevisions(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	releases, err := helm.Releases(ctx, c, s.istioNamespace)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, r := range releases {
		if r.Component != helm.Istiod && r.Component != helm.Istio {
			continue
		}
		history, err := helm.History(ctx, c, r.Namespace, r.Name)
		if err != nil {
			return nil, err
		}
		for _, h := range history {
			words = append(words, strconv.Itoa(h.Revision)+"\t"+h.Name+" "+h.ChartVersion+", "+h.Status)
		}
	}
	return words, nil
}

// staleWorkloads offers the workloads that would move, as TYPE/NAME.
func (s *session) staleWorkloads(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	plan, err := sidecars.NewPlan(ctx, c, sidecars.Options{
		Namespace: c.Namespace, IstioNamespace: s.istioNamespace, FieldManager: sidecars.DefaultFieldManager,
	})
	if err != nil {
		return nil, err
	}
	given := cmd.Flags().Args()
	var words []string
	for i := range plan.Items {
		item := &plan.Items[i]
		if item.Lags && !slices.Contains(given, item.String()) {
			words = append(words, item.String()+"\t"+fromTo(item))
		}
	}
	return words, nil
}

// offeredTags offers the versions of istiod's chart that the source of the
// charts has, the newest first.
func offeredTags(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	charts := ""
	if f := cmd.Flag("charts"); f != nil {
		charts = f.Value.String()
	}
	source, err := helm.ParseSource(charts)
	if err != nil {
		return nil, err
	}
	tags, err := source.Versions(ctx, helm.Istiod)
	if err != nil || len(tags) > 0 {
		return tags, err
	}
	return source.Versions(ctx, helm.Istio)
}

// chartSources offers Istio's own registry and the repositories that helm repo
// list shows.
func chartSources(context.Context, *cobra.Command) ([]string, error) {
	words := []string{helm.DefaultSource + "\tIstio's own"}
	file, err := repo.LoadFile(cli.New().RepositoryConfig)
	if err != nil {
		return words, nil //nolint:nilerr // a user without Helm has no repositories
	}
	for _, entry := range file.Repositories {
		words = append(words, entry.Name+"\t"+entry.URL)
	}
	return words, nil
}
