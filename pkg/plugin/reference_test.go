package plugin

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

var update = flag.Bool("update", false, "write docs/reference.md anew")

const referenceFile = "../../docs/reference.md"

// The reference in docs/ is generated from the commands; this fails when it is
// not what they say. To write it anew: make docs.
func TestReferenceIsCurrent(t *testing.T) {
	t.Setenv("HOME", "/home/you") // a default contains it
	got := reference(NewCommand(genericiooptions.NewTestIOStreamsDiscard()))
	if *update {
		if err := os.WriteFile(referenceFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("docs/reference.md is not what the commands say: make docs writes it anew (-file +commands):\n%s", d)
	}
}

// reference gives the whole of all commands as Markdown.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Reference\n\nAll commands and flags. This page is generated: `make docs`.\n\n")
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			fmt.Fprintf(&b, "- [%s](#%s): %s\n", cmd.Name(), cmd.Name(), cmd.Short)
		}
	}
	b.WriteString("- [flags of every command](#flags-of-every-command)\n")
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			describe(&b, cmd)
		}
	}
	b.WriteString("\n## flags of every command\n\n")
	flagTable(&b, root.PersistentFlags())
	return b.String()
}

func describe(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n    kubectl istio-upgrade %s\n", cmd.Name(), strings.TrimSpace(cmd.Long), strings.TrimPrefix(cmd.Use, "istio-upgrade "))
	if cmd.Example != "" {
		b.WriteString("\nExamples:\n\n")
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			b.WriteString(strings.TrimRight("  "+line, " ") + "\n")
		}
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString("\n")
		flagTable(b, cmd.LocalNonPersistentFlags())
	}
}

func flagTable(b *strings.Builder, flags *pflag.FlagSet) {
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" { // those that help hides are here as well
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value := f.DefValue
		switch value {
		case "", "[]", "false", "0", "0s":
			value = ""
		default:
			value = "`" + strings.ReplaceAll(value, "/home/you", "$HOME") + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, value, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
}
