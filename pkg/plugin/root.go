// Package plugin is the command line: flags become the options of a step, its
// plan is shown and confirmed, and what happens is printed. Nothing else in the
// project knows cobra, and nothing else prints.
package plugin

import (
	"context"
	"flag"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

const longHelp = `Take an Istio mesh from one version to the next.

An upgrade has three steps, each planned, shown, confirmed, applied and verified:

  crds            bring the CustomResourceDefinitions to the target version
  control-plane   upgrade the Helm releases to the target tag
  sidecars        give every workload the new proxy

"all" runs the three in their order, each gated by the one before. Nothing
changes before the plan was shown and confirmed, a run can be stopped at any
moment, and the same command goes on from there.`

// Main runs the command line and gives its exit code: see ExitCode.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	streams := genericiooptions.IOStreams{In: in, Out: out, ErrOut: errOut}
	cmd := NewCommand(streams) //nolint:contextcheck // the commands get theirs from ExecuteContext
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	report(errOut, err)
	return ExitCode(ctx, err)
}

// session is what all commands share: streams and the global flags.
type session struct {
	genericiooptions.IOStreams
	config         *genericclioptions.ConfigFlags
	istioNamespace string
}

// NewCommand makes the root command with all of its subcommands.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	s := &session{IOStreams: streams, config: genericclioptions.NewConfigFlags(true)}
	s.config.WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		c.QPS = -1 // the API server's own fairness governs
		c.UserAgent = "kubectl-istio-upgrade/" + Version()
		c.WarningHandler = rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
		return c
	})
	cmd := &cobra.Command{
		Use:           "istio-upgrade",
		Short:         "Upgrade Istio: CRDs, control plane, sidecars",
		Long:          longHelp,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl istio-upgrade"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(*cobra.Command, []string) {
			quietKlog(streams.ErrOut)
		},
	}
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.ErrOut)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := cmd.PersistentFlags()
	s.config.AddFlags(flags)
	flags.StringVarP(&s.istioNamespace, "istio-namespace", "i", "istio-system", "Namespace of the control plane")
	flags.AddGoFlag(verbosity())
	cmd.AddCommand(
		newAllCommand(s),
		newCheckCommand(s),
		newStatusCommand(s),
		newControlPlaneCommand(s),
		newCRDsCommand(s),
		newRollbackCommand(s),
		newSidecarsCommand(s),
		newUninjectCommand(streams),
		newVersionCommand(s),
	)
	usageErrors(cmd)
	return cmd
}

// connect makes the connection that the kubeconfig flags name.
func (s *session) connect() (*cluster.Cluster, error) {
	return cluster.Connect(s.config)
}

// verbosity gives klog's -v alone: its other flags are not for users.
func verbosity() *flag.Flag {
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	v := set.Lookup("v")
	v.Usage = "Number for the log level verbosity"
	return v
}

// quietKlog shows what client-go logs only where -v asks for it: what matters of
// it comes as an error anyhow.
func quietKlog(w io.Writer) {
	klog.LogToStderr(false)
	if !klog.V(1).Enabled() {
		w = io.Discard
	}
	klog.SetOutput(w)
}

// usageErrors makes wrong arguments of every command a usage error.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// commandPath gives a command as the user types it.
func commandPath(words ...string) string {
	return strings.Join(append([]string{"kubectl", "istio-upgrade"}, words...), " ")
}
