package plugin

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// nearEnough is how many letters may differ for a name to be suggested.
const nearEnough = 3

// flagError words a mistake in a flag, and suggests the flag that was meant.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageError{err, cmd.CommandPath()}
	}
	if words := cmd.Flags().Args(); !cmd.HasParent() && len(words) > 0 {
		return usageError{error: knownCommand(cmd, words)} // it is the command that is not known
	}
	name := unknown.GetSpecifiedName()
	names := nearestFlags(cmd, name)
	switch {
	case name == "version" || name == "V":
		names = []string{commandPath("version")}
	case (name == "f" || name == "filename") && cmd.Flags().Lookup("values") != nil:
		err = fmt.Errorf("%w: Helm values are given by --values, manifests by -f to %s", err, commandPath("sidecars"))
		names = nil
	}
	if len(names) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(names, " or "))
	}
	return usageError{err, cmd.CommandPath()}
}

// nearestFlags gives the flags of a command whose names are the nearest to an
// unknown one: those with the fewest letters to change, or that it begins.
func nearestFlags(cmd *cobra.Command, name string) []string {
	if len(name) < 2 { // an unknown letter is near to everything
		return nil
	}
	best := min(nearEnough, len(name)/2+1)
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		d := distance(name, f.Name)
		if strings.HasPrefix(f.Name, name) && len(name) > 2 {
			d = min(d, 1)
		}
		switch {
		case f.Hidden || d > best:
		case d < best:
			best, names = d, []string{"--" + f.Name}
		default:
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

// otherNames are words for our commands that people know from other tools.
var otherNames = map[string]string{
	"upgrade": "all", "update": "all", "install": "all",
	"controlplane": "control-plane", "istiod": "control-plane", "helm": "control-plane",
	"proxies": "sidecars", "workloads": "sidecars", "restart": "sidecars", "rollout": "sidecars", "kube-inject": "sidecars",
	"undo": "rollback", "precheck": "check", "preflight": "check", "analyze": "check",
	"proxy-status": "status", "ps": "status", "diff": "all --dry-run", "plan": "all --dry-run",
}

// knownCommand makes a word that is no command a usage error which suggests
// the command that was meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	word := args[0]
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if distance(word, sub.Name()) <= 2 || strings.HasPrefix(sub.Name(), word) {
			names = append(names, sub.Name())
		}
	}
	if other, ok := otherNames[word]; ok && !slices.Contains(names, other) {
		names = append(names, other)
	}
	if len(names) == 0 {
		return fmt.Errorf("%q is no command of %s", word, commandPath())
	}
	return fmt.Errorf("%q is no command of %s; did you mean %s?", word, commandPath(), strings.Join(names, " or "))
}

// distance counts the letters to insert, remove, replace or swap with their
// neighbour to make b of a.
func distance(a, b string) int {
	before, last, row := []int{}, make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
