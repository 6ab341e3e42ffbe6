package helm

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/kube"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// fieldManager is the name under which Helm's command line writes. A name of
// our own would make the user's next helm upgrade fail with a conflict.
const fieldManager = "helm"

// prepare sets what the Helm SDK keeps in package variables: the field
// manager, and the logger, which would write to stderr.
var prepare = sync.OnceFunc(func() {
	kube.ManagedFieldsManager = fieldManager
	slog.SetDefault(slog.New(slog.DiscardHandler))
})

// configuration is what a Helm action works with, for the releases of one
// namespace. Objects without a namespace go to the release's.
func configuration(ctx context.Context, c *cluster.Cluster, namespace string, adjust Adjust) (*action.Configuration, error) {
	prepare()
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := config.Init(c.Getter, namespace, os.Getenv("HELM_DRIVER")); err != nil {
		return nil, fmt.Errorf("read Helm's storage in namespace %s: %w", namespace, err)
	}
	client := kube.New(c.Getter)
	client.SetLogger(slog.DiscardHandler)
	client.Namespace = namespace
	config.KubeClient = &carrier{Client: client, ctx: ctx, adjust: adjust}
	caps, err := Capabilities(c)
	if err != nil {
		return nil, err
	}
	config.Capabilities = caps
	return config, nil
}

// Adjust is told of the objects that Helm is about to write, before each
// update of a release, and may change targets. Originals are those of the
// revision before.
type Adjust func(ctx context.Context, originals, targets kube.ResourceList) error

// carrier is Helm's client to the API server, with a say in what an update of
// a release writes.
type carrier struct {
	*kube.Client
	ctx    context.Context // Helm's interface passes none
	adjust Adjust
}

// webhookPatience is how long a webhook that does not answer may hold up a
// release: istiod's own does for a moment while it restarts.
const webhookPatience = time.Minute

// Update lets adjust look at the objects and hands them to Helm. Where a
// webhook does not answer it tries again, within the same revision.
func (c *carrier) Update(originals, targets kube.ResourceList, options ...kube.ClientUpdateOption) (*kube.Result, error) {
	if c.adjust != nil {
		if err := c.adjust(c.ctx, originals, targets); err != nil {
			return &kube.Result{}, err
		}
	}
	deadline := time.Now().Add(webhookPatience)
	for {
		result, err := c.Client.Update(originals, fresh(targets), options...)
		if err == nil || !strings.Contains(err.Error(), "failed calling webhook") || time.Now().After(deadline) {
			return result, err
		}
		select {
		case <-c.ctx.Done():
			return result, err
		case <-time.After(time.Second):
		}
	}
}

// fresh copies what is to be written: Helm puts the server's answers into it,
// which cannot be written again.
func fresh(targets kube.ResourceList) kube.ResourceList {
	out := make(kube.ResourceList, len(targets))
	for i, info := range targets {
		copied := *info
		copied.Object = info.Object.DeepCopyObject()
		out[i] = &copied
	}
	return out
}

// HistoryFull tells whether a revision after this one has the oldest record of the
// release deleted.
func HistoryFull(revision int) bool { return maxHistory() > 0 && revision >= maxHistory() }

// maxHistory is how many revisions of a release are kept, as HELM_MAX_HISTORY
// says for helm itself.
func maxHistory() int { return cli.New().MaxHistory }
