package sidecars

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"istio.io/api/annotation"
	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// SkipAnnotation on a workload or its namespace keeps it from being moved; its
// value is the reason.
const SkipAnnotation = "istio-upgrade/skip"

// Verdict says how a workload stands towards its injector.
type Verdict string

// The verdicts, in the order in which they are looked for.
const (
	Excluded Verdict = "excluded" // someone said to leave it alone
	Loses    Verdict = "loses"    // a proxy runs, but a new pod would have none
	Pinned   Verdict = "pinned"   // its own annotation or template fixes the image
	Frozen   Verdict = "frozen"   // a sidecar in the template without its marks
	ByHand   Verdict = "by hand"  // sidecar in the template, and no webhook serves it
	Mixed    Verdict = "mixed"    // sidecar in the template, and a webhook serves it
	Missing  Verdict = "missing"  // should have a proxy, has none
	Stale    Verdict = "stale"    // its proxies are not what the injector gives
	Fresh    Verdict = "fresh"    // its proxies are what the injector gives
	Left     Verdict = "left"     // needs a person, or has no need
	Outside  Verdict = "outside"  // has no proxy and should have none
)

// Verdicts lists them in their order, for tables.
var Verdicts = []Verdict{Excluded, Loses, Pinned, Frozen, ByHand, Mixed, Missing, Stale, Fresh, Left}

// facts are what the verdict on one workload follows from.
type facts struct {
	Ref workload.Ref
	// W is nil for owners that have no template to read.
	W         *workload.Workload
	Pods      *workload.Pods
	Namespace workload.Namespace
	Serving   []mesh.Injector
	// Unread names what of the injectors could not be read; Hidden is true where
	// their webhooks are among it, so that an empty Serving says nothing.
	Unread []string
	Hidden bool
	Answer answer
	// Same says whether two image references are known to be one image.
	Same func(a, b string) bool
	// Release names the Helm release that a component of Istio itself, such as
	// a gateway of the old charts, comes with; "" for all others.
	Release string
}

// judgement is a verdict with its reason in words and what the pods should run.
type judgement struct {
	Verdict Verdict
	Reason  string
	// Lags is true where the proxies are not those that the injector gives, be
	// the workload moved or not.
	Lags bool
	// Unknown is true where nothing tells whether they are.
	Unknown bool
}

// judge gives the verdict. It is a pure function of the facts.
func judge(f facts) judgement {
	lags := f.lags()
	if f.W == nil {
		return f.judgeOwnerless(lags)
	}
	manual := Manual(&f.W.Template)
	template, explicit := templateProxy(&f.W.Template)
	if !f.Pods.HasProxy() && !f.shouldHaveProxy() && !manual {
		return judgement{Verdict: Outside}
	}
	switch reason, excluded := f.excluded(); {
	case excluded:
		return judgement{Verdict: Excluded, Reason: reason, Lags: lags}
	case f.loses(manual, explicit):
		return judgement{Verdict: Loses, Reason: f.whyLoses(), Lags: lags}
	case f.Release != "":
		return judgement{Verdict: Left, Reason: "its proxy comes with the Helm release " + f.Release + ": control-plane moves it", Lags: lags}
	}
	if manual {
		if !f.serves() {
			return judgement{Verdict: ByHand, Reason: "injected by hand, and no webhook serves it", Lags: lags || f.templateLags()}
		}
		return judgement{Verdict: Mixed, Reason: "injected by hand, and " + f.injectorName() + " injects it again", Lags: lags}
	}
	if explicit {
		if bearsSidecar(&f.W.Template) {
			return judgement{Verdict: Frozen, Reason: "its template holds a whole sidecar (" + template.Image + ") without the injection's marks; new pods keep that image", Lags: lags}
		}
		return judgement{Verdict: Pinned, Reason: "its template fixes the image " + template.Image, Lags: lags}
	}
	if image := f.W.Template.Annotations[annotation.SidecarProxyImage.Name]; strings.Contains(image, "/") {
		return judgement{Verdict: Pinned, Reason: "annotation " + annotation.SidecarProxyImage.Name + " fixes the image " + image, Lags: lags}
	}
	if f.W.Kind == workload.CronJob {
		return judgement{Verdict: Left, Reason: "its next run starts with the new proxy", Lags: lags}
	}
	if f.Pods.HasProxy() && !f.Answer.known() {
		return judgement{Verdict: Left, Reason: f.whyUnknown(), Unknown: true}
	}
	if f.Pods.HasProxy() && !lags {
		return judgement{Verdict: Fresh}
	}
	if f.shouldHaveProxy() && f.Pods != nil && f.Pods.Bare.Count > 0 && !f.Pods.HasProxy() {
		return judgement{Verdict: Missing, Reason: "it should have a proxy and has none", Lags: true}
	}
	if lags {
		return judgement{Verdict: Stale, Lags: true}
	}
	return judgement{Verdict: Outside}
}

// judgeOwnerless judges pods whose owner has no template to patch: they are
// named, and never touched.
func (f facts) judgeOwnerless(lags bool) judgement {
	if !f.Pods.HasProxy() {
		return judgement{Verdict: Outside}
	}
	if reason, excluded := f.excluded(); excluded {
		return judgement{Verdict: Excluded, Reason: reason, Lags: lags}
	}
	reason := ""
	switch {
	case f.Pods.Mirror || f.Ref.Is(workload.Node):
		reason = "a mirror pod: change the static manifest on its node"
	case f.Ref.Is(workload.Pod):
		reason = "a bare pod: nothing would make it again; delete and create it yourself"
	case f.Ref.Is(workload.Job):
		reason = "a Job: it runs to its end with the proxy that it has"
	case f.Ref.Is(workload.CronJob):
		reason = "a run of a CronJob: the next run starts with the new proxy"
	default:
		reason = ownerAdvice(f.Ref)
	}
	return judgement{Verdict: Left, Reason: reason, Lags: lags}
}

// lags compares the proxies that run with the one that the injector gives:
// image, form, and which containers injection brings.
func (f facts) lags() bool {
	if !f.Pods.HasProxy() || !f.Answer.HasProxy {
		return false
	}
	promise := f.Answer.promise(f.Same)
	for proxy := range f.Pods.Proxies {
		if !promise.Kept(proxy, true) {
			return true
		}
	}
	return f.Pods.Bare.Count > 0
}

// serves says whether a webhook would inject the workload's new pods.
func (f facts) serves() bool {
	return len(f.Serving) > 0 && !f.neverInjected()
}

// maybeServed says that a webhook may well inject the workload's new pods, as
// one has injected those that run, although the webhooks cannot be read.
func (f facts) maybeServed() bool {
	return f.Hidden && f.Pods.HasProxy() && !f.neverInjected()
}

// neverInjected says whether the injector leaves the workload alone whatever
// its webhooks select.
func (f facts) neverInjected() bool {
	return optedOut(f.W) || mesh.IgnoredNamespace(f.Ref.Namespace) || f.W.Template.Spec.HostNetwork
}

// shouldHaveProxy says whether a new pod would have a proxy.
func (f facts) shouldHaveProxy() bool {
	if f.Answer.known() {
		return f.Answer.HasProxy && !Manual(&f.W.Template)
	}
	return f.serves()
}

// loses says whether a workload with a proxy from a webhook would get a pod
// without one, or with a container whose image is the placeholder. That nothing
// is known is no reason.
func (f facts) loses(manual, explicit bool) bool {
	if manual || explicit || !f.Pods.HasProxy() {
		return false
	}
	if f.Answer.Told {
		return !f.Answer.HasProxy || f.Answer.Proxy.Image == autoImage
	}
	return f.neverInjected() || len(f.Serving) == 0 && !f.Hidden
}

// whyUnknown says why nothing tells what a new pod would run.
func (f facts) whyUnknown() string {
	text := "whether its proxy is up to date is not known: no dry run was made"
	if f.Answer.Message != "" {
		text = "whether its proxy is up to date is not known: the dry run was not answered (" + f.Answer.Message + ")"
	}
	if len(f.Unread) > 0 {
		text += ", and not permitted to read " + strings.Join(f.Unread, " and ")
	}
	return text
}

// whyLoses names the cause in words.
func (f facts) whyLoses() string {
	pod, ns := f.W.Template.Labels, f.Namespace.Labels
	switch {
	case optedOut(f.W):
		return "it has been opted out of injection since: a new pod would have no sidecar"
	case f.W.Template.Spec.HostNetwork:
		return "it uses the host's network since, which is never injected"
	case len(f.Serving) > 0:
		return f.injectorName() + " serves it but injects nothing"
	case ns["istio-injection"] == "disabled":
		return "namespace " + f.Ref.Namespace + " has istio-injection=disabled: a new pod would have no sidecar"
	case ns[label.IoIstioRev.Name] != "":
		return fmt.Sprintf("namespace %s asks for revision %s, which no webhook serves: a new pod would have no sidecar", f.Ref.Namespace, ns[label.IoIstioRev.Name])
	case pod[label.IoIstioRev.Name] != "":
		return fmt.Sprintf("its label %s=%s names a revision that no webhook serves: a new pod would have no sidecar", label.IoIstioRev.Name, pod[label.IoIstioRev.Name])
	}
	return "no webhook serves namespace " + f.Ref.Namespace + ": a new pod would have no sidecar"
}

func (f facts) injectorName() string {
	i := f.Serving[0]
	if i.Tag != "" {
		return fmt.Sprintf("the injector of revision %s (tag %s)", i.Revision, i.Tag)
	}
	return "the injector of revision " + i.Revision
}

func (f facts) excluded() (string, bool) {
	if f.W != nil {
		if reason, ok := f.W.Annotations[SkipAnnotation]; ok {
			return skipReason(reason, "it"), true
		}
	} else if reason, ok := f.Pods.Annotations[SkipAnnotation]; ok {
		return skipReason(reason, "its pod"), true
	}
	if reason, ok := f.Namespace.Annotations[SkipAnnotation]; ok {
		return skipReason(reason, "its namespace"), true
	}
	return "", false
}

func skipReason(reason, who string) string {
	text := who + " has the annotation " + SkipAnnotation
	if reason != "" {
		return text + ": " + oneLine(reason)
	}
	return text
}

// autoImage in a template's istio-proxy means that the injector fills it in.
const autoImage = "auto"

// leftToInjector says whether an image in a template is "auto", also with the
// registry that istioctl puts before it.
func leftToInjector(image string) bool {
	return image == autoImage || strings.HasSuffix(image, "/"+autoImage)
}

// Manual says whether a pod template bears a sidecar that was injected by hand:
// kube-inject leaves its status there, the webhook only in pods.
func Manual(t *corev1.PodTemplateSpec) bool {
	_, ok := t.Annotations[annotation.SidecarStatus.Name]
	return ok
}

// templateProxy gives the proxy that the template itself holds, and whether it
// fixes an image: "auto" and no image leave it to the injector.
func templateProxy(t *corev1.PodTemplateSpec) (workload.Proxy, bool) {
	proxy, ok := workload.ProxyOf(t.Annotations, &t.Spec)
	return proxy, ok && proxy.Image != "" && proxy.Image != autoImage
}

// bearsSidecar says whether a template's istio-proxy is a whole sidecar, as
// injection makes it, rather than a user's wish about one: it has the arguments
// that start a proxy and the volume that injection brings.
func bearsSidecar(t *corev1.PodTemplateSpec) bool {
	volume := false
	for i := range t.Spec.Volumes {
		volume = volume || t.Spec.Volumes[i].Name == "istio-envoy"
	}
	for _, list := range [][]corev1.Container{t.Spec.Containers, t.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == workload.ProxyContainer && len(list[i].Args) > 1 && list[i].Args[0] == "proxy" {
				return volume
			}
		}
	}
	return false
}

// optedOut reads the label, then the annotation, that keep a pod from being
// injected (istio pkg/kube/inject/inject.go, injectRequired).
func optedOut(w *workload.Workload) bool {
	if v, ok := w.Template.Labels[label.SidecarInject.Name]; ok {
		return isFalse(v)
	}
	return isFalse(w.Template.Annotations[annotation.SidecarInject.Name])
}

func isFalse(v string) bool {
	switch strings.ToLower(v) {
	case "false", "n", "no", "off":
		return true
	}
	return false
}
