package lab

import (
	"net"
	"testing"
)

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(t.Context(), 50)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if seen[p] {
			t.Errorf("the port %d was given twice", p)
		}
		seen[p] = true
		if p < lowestPort || p >= highestPort {
			t.Errorf("the port %d is out of range", p)
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", loopback(p))
		if err != nil {
			t.Errorf("the port %d is not free: %v", p, err)
			continue
		}
		_ = l.Close()
	}
	if len(seen) != 50 {
		t.Errorf("%d ports, want 50", len(seen))
	}
}
