package plugin

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// noArguments refuses words that stand alone, and names the flag that they were
// meant for.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s takes flags alone, not %q", cmd.Name(), args[0])
	if flag := flagFor(cmd, args[0]); flag != "" {
		return fmt.Errorf("%w; did you mean %s %s?", err, flag, args[0])
	}
	return err
}

// flagFor gives the flag of a command that a word is likely the value of; empty
// where there is none.
func flagFor(cmd *cobra.Command, word string) string {
	has := func(name string) bool { return cmd.Flags().Lookup(name) != nil }
	_, notVersion := helm.ChartVersion(word)
	number, notNumber := strconv.Atoi(word)
	switch {
	case has("filename"):
		return "-f"
	case has("to") && notNumber == nil && number > 0:
		return "--to"
	case has("tag") && notVersion == nil:
		return "--tag"
	case has("values") && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(word)):
		return "--values"
	case has("set") && strings.Contains(word, "="):
		return "--set"
	case has("all-namespaces") && !strings.ContainsAny(word, "/.="):
		return "-n"
	}
	return ""
}

// oneOf wants one word out of a few.
func oneOf(words ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && slices.Contains(words, args[0]) {
			return nil
		}
		return fmt.Errorf("%s needs one of %s, not %q", cmd.Name(), strings.Join(words, ", "), strings.Join(args, " "))
	}
}

// newHelpCommand is cobra's own, but for words that are no command: they are a
// mistake here as elsewhere.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, cmd := range root.Commands() {
				if len(args) == 0 && cmd.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(cmd.Name(), cmd.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = knownCommand(root, rest)
			}
			if err != nil {
				return usageError{error: err}
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
