package progress_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

func TestPauseHoldsBackUntilResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pause := &progress.Pause{}
		if err := pause.Wait(t.Context()); err != nil || pause.Paused() {
			t.Fatalf("a pause that nobody has used holds back: %v", err)
		}
		if !pause.Toggle() {
			t.Fatal("the first toggle pauses")
		}
		done := make(chan error, 1)
		go func() { done <- pause.Wait(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("work began while it was paused: %v", err)
		default:
		}
		if pause.Toggle() {
			t.Fatal("the second toggle lets go on")
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestPauseEndsWithTheContext(t *testing.T) {
	pause := &progress.Pause{}
	pause.Toggle()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := pause.Wait(ctx); !errors.Is(err, stop) {
		t.Fatalf("want the context's cause, have %v", err)
	}
	var nobody *progress.Pause
	if nobody.Paused() || nobody.Wait(ctx) != nil {
		t.Error("no pause holds nothing back")
	}
}
