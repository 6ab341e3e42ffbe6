package helm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// Undecodable is a record of Helm's that cannot be decoded.
type Undecodable struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Record    string `json:"record"`
	Reason    string `json:"reason"`
}

// String says what is left out, and why.
func (u Undecodable) String() string {
	return fmt.Sprintf("release %s in %s is left out: its record %s cannot be decoded (%s)", u.Release, u.Namespace, u.Record, u.Reason)
}

// decodeFailed is in the errors of Helm's storage for a record that was read
// and is none (helm/helm:pkg/storage/driver/secrets.go).
const decodeFailed = "get: failed to decode data "

// readAll decodes records, several at a time. It leaves out those of charts
// that are not Istio's and those that were pruned meanwhile, and names those
// that cannot be decoded.
func readAll(ctx context.Context, c *cluster.Cluster, wanted []record) ([]Release, []Undecodable, error) {
	releases, broken := make([]*Release, len(wanted)), make([]*Undecodable, len(wanted))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, want := range wanted {
		group.Go(func() error {
			stored, err := read(ctx, c, want.namespace, want.name)
			if err != nil {
				if strings.Contains(err.Error(), "release: not found") {
					return nil
				}
				if _, reason, failed := strings.Cut(err.Error(), decodeFailed); failed {
					_, reason, _ = strings.Cut(reason, ": ")
					broken[i] = &Undecodable{want.namespace, want.release, want.name, reason}
					return nil
				}
				return err
			}
			if r, ok := fromHelm(stored); ok {
				r.Namespace, r.StoredBy, r.Labels = want.namespace, want.storedBy, want.labels
				releases[i] = &r
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	failed := given(broken)
	slices.SortFunc(failed, func(a, b Undecodable) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Record, b.Record))
	})
	return given(releases), failed, nil
}

// given gives what is not nil.
func given[T any](all []*T) []T {
	out := []T{}
	for _, one := range all {
		if one != nil {
			out = append(out, *one)
		}
	}
	return out
}
