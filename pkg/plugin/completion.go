package plugin

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// binaryName is what the shells complete where the plugin is called by itself.
const binaryName = "kubectl-istio_upgrade"

// kubectlScript is what kubectl calls to complete "kubectl istio-upgrade": a
// program of this name on the PATH
// (kubernetes/kubectl:pkg/cmd/plugin/plugin_completion.go).
const kubectlScript = `#!/bin/sh
# Save it as kubectl_complete-istio_upgrade in a folder of your PATH, executable:
# kubectl calls it to complete "kubectl istio-upgrade".
exec ` + binaryName + ` __complete "$@"
`

const completionExample = `  # For kubectl istio-upgrade, in every shell in which kubectl itself completes
  kubectl istio-upgrade completion kubectl > kubectl_complete-istio_upgrade
  chmod +x kubectl_complete-istio_upgrade
  sudo mv kubectl_complete-istio_upgrade /usr/local/bin/

  # For the binary called by its own name, in this bash
  source <(kubectl istio-upgrade completion bash)`

// newCompletionCommand prints the scripts. Cobra's own command would complete a
// program called istio-upgrade, which nobody has.
func newCompletionCommand(s *session) *cobra.Command {
	shells := []string{"kubectl", "bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion kubectl|bash|zsh|fish|powershell",
		Short: "Print what makes a shell complete commands, flags and names",
		Long: `Print what makes a shell complete commands, flags and names.

"kubectl" prints a script for the usual call, "kubectl istio-upgrade": save it as
kubectl_complete-istio_upgrade in a folder of the PATH and make it executable.
It also lies in the release's archives; krew links the plugin itself alone. The
completion of kubectl has to be set up: see kubectl completion --help.

The shells' names print the script for the binary kubectl-istio_upgrade, called
by itself.

What is completed beside commands and flags: namespaces, contexts, revisions,
stale workloads, Helm releases and their revisions, the tags that the charts
source offers. Nothing is waited for longer than ` + completionPatience.String() + `.`,
		Example:   completionExample,
		Args:      oneOf(shells...),
		ValidArgs: shells,
		RunE: func(_ *cobra.Command, args []string) error {
			return printCompletion(s.Out, args[0])
		},
	}
}

func printCompletion(w io.Writer, shell string) error {
	binary := &cobra.Command{Use: binaryName} // the scripts hold nothing but its name
	switch shell {
	case "bash":
		return binary.GenBashCompletionV2(w, true)
	case "zsh":
		return binary.GenZshCompletion(w)
	case "fish":
		return binary.GenFishCompletion(w, true)
	case "powershell":
		return binary.GenPowerShellCompletionWithDesc(w)
	}
	_, err := fmt.Fprint(w, kubectlScript)
	return err
}
