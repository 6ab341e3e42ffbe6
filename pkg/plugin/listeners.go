package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
)

// listenFlags say who is told of what happens, beside the terminal.
type listenFlags struct {
	events string
	report string

	file *eventFile
	page *reportPage
	// stage is which of stages steps runs, from 1, where a command has several.
	stage, stages int
	run           string // the name of that command
}

func (f *listenFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.events, "events", "", "File to which every event is appended as a line of JSON while it happens")
	flags.StringVar(&f.report, "report", "", "File to which a page of HTML that shows the run is written in the end")
}

func (f *listenFlags) validate() error {
	if f.events == "-" {
		return usagef("--events needs a file: standard output holds results only, and /dev/stderr may be given")
	}
	if f.report == "-" {
		return usagef("--report needs a file: standard output holds results only")
	}
	return nil
}

// open opens the files that are asked for, so that a path that cannot be
// written is told of before anything changes.
func (f *listenFlags) open(s *session, id cluster.Identity) (err error) {
	if f.events != "" && f.file == nil {
		if f.file, err = openEvents(f.events, s.ErrOut); err != nil {
			return err
		}
	}
	if f.report != "" && f.page == nil {
		f.page, err = openReport(f.report, id)
	}
	return err
}

// finish ends what the command wrote for others, with the error that the
// command ends with, and gives that error back, with what could not be written.
func (f *listenFlags) finish(step string, err error) error {
	errs := []error{err}
	if f.file != nil {
		errs = append(errs, f.file.close(step, err))
	}
	if f.page != nil {
		errs = append(errs, f.page.close(step, err))
	}
	f.file, f.page = nil, nil
	return errors.Join(errs...)
}

// perform applies an action and tells of it: in a live view where one can be
// shown, else by lines on stderr, and to whom the flags name.
func (c *changeFlags) perform(ctx context.Context, s *session, a action) (any, error) {
	model := &live.Model{Stage: c.listen.stage, Stages: c.listen.stages}
	isLive := c.wait && !c.output.name() && canLive(s)
	listeners := []progress.Listener{harmless(model)}
	if !isLive {
		listeners = append(listeners, c.listener(s))
	}
	if file := c.listen.file; file != nil {
		file.begin(cmp.Or(c.listen.run, a.step))
		listeners = append(listeners, file)
	}
	if page := c.listen.page; page != nil {
		defer page.watch(ctx, s, a)()
		listeners = append(listeners, harmless(page))
	}
	emit := progress.Emitter{Step: a.step, To: progress.Tee(listeners...), Pause: &progress.Pause{}}
	stop := func() {}
	if isLive {
		stop = sync.OnceFunc(startView(ctx, s, model, func() {
			kind := progress.Resumed
			if emit.Pause.Toggle() {
				kind = progress.Paused
			}
			emit.Emit(progress.Event{Kind: kind})
		}))
	}
	// Deferred, so that a panic finds the terminal as it was.
	defer stop()
	result, err := a.apply(ctx, emit)
	stop()
	if errors.Is(context.Cause(ctx), errInterrupted) && !c.output.name() {
		tellInterrupted(s, model)
	}
	return result, err
}

// listener prints events as plain lines, or nothing for -o name.
func (c *changeFlags) listener(s *session) progress.Listener {
	if c.output.name() {
		return progress.Discard
	}
	return newLog(s.ErrOut)
}

// harmless passes events on with no text that could drive a terminal.
func harmless(to progress.Listener) progress.Listener {
	clean := func(text string) string {
		return escape(strings.ReplaceAll(strings.TrimSpace(text), "\n", " "))
	}
	return progress.Func(func(e progress.Event) {
		e.Message, e.Object.Kind = clean(e.Message), clean(e.Object.Kind)
		e.Object.Namespace, e.Object.Name = clean(e.Object.Namespace), clean(e.Object.Name)
		to.Notify(e)
	})
}

// mostMoving is how many objects are named that an interrupted run leaves half
// done.
const mostMoving = 10

// tellInterrupted says what an interrupted run leaves half done.
func tellInterrupted(s *session, model *live.Model) {
	moving := model.Moving()
	if len(moving) == 0 {
		return
	}
	more := ""
	if n := len(moving) - mostMoving; n > 0 {
		more = fmt.Sprintf("\n  and %d more", n)
		moving = moving[:mostMoving]
	}
	fmt.Fprintf(s.ErrOut, "Half done; running rollouts are finished by their controllers, and the same command goes on from here:\n  %s%s\n",
		strings.Join(moving, "\n  "), more)
}
