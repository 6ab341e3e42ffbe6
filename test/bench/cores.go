package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cores is the CPU time that processes have used, by name.
type cores map[string]time.Duration

// itself is the bench among the processes: what its own clients do, and what it
// looks at while others work.
const itself = "the bench"

// userHZ is the unit of the times in /proc/PID/stat, on every architecture that
// Go runs on (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const userHZ = 100

// used gives the CPU time that the lab's parts and the bench have used so far.
// Where there is no /proc it has the bench alone.
func (b *bench) used() cores {
	out := cores{}
	var self syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &self) == nil {
		out[itself] = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	}
	if b.Cluster == nil {
		return out
	}
	for name, pid := range b.PIDs() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The second field is the program's name in parentheses, and may hold spaces.
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		if len(fields) < 13 {
			continue
		}
		ticks := 0
		for _, field := range fields[11:13] { // utime and stime
			n, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			ticks += n
		}
		out[name] = time.Duration(ticks) * time.Second / userHZ
	}
	return out
}

// since gives what was used between two moments.
func (c cores) since(before cores) cores {
	out := cores{}
	for name, used := range c {
		out[name] = used - before[name]
	}
	return out
}

// whoHadTheCores is a table of the CPU time that contenders cost, whoever spent
// it: medians of the rounds.
func whoHadTheCores(title string, contenders ...*contender) table {
	names := map[string]bool{}
	for _, c := range contenders {
		for _, round := range c.cores {
			for name := range round {
				names[name] = true
			}
		}
	}
	t := table{
		title: title, text: fmt.Sprintf("Seconds of CPU time, medians. A second on the clock has %d.", runtime.NumCPU()),
		head: []string{"process"},
	}
	own, all, share := []string{"the contender's own"}, []string{"all of them"}, []string{"of what there was"}
	for _, c := range contenders {
		t.head = append(t.head, c.name)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := []string{name}
		for _, c := range contenders {
			row = append(row, seconds(c.spent(name)))
		}
		t.rows = append(t.rows, row)
	}
	for _, c := range contenders {
		mine := spreadOf(c.took.of(cpu)).Median
		sum := mine
		for name := range names {
			sum += c.spent(name)
		}
		own, all = append(own, seconds(mine)), append(all, seconds(sum))
		there := spreadOf(c.took.of(wall)).Median * float64(runtime.NumCPU())
		share = append(share, fmt.Sprintf("%.0f %%", 100*sum/there))
	}
	t.rows = append(t.rows, own, all, share)
	return t
}

func seconds(s float64) string { return fmt.Sprintf("%.1f", s) }

// spent gives the seconds that a process used while the contender worked.
func (c *contender) spent(name string) float64 {
	figures := make([]float64, 0, len(c.cores))
	for _, round := range c.cores {
		figures = append(figures, round[name].Seconds())
	}
	return spreadOf(figures).Median
}
