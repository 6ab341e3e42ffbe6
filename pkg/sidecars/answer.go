package sidecars

import (
	"context"
	"errors"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// outcome says how a dry-run create of a workload's pod ended.
type outcome int

const (
	// The zero outcome: nobody asked, because nothing would come of it.
	_ outcome = iota
	// answered: the pod came back as it would be made.
	answered
	// noRoom: a ResourceQuota has no room for one more pod of the kind.
	noRoom
	// rejected: admission refuses the pod.
	rejected
	// injectorDown: the injector could not be called.
	injectorDown
	// unsupported: a webhook on the way does not allow dry runs.
	unsupported
	// notAllowed: the user may not create pods.
	notAllowed
	// unreachable: the API server did not answer.
	unreachable
)

// answer is what the API server said of the pod that a controller would make.
type answer struct {
	Outcome outcome
	// HasProxy and Proxy tell what the new pod would run; where the API server
	// could not tell they come from the injector's configuration, and Guessed
	// is true.
	HasProxy bool
	Proxy    workload.Proxy
	Guessed  bool
	// AnyVariant is true of a guess where the injector's values say nothing of the
	// image's variant: the mesh configuration and ProxyConfigs may.
	AnyVariant bool
	// Told is true where the API server itself said what the new pod would run,
	// be it of this pod or of another that injection treats alike.
	Told bool
	// Needs is what the pod takes from quotas, with all that admission adds;
	// nil where it was not answered.
	Needs corev1.ResourceList
	// Message is the API server's own, where the outcome is not answered.
	Message string
}

// ask creates the pod as a dry run, which goes through the injector, quotas,
// Pod Security and every other webhook as the real one would, and keeps
// nothing.
func ask(ctx context.Context, c *cluster.Cluster, pod *corev1.Pod, fieldManager string) answer {
	var made *corev1.Pod
	err := c.Persist(ctx, func(ctx context.Context) (err error) {
		made, err = c.Kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{
			DryRun: []string{metav1.DryRunAll}, FieldManager: fieldManager,
		})
		return err
	})
	if err != nil {
		return answer{Outcome: classify(err), Message: oneLine(err.Error())}
	}
	proxy, ok := workload.ProxyOf(made.Annotations, &made.Spec)
	return answer{Outcome: answered, Told: true, HasProxy: ok, Proxy: proxy, Needs: podNeeds(&made.Spec)}
}

// classify reads the API server's error: the words are those of its admission
// chain (apiserver pkg/admission/plugin/webhook/errors, plugin/pkg/admission/resourcequota)
// and of its authorizer (apiserver pkg/endpoints/handlers/responsewriters/errors.go).
func classify(err error) outcome {
	text := err.Error()
	var status apierrors.APIStatus
	var network net.Error
	switch {
	case strings.Contains(text, "does not support dry run"):
		return unsupported
	case strings.Contains(text, "failed calling webhook"):
		if strings.Contains(text, "sidecar-injector.istio.io") {
			return injectorDown
		}
		return rejected
	case strings.Contains(text, "exceeded quota"):
		return noRoom
	case strings.Contains(text, "cannot create resource \"pods\""):
		return notAllowed
	case errors.As(err, &status) && cluster.Transient(err):
		return unreachable
	case errors.As(err, &status):
		return rejected
	case errors.As(err, &network):
		return unreachable
	}
	return rejected
}

// oneLine keeps a message of the cluster on one line.
func oneLine(text string) string {
	return strings.Join(strings.Fields(text), " ")
}

// promise gives what new pods will run, by this answer.
func (a answer) promise(same func(a, b string) bool) workload.Promise {
	alike := same
	if a.AnyVariant {
		alike = func(x, y string) bool { return mesh.SameButVariant(x, y) || same != nil && same(x, y) }
	}
	return workload.Promise{Known: a.HasProxy, Proxy: a.Proxy, Guessed: a.Guessed, Same: alike}
}

// known says whether anything tells what the new pod would run.
func (a answer) known() bool { return a.Told || a.Guessed }

// completedBy gives the answer with what another tells of the proxy where it
// does not tell itself.
func (a answer) completedBy(other answer) answer {
	if !a.known() {
		a.HasProxy, a.Proxy, a.Guessed, a.AnyVariant, a.Told = other.HasProxy, other.Proxy, other.Guessed, other.AnyVariant, other.Told
	}
	return a
}
