package plugin

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// everyCommand calls visit with the root and all commands below it.
func everyCommand(visit func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		visit(cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(NewCommand(genericiooptions.NewTestIOStreamsDiscard()))
}

// Flags and help texts are in kubectl's style: lower-case hyphenated flags,
// descriptions that begin with a capital and have no final period, examples with
// a comment above and no prompt.
func TestHelpIsInKubectlsStyle(t *testing.T) {
	ofKubectl := NewCommand(genericiooptions.NewTestIOStreamsDiscard()).PersistentFlags() // not ours to word
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	everyCommand(func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if ofKubectl.Lookup(f.Name) != nil {
				return
			}
			if !name.MatchString(f.Name) {
				t.Errorf("%s --%s: not lower-case with hyphens", cmd.Name(), f.Name)
			}
			if f.Name == "help" { // cobra's
				return
			}
			if first := []rune(f.Usage); len(first) == 0 || !unicode.IsUpper(first[0]) {
				t.Errorf("%s --%s: the description begins with no capital: %q", cmd.Name(), f.Name, f.Usage)
			}
			if strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: the description ends with a period: %q", cmd.Name(), f.Name, f.Usage)
			}
		})
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the summary ends with a period", cmd.Name())
		}
		for example := range strings.SplitSeq(cmd.Example, "\n\n") {
			lines := strings.Split(example, "\n")
			if cmd.Example != "" && (!strings.HasPrefix(lines[0], "  # ") || len(lines) < 2) {
				t.Errorf("%s: an example without a comment above: %q", cmd.Name(), example)
			}
			for _, line := range lines[1:] {
				if strings.HasPrefix(strings.TrimSpace(line), "$") {
					t.Errorf("%s: an example with a prompt: %q", cmd.Name(), line)
				}
			}
		}
	})
}

// What help prints calls the plugin as its user does.
func TestHelpSaysKubectl(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"sidecars", "--help"}, {"help", "all"}, {}} {
		code, out, errOut := runMain(t, args...)
		if code != 0 || errOut != "" || !strings.Contains(out, "kubectl istio-upgrade ") || strings.Contains(out, binaryName+" [") {
			t.Errorf("%v: exit code %d, stderr %q\n%s", args, code, errOut, out)
		}
	}
}
