// Package plugin is the command line: flags become the options of a step, its
// plan is shown and confirmed, and what happens is printed. Nothing else in the
// project knows cobra, and nothing else prints.
package plugin

import (
	"context"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
moment, and the same command goes on from there.

All of kubectl's own flags for the connection hold: see "kubectl options".`

// shownFlags are those of the connection that help shows: the others few need,
// and kubectl keeps them out of its help as well.
var shownFlags = []string{"kubeconfig", "context", "namespace"}

// Main runs the command line and gives its exit code: see ExitCode.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	streams := genericiooptions.IOStreams{In: in, Out: out, ErrOut: newStderr(errOut)}
	cmd := NewCommand(streams) //nolint:contextcheck // the commands get theirs from ExecuteContext
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	report(errOut, withCause(ctx, err))
	return ExitCode(ctx, err)
}

// session is what all commands share: streams and the global flags.
type session struct {
	genericiooptions.IOStreams
	config         *genericclioptions.ConfigFlags
	istioNamespace string
	// completing says that a shell asks what a word may be: nothing is printed
	// beside the answer.
	completing bool
	// quiet says that names alone are wanted: no warnings, no notes.
	quiet bool
	// cluster is the connection, once it is made.
	cluster *cluster.Cluster
}

// NewCommand makes the root command with all of its subcommands.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	s := &session{IOStreams: streams, config: genericclioptions.NewConfigFlags(true)}
	// One for all clients, so that a warning is printed once.
	warnings := &serverWarnings{s, rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{Deduplicate: true})}
	s.config.WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		c.QPS = -1 // the API server's own fairness governs
		c.UserAgent = "kubectl-istio-upgrade/" + Version()
		c.WarningHandler = warnings
		if s.completing {
			silence(c)
		}
		return c
	})
	cmd := &cobra.Command{
		Use:           "istio-upgrade",
		Short:         "Upgrade Istio: CRDs, control plane, sidecars",
		Long:          longHelp,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl istio-upgrade"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			quietKlog(streams.ErrOut)
			output := cmd.Flags().Lookup("output")
			s.quiet = output != nil && output.Value.String() == "name"
		},
	}
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.ErrOut)
	cmd.SetFlagErrorFunc(flagError)
	flags := cmd.PersistentFlags()
	s.config.AddFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shownFlags, f.Name) })
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
		newCompletionCommand(s),
		newVersionCommand(s),
	)
	cmd.SetHelpCommand(newHelpCommand(cmd))
	s.completeFlags(cmd)
	s.finishErrors(cmd)
	return cmd
}

// connect makes the connection that the kubeconfig flags name.
func (s *session) connect() (c *cluster.Cluster, err error) {
	if c, err = cluster.Connect(s.config); err == nil {
		s.cluster = c
	}
	return c, err
}

// mark marks the errors of the cluster's connection.
func (s *session) mark(err error) error {
	if s.cluster == nil {
		return err
	}
	return s.cluster.Mark(err)
}

// serverWarnings passes on what the API server warns of, with no text that could
// drive or mislead a terminal, and nothing where names alone are wanted.
type serverWarnings struct {
	session *session
	next    rest.WarningHandler
}

// HandleWarningHeader passes the warning on.
func (w *serverWarnings) HandleWarningHeader(code int, agent, text string) {
	if !w.session.quiet {
		w.next.HandleWarningHeader(code, agent, visible(text))
	}
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
	// Else klog writes errors to stderr too, past what is set here.
	set := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(set)
	_ = set.Set("stderrthreshold", "FATAL") // one of klog's own severities
	klog.LogToStderr(false)
	if !klog.V(1).Enabled() {
		w = io.Discard
	}
	klog.SetOutput(discreet{w})
}

// finishErrors makes wrong arguments of every command a usage error, has usage
// errors name the command's own help, and marks the errors of the connection.
func (s *session) finishErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			return nil
		}
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := run(cmd, args)
			if errors.As(err, new(usageError)) {
				return usageError{err, cmd.CommandPath()}
			}
			return s.mark(err)
		}
	}
	for _, sub := range cmd.Commands() {
		s.finishErrors(sub)
	}
}

// commandPath gives a command as the user types it.
func commandPath(words ...string) string {
	return strings.Join(append([]string{"kubectl", "istio-upgrade"}, words...), " ")
}
