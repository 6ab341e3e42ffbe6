package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// refused is what a request to an API server that is not there comes back with.
func refused() error {
	return &url.Error{Op: "Patch", URL: "https://127.0.0.1:1", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
}

func TestTransient(t *testing.T) {
	budget := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	budget.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: "DisruptionBudget"}}
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	for _, tc := range []struct {
		name string
		err  error
		want bool
	}{
		{"none", nil, false},
		{"nobody listens", refused(), true},
		{"wrapped", fmt.Errorf("patch deployment/web: %w", refused()), true},
		{"the connection broke", &url.Error{Op: "Get", Err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}}, true},
		{"too busy", apierrors.NewTooManyRequests("slow down", 1), true},
		{"shutting down", apierrors.NewServiceUnavailable("shutting down"), true},
		{"a timeout of the server", apierrors.NewServerTimeout(deployments, "patch", 1), true},
		{"a budget without room", budget, false},
		{"forbidden", apierrors.NewForbidden(deployments, "web", errors.New("no")), false},
		{"not there", apierrors.NewNotFound(deployments, "web"), false},
		{"a resolver that is restarted", &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", Name: "api.example", IsTemporary: true}}}, true},
		{"a resolver that does not answer", &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", Name: "api.example", IsTimeout: true}}}, true},
		{"a name that does not exist", &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "api.example", IsNotFound: true}}}, false},
		{"interrupted", &url.Error{Op: "Get", Err: context.Canceled}, false},
	} {
		if got := Transient(tc.err); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestPersist(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "web", errors.New("no"))
	for _, tc := range []struct {
		name  string
		fails int // tries that fail before the last
		err   error
		last  error
		tries int
	}{
		{"at once", 0, nil, nil, 1},
		{"after the API server is back", 5, refused(), nil, 6},
		{"not what will not go away", 0, nil, forbidden, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := Persist(t.Context(), Patience, func(context.Context) error {
					if tries++; tries <= tc.fails {
						return tc.err
					}
					return tc.last
				})
				if !errors.Is(err, tc.last) || tries != tc.tries {
					t.Errorf("%d tries, %v", tries, err)
				}
			})
		})
	}
	t.Run("no longer than its patience", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := Persist(t.Context(), 20*time.Second, func(context.Context) error { return refused() })
			if took := time.Since(began); !errors.Is(err, syscall.ECONNREFUSED) || took < 15*time.Second || took > 30*time.Second {
				t.Errorf("%v after %s", err, took)
			}
		})
	})
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			began := time.Now()
			_ = Persist(ctx, time.Hour, func(context.Context) error { return refused() })
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("after %s", took)
			}
		})
	})
}

// TestReading: what a list gives comes back, also where it took a second try.
func TestReading(t *testing.T) {
	c := &Cluster{}
	c.reached.Store(true)
	tries := 0
	got, err := Reading(t.Context(), c, func(context.Context) ([]string, error) {
		if tries++; tries == 1 {
			return nil, apierrors.NewServiceUnavailable("restarting")
		}
		return []string{"web"}, nil
	})
	if err != nil || len(got) != 1 || tries != 2 {
		t.Errorf("%v, %v after %d tries", got, err, tries)
	}
}
