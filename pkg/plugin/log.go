package plugin

import (
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// plainLog prints one line an event, as in "deployment/web in shop: 1 of 2 new".
type plainLog struct {
	w io.Writer
}

func newLog(w io.Writer) progress.Listener { return progress.Tee(&plainLog{w: w}) }

var logMarks = map[progress.Kind]string{
	progress.Done: "✓", progress.Failed: "×", progress.Warning: "‼", progress.Skipped: "-",
	progress.Waiting: "…", progress.Started: "→", progress.Updated: " ",
	progress.StepStarted: "▸", progress.StepFinished: "▸",
}

// Notify prints the event, unless it only says what is to come. A terminal that
// is gone is no reason to stop.
func (l *plainLog) Notify(e progress.Event) {
	if e.Kind == progress.Planned {
		return
	}
	var b strings.Builder
	if klog.V(1).Enabled() {
		b.WriteString(e.Time.Local().Format(time.TimeOnly) + " ")
	}
	b.WriteString(logMarks[e.Kind] + " ")
	switch {
	case e.Object.Name != "":
		b.WriteString(strings.ToLower(e.Object.Kind) + "/" + e.Object.Name)
		if e.Object.Namespace != "" {
			b.WriteString(" in " + e.Object.Namespace)
		}
	default:
		b.WriteString(e.Step)
	}
	if text := eventText(e); text != "" {
		// A webhook's message of several lines could pass for other events.
		b.WriteString(": " + strings.ReplaceAll(text, "\n", " "))
	}
	if e.Kind == progress.Done && e.Total > 0 {
		fmt.Fprintf(&b, " (%d of %d)", e.Finished, e.Total)
	}
	_, _ = fmt.Fprintln(l.w, escape(b.String()))
}

func eventText(e progress.Event) string {
	if e.Message != "" {
		return e.Message
	}
	switch e.Kind {
	case progress.Started:
		return "started"
	case progress.Done:
		return "done"
	}
	return ""
}
