package helm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewestFirst(t *testing.T) {
	got := newestFirst([]string{"1.9.0", "1.31.0", "1.31.0-rc.1", "latest", "1.30.2", "1.31.0", "1.31"})
	if d := cmp.Diff([]string{"1.31.0", "1.31.0-rc.1", "1.30.2", "1.9.0"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := newestFirst(nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
