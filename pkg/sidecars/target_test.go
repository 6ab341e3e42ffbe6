package sidecars

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

var stampedAt = time.Date(2026, 3, 1, 13, 0, 0, 7, time.FixedZone("", 3600))

func promised(image string) workload.Promise {
	return workload.Promise{Known: true, Proxy: workload.Proxy{Image: image}}
}

func TestStamp(t *testing.T) {
	native := promised(newProxy)
	native.Proxy.Native, native.Proxy.Containers = true, "istio-init,istio-proxy"
	if d := cmp.Diff("2026-03-01T12:00:00.000000007Z to "+newProxy+" (native sidecar: istio-init,istio-proxy) by ann",
		stamp(stampedAt, targetOf(native), "ann")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for value, want := range map[string]target{
		stamp(stampedAt, targetOf(native), "ann"):          targetOf(native),
		stamp(stampedAt, newProxy, "ann"):                  newProxy,
		stamp(stampedAt, newProxy, ""):                     newProxy,
		stamp(stampedAt, newProxy, "ann by way of to bob"): newProxy,
		"2026-03-01T12:00:00Z":                             "", // kubectl's own
		"":                                                 "",
	} {
		if got := stampTarget(value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// TestTarget: a restart was for a promise where image, form and containers are
// the same, as far as both say.
func TestTarget(t *testing.T) {
	plain, native, other := promised(newProxy), promised(newProxy), promised(oldProxy)
	native.Proxy.Native = true
	more, guess := promised(newProxy), promised(newProxy)
	more.Proxy.Containers, guess.Guessed = "istio-proxy,istio-validation", true
	for _, tc := range []struct {
		name     string
		last     target
		promise  workload.Promise
		is, aims bool
	}{
		{"the same", targetOf(plain), plain, true, true},
		{"another image", targetOf(other), plain, false, false},
		{"since native", targetOf(plain), native, false, false},
		{"since classic", targetOf(native), plain, false, false},
		{"the same and native", targetOf(native), native, true, true},
		{"other containers since", targetOf(plain), more, false, false},
		{"the same containers", targetOf(more), more, true, true},
		{"a guess knows the image", targetOf(native), guess, true, true},
		{"was a guess and is one", targetOf(guess), guess, true, true},
		{"was a guess, or a stamp of old", newProxy, native, false, true},
		{"a guess of another image", targetOf(other), guess, false, false},
		{"none", "", plain, false, false},
		{"none, and nothing is promised", "", workload.Promise{}, false, false},
	} {
		if is, aims := tc.last.is(tc.promise), tc.last.aims(tc.promise); is != tc.is || aims != tc.aims {
			t.Errorf("%s: %q is %v and aims %v, want %v and %v", tc.name, tc.last, is, aims, tc.is, tc.aims)
		}
	}
}

func TestLastTarget(t *testing.T) {
	w := &workload.Workload{Annotations: map[string]string{RestartAnnotation: stamp(stampedAt, oldProxy, "")}}
	if got := lastTarget(w); got != oldProxy {
		t.Errorf("by grace period: %q", got)
	}
	w.Template.Annotations = map[string]string{RestartAnnotation: stamp(stampedAt, newProxy, "")}
	if got := lastTarget(w); got != newProxy {
		t.Errorf("by annotation: %q", got)
	}
	// After a rollback of the control plane somebody restarts the workload with
	// kubectl: what runs then did not come of our restart.
	w.Template.Annotations[kubectlRestart] = stampedAt.Add(-time.Hour).Format(time.RFC3339)
	if got := lastTarget(w); got != newProxy {
		t.Errorf("restarted by kubectl before: %q", got)
	}
	w.Template.Annotations[kubectlRestart] = stampedAt.Add(time.Hour).Format(time.RFC3339)
	if got := lastTarget(w); got != "" {
		t.Errorf("restarted by kubectl since: %q", got)
	}
}
