package main

import (
	"fmt"
	"slices"
	"time"
)

// sample is what one run took. CPU and Peak are 0 where the work was done
// inside the bench's own process.
type sample struct {
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"`
	Peak int64         `json:"peak"`
}

// series are the runs of one contender, one a round.
type series []sample

// spread is the median of several figures, and the least and most of them.
type spread struct{ Median, Least, Most float64 }

func spreadOf(figures []float64) spread {
	if len(figures) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(figures))
	median := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		median = (median + sorted[len(sorted)/2-1]) / 2
	}
	return spread{median, sorted[0], sorted[len(sorted)-1]}
}

// of gives a figure of each run.
func (s series) of(figure func(sample) float64) []float64 {
	out := make([]float64, 0, len(s))
	for _, one := range s {
		out = append(out, figure(one))
	}
	return out
}

func wall(s sample) float64 { return s.Wall.Seconds() }
func cpu(s sample) float64  { return s.CPU.Seconds() }
func peak(s sample) float64 { return float64(s.Peak) / (1 << 20) }

// ratio is of two contenders: round by round where they had the same number of
// rounds, so that a machine which was busy for a while counts for both; of the
// medians else.
func ratio(above, below []float64) spread {
	if len(above) != len(below) {
		r := spreadOf(above).Median / spreadOf(below).Median
		return spread{r, r, r}
	}
	rounds := make([]float64, 0, len(above))
	for i := range above {
		rounds = append(rounds, above[i]/below[i])
	}
	return spreadOf(rounds)
}

// text writes a spread with its unit, as in "2.41 s (2.30 to 2.55)".
func (s spread) text(unit string) string {
	digits := 2
	if s.Median >= 100 {
		digits = 0
	}
	if s.Least == s.Most {
		return fmt.Sprintf("%.*f %s", digits, s.Median, unit)
	}
	return fmt.Sprintf("%.*f %s (%.*f to %.*f)", digits, s.Median, unit, digits, s.Least, digits, s.Most)
}

// whole writes a spread of counts, as in "12 (11 to 14)".
func (s spread) whole() string {
	if s.Least == s.Most {
		return fmt.Sprintf("%.0f", s.Median)
	}
	return fmt.Sprintf("%.0f (%.0f to %.0f)", s.Median, s.Least, s.Most)
}
