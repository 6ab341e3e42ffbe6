package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
)

// With a dry run by the server the definitions are tried there, and the plans of
// all steps are shown whatever comes of it.
func TestAllTriesDefinitions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, dryRun string
		empty        bool
		refused      error
		want         string // what is tried
	}{
		{"by the server", dryRunServer, false, nil, "[crds]"},
		{"refused by the server", dryRunServer, false, errors.New("apply customresourcedefinition x: no"), "[crds]"},
		{"nothing to try", dryRunServer, true, nil, "[]"},
		{"by the client", dryRunClient, false, nil, "[]"},
	} {
		tried, out := []string{}, &strings.Builder{}
		step := func(name string) stage {
			return func(context.Context, bool) (action, error) {
				return action{
					step: name, empty: c.empty, nothing: "Nothing.", prompt: "Change?",
					show: func(w io.Writer, _ bool) error {
						_, err := fmt.Fprintln(w, "plan of "+name)
						return err
					},
					try: map[string]func(context.Context, progress.Emitter) error{"crds": func(context.Context, progress.Emitter) error {
						tried = append(tried, name)
						return c.refused
					}}[name],
				}, nil
			}
		}
		o := &allOptions{session: &session{IOStreams: genericiooptions.IOStreams{Out: out, ErrOut: io.Discard}}}
		o.dryRun = c.dryRun
		doc := document{Steps: []document{}}
		err := o.runStages(t.Context(), &cluster.Cluster{Kube: fake.NewClientset()}, []stage{step("crds"), step("control-plane")}, &doc)
		if !errors.Is(err, c.refused) || fmt.Sprint(tried) != c.want || !strings.Contains(out.String(), "plan of control-plane") {
			t.Errorf("%s: tried %v, %v\n%s", c.name, tried, err, out)
		}
		if len(doc.Steps) != 2 || (doc.Steps[0].Error != "") != (c.refused != nil) {
			t.Errorf("%s: documents %+v", c.name, doc.Steps)
		}
	}
}

func TestRollbackIsNotTriedByTheServer(t *testing.T) {
	code, out, errOut := runMain(t, "rollback", "--dry-run=server")
	if code != exitUsage || out != "" || !strings.Contains(errOut, "give --dry-run=client") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
}
