package rollout

import (
	"slices"
	"testing"
	"time"
)

// answers is how long so many changes took to be answered, one after the other.
func answers(n int, took time.Duration) []time.Duration {
	return slices.Repeat([]time.Duration{took}, n)
}

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		most  int
		takes []time.Duration
		want  int
	}{
		"as many as are asked for, where they are few":         {most: 4, want: 4},
		"few at first, where they are many":                    {most: 50, want: 10},
		"one at least":                                         {most: 0, want: 1},
		"all of them, soon":                                    {most: 50, takes: answers(40, 8*ms), want: 50},
		"no more than are asked for":                           {most: 50, takes: answers(400, 8*ms), want: 50},
		"a few slow answers of many":                           {most: 50, takes: slices.Concat(answers(60, 8*ms), answers(3, 200*ms)), want: 47},
		"never fewer than move unless more are asked for":      {most: 50, takes: slices.Concat(answers(60, 8*ms), answers(100, 900*ms)), want: 10},
		"slow answers do not slow a run down that asks little": {most: 4, takes: slices.Concat(answers(9, 8*ms), answers(9, 900*ms)), want: 4},
		"as before, when the answers are prompt again":         {most: 50, takes: slices.Concat(answers(60, 8*ms), answers(100, 900*ms), answers(40, 8*ms)), want: 50},
		"far away, and no slower than that":                    {most: 50, takes: answers(60, 300*ms), want: 50},
		"far away, and slow":                                   {most: 50, takes: slices.Concat(answers(60, 300*ms), answers(20, 2000*ms)), want: 30},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			for _, took := range c.takes {
				p.answered(took, c.most)
			}
			if got := p.limit(c.most); got != c.want {
				t.Errorf("%d may move at a time, not %d", got, c.want)
			}
		})
	}
}

// What is held back starts when others end, and when answers are prompt again.
func TestSlowAnswersHoldBack(t *testing.T) {
	var moves []Move
	for i := range 30 {
		moves = append(moves, move(string(rune('a'+i))))
	}
	e, _ := engine(Options{MaxParallel: 20}, moves...)
	if n := len(begin(e)); n != unhurried {
		t.Fatalf("%d start at first", n)
	}
	for range 5 {
		e.pace.answered(5*time.Millisecond, e.Options.MaxParallel)
	}
	if n := len(begin(e)); n != 5 {
		t.Errorf("%d more start after five prompt answers", n)
	}
	for range 4 {
		e.pace.answered(time.Second, e.Options.MaxParallel)
	}
	finish(t, e, "a", "b", "c")
	if names := begin(e); len(names) != 0 {
		t.Errorf("%v start while the answers are slow", names)
	}
	finish(t, e, "d", "e")
	if n := len(begin(e)); n != 1 {
		t.Errorf("%d start where 10 move of the 11 that may", n)
	}
}
