package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Build builds what is missing of the lab's programs and charts into the user's cache folder and returns
// where they are. It says on log what it does, which part of how many, and for how long. What is there is
// not built again; a part comes under its name only when it is complete, so an interrupted build is continued
// and never mistaken for a finished one. Builds of several processes take turns.
//
// It needs Go and git, and the Go module proxy for what is not in the module cache.
func Build(ctx context.Context, log io.Writer) (Parts, error) {
	source, err := sourceDir()
	if err != nil {
		return Parts{}, err
	}
	dir, err := cacheDir(source)
	if err != nil {
		return Parts{}, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return Parts{}, fmt.Errorf("making the lab's cache folder: %w", err)
	}
	parts := Parts{Dir: dir}
	if complete(parts) {
		return parts, nil
	}

	lock := flock.New(filepath.Join(dir, "lock"))
	if ok, err := lock.TryLock(); err != nil {
		return Parts{}, fmt.Errorf("locking the lab's cache folder: %w", err)
	} else if !ok {
		fmt.Fprintln(log, "lab: another build is under way, waiting for it")
		if _, err := lock.TryLockContext(ctx, time.Second); err != nil {
			return Parts{}, fmt.Errorf("waiting for another build of the lab (%s): %w", lock.Path(), err)
		}
	}
	defer func() { _ = lock.Unlock() }()

	list := partsToBuild()
	total := len(list) + len(istioSources)
	began := time.Now()
	if !complete(parts) {
		fmt.Fprintf(log, "lab: building %d parts into %s (the first time takes 7 to 20 minutes)\n", total, dir)
	}
	for i, p := range list {
		if err := buildPart(ctx, log, source, parts, p, fmt.Sprintf("part %d of %d", i+1, total)); err != nil {
			return Parts{}, err
		}
	}
	for i, s := range istioSources {
		label := fmt.Sprintf("part %d of %d", len(list)+i+1, total)
		if err := buildCharts(ctx, log, source, parts, s, label); err != nil {
			return Parts{}, err
		}
	}
	fmt.Fprintf(log, "lab: all parts built in %s\n", time.Since(began).Round(time.Second))
	return parts, nil
}

func complete(p Parts) bool {
	for _, b := range partsToBuild() {
		if !exists(p.Bin(b.name)) {
			return false
		}
	}
	for _, s := range istioSources {
		if !chartsComplete(p, s) {
			return false
		}
	}
	return true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func buildPart(ctx context.Context, log io.Writer, source string, parts Parts, p part, label string) error {
	target := parts.Bin(p.name)
	if exists(target) {
		return nil
	}
	fmt.Fprintf(log, "lab: %s: %s\n", label, p.name)
	done := announce(log, label+": "+p.name)
	defer done()

	began := time.Now()
	unfinished := filepath.Join(filepath.Dir(target), "."+p.name+".unfinished")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", unfinished, "-ldflags", p.ldflags, p.path)
	cmd.Dir = filepath.Join(source, p.module)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", p.name, err, lastLines(string(out), 20))
	}
	if err := os.Rename(unfinished, target); err != nil {
		return fmt.Errorf("building %s: %w", p.name, err)
	}
	fmt.Fprintf(log, "lab: %s: %s built in %s\n", label, p.name, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// announce writes every 15 seconds how long something has been going on, until the function it returns is called.
func announce(log io.Writer, what string) (done func()) {
	began := time.Now()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				fmt.Fprintf(log, "lab: %s, for %s so far\n", what, time.Since(began).Round(time.Second))
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
