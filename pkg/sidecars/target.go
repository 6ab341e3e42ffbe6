package sidecars

import (
	"strings"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// target is what a restart is for, in words that stand in its stamp and can be
// compared: the proxy's image, and behind it the form and the containers that
// injection brings, where these are known.
type target string

// targetOf gives what a promise restarts for.
func targetOf(p workload.Promise) target {
	if p.Guessed || !p.Known {
		return target(p.Proxy.Image)
	}
	form := "sidecar"
	if p.Proxy.Native {
		form = "native sidecar"
	}
	if p.Proxy.Containers != "" {
		form += ": " + p.Proxy.Containers
	}
	return target(p.Proxy.Image + " (" + form + ")")
}

// image gives the target's image, all that stamps of old hold.
func (t target) image() string {
	image, _, _ := strings.Cut(string(t), " (")
	return image
}

// is says whether the target is just that of the promise. Of a guess only the
// image can be compared.
func (t target) is(p workload.Promise) bool {
	return t != "" && p.Known && (t == targetOf(p) || p.Guessed && t.image() == p.Proxy.Image)
}

// aims says whether the target may be that of the promise: a stamp that holds
// the image alone does not tell.
func (t target) aims(p workload.Promise) bool {
	return t.is(p) || p.Known && t != "" && string(t) == p.Proxy.Image
}

// stampTarget gives the target that a stamp names, "" where it is none.
func stampTarget(value string) target {
	_, rest, ok := strings.Cut(value, " to ")
	if !ok {
		return ""
	}
	to, _, _ := strings.Cut(rest, " by ")
	return target(to)
}

// kubectlRestart is what kubectl rollout restart writes into the pod template
// (kubectl pkg/polymorphichelpers/objectrestarter.go).
const kubectlRestart = "kubectl.kubernetes.io/restartedAt"

// lastTarget gives the target of the workload's last restart, where this tool
// made it; "" where it never did, or where kubectl restarted the workload since,
// as after a rollback of the control plane: its pods are not those of our
// restart any more.
func lastTarget(w *workload.Workload) target {
	value := w.Template.Annotations[RestartAnnotation]
	if stampTarget(value) == "" {
		value = w.Annotations[RestartAnnotation]
	}
	ours, _, _ := strings.Cut(value, " ")
	by := w.Template.Annotations[kubectlRestart]
	if at, err := time.Parse(time.RFC3339, ours); err == nil && by != "" {
		if since, err := time.Parse(time.RFC3339, by); err == nil && since.After(at) {
			return ""
		}
	}
	return stampTarget(value)
}
