package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
)

// downloadTimeout bounds one manifest from a URL.
const downloadTimeout = time.Minute

const uninjectExample = `  # Take the sidecar out of a manifest whose original is lost
  kubectl istio-upgrade uninject -f injected.yaml > original.yaml

  # From the live object, as a filter
  kubectl get deployment web -o yaml | kubectl istio-upgrade uninject -f -

  # Of a folder and all below it
  kubectl istio-upgrade uninject -f manifests/ -R`

// uninjectOptions are the flags of uninject.
type uninjectOptions struct {
	genericiooptions.IOStreams
	files     []string
	recursive bool
	output    manifestFormat
}

func newUninjectCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &uninjectOptions{IOStreams: streams}
	cmd := &cobra.Command{
		Use:   "uninject -f FILE|DIRECTORY|URL|-",
		Short: "Take the Istio sidecar out of manifests",
		Long: `Take the Istio sidecar out of manifests.

Reads manifests and writes them to stdout as they were before injection, by the
webhook or by istioctl kube-inject of any release from 1.0 on. Documents without
a sidecar come out byte for byte. What could not be known is said on stderr. No
cluster is asked.`,
		Example: uninjectExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.files) == 0 {
				return usagef("uninject needs manifests: give -f FILE, a directory, a URL, or - for stdin")
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringArrayVarP(&o.files, "filename", "f", nil, "File, directory or URL with manifests, or - for stdin (can be repeated)")
	cmd.Flags().BoolVarP(&o.recursive, "recursive", "R", false, "Also read the directories below those given with -f")
	cmd.Flags().VarP(&o.output, "output", "o", "Output format, yaml or json; each document as it came when not given")
	return cmd
}

// manifestFormat is the flag -o of commands that print manifests.
type manifestFormat inject.Format

func (f *manifestFormat) String() string { return string(*f) }
func (f *manifestFormat) Type() string   { return "format" }

func (f *manifestFormat) Set(value string) error {
	switch format := inject.Format(value); format {
	case inject.FormatYAML, inject.FormatJSON:
		*f = manifestFormat(format)
		return nil
	}
	return errors.New("manifests are written as yaml or json; leave it out to keep each as it came")
}

// run prints notes last, so that they stand below what a terminal shows.
func (o *uninjectOptions) run(ctx context.Context) error {
	sources, err := inject.Sources(o.files, o.recursive, o.In, &http.Client{Timeout: downloadTimeout})
	if err != nil {
		return err
	}
	summary, err := inject.UninjectManifests(ctx, sources, inject.Format(o.output), o.Out)
	for _, note := range summary.Notes {
		if _, printErr := fmt.Fprintln(o.ErrOut, "note: "+escape(note.String())); printErr != nil && err == nil {
			err = printErr
		}
	}
	return err
}
