// Package gate holds the reasons for which a plan must not be applied, and the
// errors that say a run was stopped on purpose. The command line turns them
// into exit codes.
package gate

import (
	"fmt"
	"strings"
)

// Refusal is one reason why a plan must not be applied as it stands.
type Refusal struct {
	// Object is what the reason is about: "deployment/web in shop",
	// "release istiod in istio-system". May be empty.
	Object string `json:"object,omitempty"`
	// Reason says what is wrong, in one sentence without a final period.
	Reason string `json:"reason"`
	// Cure says what to do about it: a command, or what to change.
	Cure string `json:"cure,omitempty"`
	// Forceable is true where --force overrides the refusal.
	Forceable bool `json:"forceable"`
}

// String gives the refusal as one line.
func (r Refusal) String() string {
	var b strings.Builder
	if r.Object != "" {
		b.WriteString(r.Object + ": ")
	}
	b.WriteString(r.Reason)
	if r.Cure != "" {
		b.WriteString("; " + r.Cure)
	}
	if r.Forceable {
		b.WriteString(" (--force overrides this)")
	} else {
		b.WriteString(" (--force does not override this)")
	}
	return b.String()
}

// Error says that a run was refused before its first write. Exit code 3.
type Error struct {
	Step     string
	Refusals []Refusal
}

// Error lists every refusal, one a line.
func (e *Error) Error() string {
	if len(e.Refusals) == 1 {
		return fmt.Sprintf("%s refused: %s", e.Step, e.Refusals[0])
	}
	lines := make([]string, 0, len(e.Refusals)+1)
	lines = append(lines, fmt.Sprintf("%s refused for %d reasons:", e.Step, len(e.Refusals)))
	for _, r := range e.Refusals {
		lines = append(lines, "  - "+r.String())
	}
	return strings.Join(lines, "\n")
}

// Check gives nil where nothing stands in the way of a step, and an *Error
// with the refusals that do. With force, those that are forceable do not.
func Check(step string, refusals []Refusal, force bool) error {
	var left []Refusal
	for _, r := range refusals {
		if !force || !r.Forceable {
			left = append(left, r)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return &Error{Step: step, Refusals: left}
}

// Stopped says that a run ended on purpose with work left: too many failures,
// a refused prompt. Exit code 3.
type Stopped struct {
	Reason string
}

// Error gives the reason.
func (s *Stopped) Error() string { return s.Reason }

// BadInput says that what the user gave cannot be meant: a tag that is no
// version, a chart that is not Istio's. Exit code 1, nothing changed.
type BadInput struct {
	Reason string
}

// Error gives the reason.
func (b *BadInput) Error() string { return b.Reason }

// BadInputf makes a *BadInput from a format.
func BadInputf(format string, args ...any) error {
	return &BadInput{Reason: fmt.Sprintf(format, args...)}
}

// Timeout says that something made no progress for as long as it may take.
// Exit code 124.
type Timeout struct {
	Reason string
}

// Error gives the reason.
func (t *Timeout) Error() string { return t.Reason }
