package plugin

import (
	"strings"
	"testing"
)

// What needs someone who watches is refused where nobody does, before anything
// is asked of a cluster.
func TestWhatNeedsWatchingIsRefusedWithoutIt(t *testing.T) {
	for line, want := range map[string]string{
		"sidecars --wait=false --canary 1":           "--canary and --wait=false exclude each other",
		"sidecars --wait=false --canary 1 --soak 1s": "--canary and --wait=false exclude each other",
		"sidecars --wait=false --soak 1s":            "--soak needs --canary",
		"sidecars --wait=false --on-failure undo":    "--on-failure undo and --wait=false exclude each other",
		"sidecars --wait=false -f x --canary 1":      "--canary and --wait=false exclude each other",
	} {
		code, out, errOut := runMain(t, strings.Fields(line)...)
		if code != exitUsage || out != "" || !strings.Contains(errOut, want) || strings.Count(errOut, "\n") > 2 {
			t.Errorf("%s: exit code %d\n%s%s", line, code, out, errOut)
		}
	}
}
