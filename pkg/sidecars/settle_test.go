package sidecars

import (
	"fmt"
	"strings"
	"testing"

	"istio.io/api/annotation"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/rollout"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// TestSettleAgain: what this tool has restarted for the same target before is
// followed while that rollout lasts, and not begun again once it is over.
func TestSettleAgain(t *testing.T) {
	surging := func(f *facts) { // its new pod starts, and its old one still serves
		f.W.Desired, f.W.Strategy = 1, workload.Strategy{Type: workload.RollingUpdate, MaxSurge: 1}
		f.W.Status = workload.Status{Replicas: 2, Updated: 1, Ready: 1, Available: 1, Unfinished: true}
	}
	over := func(f *facts) {
		f.W.Status = workload.Status{Replicas: 2, Updated: 2, Ready: 2, Available: 2}
	}
	for _, tc := range []struct {
		name    string
		facts   []func(*facts)
		options Options
		how     How
		resume  bool
		words   string
	}{
		{name: "a surge of one", facts: []func(*facts){surging}, how: Restart, resume: true, words: "the run goes on with it"},
		{name: "not seen by its controller", facts: []func(*facts){over, func(f *facts) { f.W.Generation = 2 }}, how: Restart, resume: true},
		{name: "a StatefulSet whose pod ends", facts: []func(*facts){kind(workload.StatefulSet), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 0, Ready: 2, Available: 2}
		}}, how: Restart, resume: true},
		{name: "a StatefulSet that waits for minReadySeconds", facts: []func(*facts){kind(workload.StatefulSet), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 1, Ready: 2, Available: 1}
		}}, how: Restart, resume: true},
		{name: "a DaemonSet", facts: []func(*facts){kind(workload.DaemonSet), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 1, Ready: 2, Available: 2}
		}}, how: Restart, resume: true},
		{name: "over, and one pod is not ready", facts: []func(*facts){over, func(f *facts) { f.W.Status.Ready = 1 }}, how: Restart, resume: true},
		{name: "over", facts: []func(*facts){over}, how: Nothing, words: "did not converge; --force"},
		{name: "over, and forced", facts: []func(*facts){over}, options: Options{Force: true}, how: Restart},
		{name: "over, and of another form since", facts: []func(*facts){over, func(f *facts) { f.Answer.Proxy.Native = true }}, how: Restart},
		{name: "over, by a stamp of old", facts: []func(*facts){over, func(f *facts) {
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, newProxy, "")
		}}, how: Restart},
		{name: "under way for another target", facts: []func(*facts){surging, func(f *facts) {
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, targetOf(promised(oldProxy)), "")
		}}, how: Restart, words: "in the middle of a rollout now"},
		{name: "all its pods are new, and not ready", facts: []func(*facts){runs(newProxy), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2, Unfinished: true}
		}}, how: Watch, resume: true},
		{name: "it has no pod at this moment", facts: []func(*facts){func(f *facts) { f.Pods = nil }}, how: Watch, resume: true},
		{name: "all its pods were new, and one has failed since", facts: []func(*facts){runs(newProxy), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2, Ready: 1, Available: 1}
		}}, how: Nothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := stale()
			f.W.Strategy = workload.Strategy{Type: workload.RollingUpdate, MaxSurge: 1}
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, targetOf(promised(newProxy)), "ann")
			for _, change := range tc.facts {
				change(f)
			}
			tc.options.Rollout.Wait = true
			s := &subject{facts: *f, item: Item{Ref: f.Ref, How: Nothing}}
			s.settle(&tc.options)
			if s.item.How != tc.how || s.item.resume != tc.resume || !strings.Contains(s.item.Reason+s.item.Held, tc.words) {
				t.Errorf("%s, resume %v, %q, %q; want %s, %v, %q", s.item.How, s.item.resume, s.item.Reason, s.item.Held, tc.how, tc.resume, tc.words)
			}
		})
	}
}

// TestSettleAnew: a rollout that hangs on a sidecar which nobody is to get any more
// does not wait for its end, nor does one of ours for another target that hangs.
func TestSettleAnew(t *testing.T) {
	halfway := func(f *facts) {
		f.W.Status = workload.Status{Replicas: 3, Updated: 1, Ready: 2, Available: 2, Unfinished: true}
	}
	hangs := func(image string) func(*facts) {
		return func(f *facts) {
			f.Pods.Proxies[workload.Proxy{Image: image}] = &workload.Sample{Count: 1, Trouble: "ImagePullBackOff of container istio-proxy"}
		}
	}
	ours := func(image string) func(*facts) {
		return func(f *facts) {
			f.W.Template.Annotations[RestartAnnotation] = stamp(stampedAt, targetOf(promised(image)), "ann")
		}
	}
	for _, tc := range []struct {
		name  string
		facts []func(*facts)
		anew  bool
		words string
	}{
		{"at rest", nil, false, ""},
		{"somebody's, under way", []func(*facts){halfway}, false, "in the middle of a rollout now"},
		{"somebody's, and its sidecar does not come up", []func(*facts){halfway, hangs("hub/proxyv2:bad")}, true, "hangs on the sidecar that it brings, and is begun anew: ImagePullBackOff"},
		{"and new pods would get just that sidecar", []func(*facts){halfway, hangs(newProxy)}, false, "in the middle of a rollout now"},
		{"ours, for another target", []func(*facts){halfway, ours("hub/proxyv2:bad")}, true, "in the middle of a rollout now"},
		{"ours, for this one", []func(*facts){halfway, ours(newProxy)}, false, "the run goes on with it"},
		{"settled, and an application's pod crashes since", []func(*facts){ours("hub/proxyv2:former"), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2, Ready: 1, Available: 1}
		}}, false, "unhealthy now"},
		{"settled, and a proxy of old does", []func(*facts){hangs(oldProxy), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2, Ready: 1, Available: 1}
		}}, false, "unhealthy now"},
		{"settled, and not one sidecar comes up", []func(*facts){hangs("hub/proxyv2:bad"), func(f *facts) {
			f.W.Status = workload.Status{Replicas: 2, Updated: 2}
		}}, true, "is begun anew"},
		{"paused", []func(*facts){halfway, hangs("hub/proxyv2:bad"), func(f *facts) { f.W.Paused = true }}, false, "paused now"},
	} {
		f := stale()
		for _, change := range tc.facts {
			change(f)
		}
		s := &subject{facts: *f}
		s.settle(&Options{Rollout: rollout.Options{Wait: true}})
		if s.item.How != Restart || s.item.anew != tc.anew || !strings.Contains(s.item.Reason, tc.words) {
			t.Errorf("%s: %s, anew %v, %q", tc.name, s.item.How, s.item.anew, s.item.Reason)
		}
		if s.settle(&Options{}); s.item.anew {
			t.Errorf("%s: begun anew where nobody watches", tc.name)
		}
	}
}

// What the injector's values do not say of a guessed image may be either.
func TestGuessOfAnyVariant(t *testing.T) {
	const hub = "docker.io/istio"
	for _, tc := range []struct {
		name, runs, variant, kind string
		lags                      bool
	}{
		{"the plain one", hub + "/proxyv2:1.31.0", "", "", false},
		{"by the mesh configuration, which is not read", hub + "/proxyv2:1.31.0-distroless", "", "", false},
		{"the same, of the former version", hub + "/proxyv2:1.30.2-distroless", "", "", true},
		{"another registry's", "mirror/istio/proxyv2:1.31.0-distroless", "", "", true},
		{"the values say another", hub + "/proxyv2:1.31.0-debug", "distroless", "", true},
		{"the values say it", hub + "/proxyv2:1.31.0-distroless", "distroless", "", false},
		{"an annotation says another", hub + "/proxyv2:1.31.0-distroless", "", "default", true},
	} {
		f := stale()
		runs(tc.runs)(f)
		f.W.Labels = map[string]string{"gateway.istio.io/managed": "istio.io-gateway-controller"}
		f.Answer = answer{}
		if tc.kind != "" {
			f.W.Template.Annotations[annotation.SidecarProxyImageType.Name] = tc.kind
		}
		s := &subject{facts: *f}
		s.guess(map[string]mesh.Injection{"default": {Hub: hub, Image: "proxyv2", Tag: "1.31.0", Variant: tc.variant}}, "default")
		if got := s.lags(); got != tc.lags {
			t.Errorf("%s: lags %v, promised %s", tc.name, got, s.Answer.Proxy.Image)
		}
	}
}

// What one pod gives back to a quota is room for another, together with what is left.
func TestGivenBack(t *testing.T) {
	of := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{"requests.cpu": resource.MustParse(cpu), "requests.memory": resource.MustParse(memory)}
	}
	quota := func(hard, used corev1.ResourceList) []corev1.ResourceQuota {
		return []corev1.ResourceQuota{{Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used}}}
	}
	cpu := func(q string) corev1.ResourceList { return corev1.ResourceList{"requests.cpu": resource.MustParse(q)} }
	for _, tc := range []struct {
		name      string
		quotas    []corev1.ResourceQuota
		pod, need corev1.ResourceList
		want      int32
	}{
		{"as large", quota(cpu("2"), cpu("2")), of("1", "1Gi"), of("1", "1Gi"), 1},
		{"too small", quota(cpu("2"), cpu("2")), of("500m", "1Gi"), of("1", "1Gi"), 0},
		{"with what is left", quota(cpu("2"), cpu("1600m")), of("500m", "1Gi"), of("800m", "1Gi"), 1},
		{"of memory nothing counts", quota(cpu("2"), cpu("2")), of("1", "1Mi"), of("1", "1Gi"), 1},
		{"no quota", nil, of("1", "1Gi"), of("1", "1Gi"), noLimit},
	} {
		before := fmt.Sprint(tc.quotas)
		if got := roomFor(tc.need, givenBack(tc.quotas, tc.pod)); got != tc.want {
			t.Errorf("%s: room for %d, want %d", tc.name, got, tc.want)
		}
		if fmt.Sprint(tc.quotas) != before {
			t.Errorf("%s: the quota itself was changed", tc.name)
		}
	}
	if covers(of("2", "512Mi"), of("1", "1Gi")) || !covers(of("2", "1Gi"), of("1", "1Gi")) {
		t.Error("one pod covers another where it needs as much of everything")
	}
}
