package helm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

func loadErr(t *testing.T, source Source, component Component, tag string) error {
	t.Helper()
	_, err := source.Load(t.Context(), component, tag)
	return err
}

func wantBadInput(t *testing.T, want string, err error) {
	t.Helper()
	var bad *gate.BadInput
	if !errors.As(err, &bad) || !strings.Contains(bad.Reason, want) {
		t.Errorf("want a BadInput with %q, got %v", want, err)
	}
}

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}
