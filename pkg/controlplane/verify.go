package controlplane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"istio.io/api/label"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

type uid = types.UID

// verifier asks the injector itself what it gives out, by the creation of a
// pod that is only a dry-run.
type verifier struct {
	c              *cluster.Cluster
	emit           progress.Emitter
	timeout        time.Duration
	now            func() time.Time
	istioNamespace string
	revision       string
	tag            string
	// image is what the injector's rendered configuration gives out, which may be
	// pinned whatever the tag says; empty where that is not known.
	image string
	// anyAnswer takes no answer for none: the caller goes on with a warning.
	anyAnswer bool
}

// injectedTag is the tag that sidecars are to get: that of the plan, or what
// the release's values say instead.
func injectedTag(r *ReleasePlan, target string) string {
	global, _ := r.values["global"].(map[string]any)
	if tag, _ := global["tag"].(string); tag != "" {
		return tag
	}
	return target
}

// givenOut gives the image that an injector gives out by a release's objects,
// "" where they do not tell.
func givenOut(objects []*unstructured.Unstructured) string {
	in, _ := injectionIn(objects)
	return in.ImageFor(nil)
}

// askAgain is the pause between questions while the answer is not yet the new
// one.
const askAgain = 500 * time.Millisecond

// run asks until as many answers in a row as wanted are right, and gives the
// image. The warning says why the injector could not be asked. A *gate.Timeout
// says what the last answer was.
func (v verifier) run(ctx context.Context, wanted int) (image, warning string, err error) {
	candidates, err := v.candidates(ctx)
	if err != nil {
		return "", "", err
	}
	if len(candidates) == 0 {
		return v.configured(ctx, "the injector was not asked: no namespace was found whose pods it serves")
	}
	deadline := v.now().Add(v.timeout)
	row, last := 0, ""
	for {
		answer := v.ask(ctx, candidates[0])
		switch {
		case ctx.Err() != nil:
			return "", "", ctx.Err()
		case answer.unable != "" && len(candidates) > 1:
			candidates, row = candidates[1:], 0
			continue
		case answer.unable != "":
			return v.configured(ctx, "the injector could not be asked: "+answer.unable)
		case answer.image != "" && v.hidden(answer.image):
			return v.configured(ctx, "something has put a digest in place of the injector's tag ("+answer.image+")")
		case answer.image != "" && v.bears(answer.image):
			if row++; row >= wanted {
				return answer.image, "", nil
			}
			continue
		}
		row = 0
		if text := cmp.Or(answer.failure, "the injector still gives out "+answer.image); text != last {
			last = text
			v.emit.Emit(progress.Event{Kind: progress.Waiting, Message: text})
		}
		if v.anyAnswer && answer.failure != "" {
			return "", answer.failure, nil
		}
		if v.now().After(deadline) {
			return "", "", &gate.Timeout{Reason: fmt.Sprintf("the injector does not give out %s: %s", v.wanted(), last)}
		}
		select {
		case <-ctx.Done():
			return "", "", ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

// bears says whether an image is the wanted one. Registries are not compared,
// since a webhook may send pods to a mirror; tags are without their variant, which
// may be a value of its own. Equal digests are equal.
func (v verifier) bears(image string) bool {
	_, tag, digest := mesh.SplitImage(image)
	wanted, wantedDigest := v.parts()
	if digest != "" && digest == wantedDigest {
		return true
	}
	return mesh.BaseTag(tag) == mesh.BaseTag(wanted) && wantedDigest == ""
}

// hidden says whether an image is known by its digest alone, where a tag is wanted:
// webhooks that check signatures write them so.
func (v verifier) hidden(image string) bool {
	_, tag, digest := mesh.SplitImage(image)
	_, wantedDigest := v.parts()
	return tag == "" && digest != "" && wantedDigest == ""
}

// parts gives the wanted tag and digest.
func (v verifier) parts() (tag, digest string) {
	if v.image == "" {
		return v.tag, ""
	}
	_, tag, digest = mesh.SplitImage(v.image)
	return tag, digest
}

// wanted names what the injector is to give out.
func (v verifier) wanted() string { return cmp.Or(v.image, v.tag) }

// answer is what came of one question. Unable says that this namespace cannot
// be used to ask; failure that the injector did not answer this time.
type answer struct{ image, unable, failure string }

func (v verifier) ask(ctx context.Context, namespace string) answer {
	pod, err := v.c.Kube.CoreV1().Pods(namespace).Create(ctx, v.pod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "does not support dry run"):
		return answer{unable: "a webhook on pods does not support dry-runs, as those of Istio 1.0 to 1.5 do not"}
	case strings.Contains(err.Error(), "failed calling webhook"), apierrors.IsServerTimeout(err),
		apierrors.IsTimeout(err), apierrors.IsTooManyRequests(err), apierrors.IsInternalError(err):
		return answer{failure: err.Error()}
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown:
		return answer{failure: err.Error()} // no answer from the API server
	default:
		return answer{unable: err.Error()}
	}
	proxy, has := workload.ProxyOf(pod.Annotations, &pod.Spec)
	if !has {
		return answer{unable: "pods in namespace " + namespace + " are not injected"}
	}
	return answer{image: proxy.Image}
}

// pod is the smallest pod that asks for a sidecar of the revision.
func (v verifier) pod() *corev1.Pod {
	labels := map[string]string{label.SidecarInject.Name: "true"}
	if v.revision != mesh.DefaultRevision {
		labels[label.IoIstioRev.Name] = v.revision
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "istio-upgrade-asks-", Labels: labels},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "asks", Image: "example.invalid/asks:1",
		}}},
	}
}

// candidates gives the namespaces whose pods the revision's injector serves:
// those that run proxies first, then those with an injection label.
func (v verifier) candidates(ctx context.Context) ([]string, error) {
	injectors, err := mesh.ReadInjectors(ctx, v.c.Kube)
	if err != nil {
		return nil, err
	}
	namespaces, err := v.c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return []string{v.c.Namespace}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	pod := v.pod().Labels
	var labelled, other []string
	for _, ns := range namespaces.Items {
		serving := mesh.Serving(injectors, ns.Labels, pod, ns.Name)
		if mesh.IgnoredNamespace(ns.Name) || ns.DeletionTimestamp != nil || ns.Name == v.istioNamespace ||
			!slices.ContainsFunc(serving, func(i mesh.Injector) bool { return i.Revision == v.revision }) {
			continue
		}
		_, byRevision := ns.Labels[label.IoIstioRev.Name]
		if byRevision || ns.Labels["istio-injection"] == "enabled" {
			labelled = append(labelled, ns.Name)
		} else {
			other = append(other, ns.Name)
		}
	}
	found := append(labelled, other...)
	return v.withProxiesFirst(ctx, found), nil
}

// maxLooked bounds in how many namespaces proxies are looked for.
const maxLooked = 20

// withProxiesFirst moves the first namespace that runs proxies to the front.
func (v verifier) withProxiesFirst(ctx context.Context, namespaces []string) []string {
	for i, ns := range namespaces[:min(maxLooked, len(namespaces))] {
		pods, err := v.c.Kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{
			LabelSelector: label.ServiceCanonicalName.Name, Limit: 1,
		})
		if err == nil && len(pods.Items) > 0 {
			return append([]string{ns}, slices.Delete(slices.Clone(namespaces), i, i+1)...)
		}
	}
	return namespaces
}
