package main

import (
	"strings"
	"testing"
	"time"
)

// A line that is not met cannot stand without words: its note, or that it lacks
// one.
func TestReportHasNotes(t *testing.T) {
	r := &report{}
	r.atMost("met", "a peer", "s", []float64{1, 1.1, 0.9}, []float64{1, 1, 1}, 1.2)
	r.bounded("bounded", "MiB", []float64{100, 170, 120}, 160)
	r.add(goal{work: "noted", note: "the floor is the API server's own time"})

	text := r.markdown()

	for _, want := range []string{
		"| met | 1.00 s (0.90 to 1.10) | a peer | 1.00 s | ≤ 1.2 × | 1.00 × (0.90 to 1.10) | met |",
		"| bounded | 120 (100 to 170) MiB |  |  | ≤ 160 MiB | 170 MiB | **not met** |",
		"- bounded: **no note yet", "- noted: the floor is the API server's own time",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "- met: ") {
		t.Errorf("a line that is met needs no note:\n%s", text)
	}
}

func TestParseInits(t *testing.T) {
	got := parseInits("init errors @0.12 ms, 0.001 ms clock, 0 bytes, 0 allocs\nError: not a line of it\n" +
		"init example.com/large @12 ms, 118 ms clock, 1701960 bytes, 21291 allocs\n")

	if len(got) != 2 || got[1] != (initOf{"example.com/large", 1701960, 21291}) {
		t.Errorf("%+v", got)
	}
}

func TestBoundsOfASchedule(t *testing.T) {
	starts := []int{1, 1, 9, 1, 1, 1}
	f := fleet{count: len(starts), start: func(i int) time.Duration { return time.Duration(starts[i]) * time.Second }}

	least, waves := f.bounds(2)

	if least != 9*time.Second || waves != 11*time.Second { // the slowest one; 1 + 9 + 1
		t.Errorf("at least %s, in waves %s", least, waves)
	}
}
