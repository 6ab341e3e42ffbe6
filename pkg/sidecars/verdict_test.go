package sidecars

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"istio.io/api/annotation"
	"istio.io/api/label"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

const (
	oldProxy = "docker.io/istio/proxyv2:1.30.2"
	newProxy = "docker.io/istio/proxyv2:1.31.0"
)

// stale are the facts of a Deployment whose two pods run the old proxy, and
// whose injector gives the new one.
func stale() *facts {
	w := &workload.Workload{Ref: workload.Ref{Group: "apps", Kind: workload.Deployment, Namespace: "shop", Name: "web"}, Desired: 2}
	w.Annotations = map[string]string{}
	w.Template.Annotations, w.Template.Labels = map[string]string{}, map[string]string{}
	w.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "shop/web:1"}}
	return &facts{
		Ref: w.Ref, W: w, Serving: []mesh.Injector{{Revision: "default"}},
		Namespace: workload.Namespace{Labels: map[string]string{}, Annotations: map[string]string{}},
		Pods:      &workload.Pods{Total: 2, Ready: 2, Proxies: map[workload.Proxy]*workload.Sample{{Image: oldProxy}: {Count: 2}}},
		Answer:    answer{Outcome: answered, Told: true, HasProxy: true, Proxy: workload.Proxy{Image: newProxy}},
	}
}

func runs(images ...string) func(*facts) {
	return func(f *facts) {
		f.Pods.Proxies = map[workload.Proxy]*workload.Sample{}
		for _, image := range images {
			f.Pods.Proxies[workload.Proxy{Image: image}] = &workload.Sample{Count: 1}
		}
	}
}

func bare(f *facts)       { runs()(f); f.Pods.Bare.Count = 2 }
func noInjector(f *facts) { f.Serving, f.Answer = nil, answer{} }
func noProxyFrom(f *facts) {
	f.Answer = answer{Outcome: answered, Told: true}
}

// unread: no dry run was answered, and the user may read nothing of the injectors.
func unread(f *facts) {
	f.Answer = answer{Outcome: noRoom, Message: "exceeded quota: full"}
	f.Hidden, f.Unread = true, []string{"webhook configurations", "configmaps in istio-system"}
}
func skipped(f *facts)  { f.W.Annotations[SkipAnnotation] = "frozen\nfor the audit" }
func released(f *facts) { f.Release = "istio" }
func byHand(f *facts) {
	f.W.Template.Annotations[annotation.SidecarStatus.Name] = `{"containers":["istio-proxy"]}`
	explicitImage(f)
}

func explicitImage(f *facts) {
	f.W.Template.Spec.Containers = append(f.W.Template.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: oldProxy})
}

func wholeSidecar(f *facts) {
	explicitImage(f)
	f.W.Template.Spec.Containers[1].Args = []string{"proxy", "sidecar"}
	f.W.Template.Spec.Volumes = []corev1.Volume{{Name: "istio-envoy"}}
}

func annotatedImage(f *facts) {
	f.W.Template.Annotations[annotation.SidecarProxyImage.Name] = "mirror/proxyv2:1.30.2"
}

func kind(k string) func(*facts) {
	return func(f *facts) { f.Ref.Kind, f.W.Kind = k, k }
}

func TestJudge(t *testing.T) {
	autoImageInTemplate := func(f *facts) {
		f.W.Template.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Image: autoImage}}
	}
	for _, tc := range []struct {
		name  string
		facts []func(*facts)
		want  Verdict
		lags  bool
		words string
	}{
		{"no proxy, no injector", []func(*facts){bare, noInjector}, Outside, false, ""},
		{"no proxy, and the injector gives none", []func(*facts){bare, noProxyFrom}, Outside, false, ""},
		{"excluded by its own annotation", []func(*facts){skipped}, Excluded, true, SkipAnnotation + ": frozen for the audit"},
		{"excluded by its namespace", []func(*facts){func(f *facts) { f.Namespace.Annotations[SkipAnnotation] = "" }}, Excluded, true, "its namespace has the annotation"},
		{"excluded before all else", []func(*facts){skipped, byHand, released, annotatedImage}, Excluded, true, ""},
		{"excluded before loses", []func(*facts){skipped, noProxyFrom}, Excluded, false, ""},

		{"loses: the injector gives nothing", []func(*facts){noProxyFrom}, Loses, false, "injects nothing"},
		{"loses: nothing serves it", []func(*facts){noInjector}, Loses, false, "no webhook serves namespace shop"},
		{"loses: opted out since", []func(*facts){noProxyFrom, func(f *facts) { f.W.Template.Labels[label.SidecarInject.Name] = "false" }}, Loses, false, "opted out"},
		{"loses: on the host's network since", []func(*facts){noProxyFrom, func(f *facts) { f.W.Template.Spec.HostNetwork = true }}, Loses, false, "host's network"},
		{"loses: an unserved revision", []func(*facts){noInjector, func(f *facts) { f.Namespace.Labels[label.IoIstioRev.Name] = "canary" }}, Loses, false, "asks for revision canary"},
		{"loses: injection is disabled", []func(*facts){noInjector, func(f *facts) { f.Namespace.Labels["istio-injection"] = "disabled" }}, Loses, false, "istio-injection=disabled"},
		{"loses: the image would be the placeholder", []func(*facts){autoImageInTemplate, func(f *facts) { f.Answer.Proxy.Image = autoImage }}, Loses, true, ""},
		{"loses before pinned", []func(*facts){noProxyFrom, annotatedImage}, Loses, false, ""},

		{"Istio's own, from a release", []func(*facts){explicitImage, released}, Left, true, "Helm release istio: control-plane moves it"},

		{"by hand", []func(*facts){byHand, noInjector, func(f *facts) {
			f.Answer = answer{HasProxy: true, Guessed: true, Proxy: workload.Proxy{Image: newProxy}}
		}}, ByHand, true, "no webhook serves it"},
		{"by hand in a namespace that is ignored", []func(*facts){byHand, func(f *facts) { f.Ref.Namespace = "kube-system" }}, ByHand, true, ""},
		{"by hand before pinned", []func(*facts){byHand, noInjector, annotatedImage, func(f *facts) {
			f.Answer = answer{HasProxy: true, Guessed: true, Proxy: workload.Proxy{Image: newProxy}}
		}}, ByHand, true, ""},
		{"by hand, and a webhook serves it", []func(*facts){byHand}, Mixed, true, "revision default injects it again"},
		{"mixed and new", []func(*facts){byHand, runs(newProxy)}, Mixed, false, ""},

		{"frozen", []func(*facts){wholeSidecar}, Frozen, true, "without the injection's marks"},
		{"pinned by its template", []func(*facts){explicitImage}, Pinned, true, "its template fixes the image " + oldProxy},
		{"pinned by its annotation", []func(*facts){annotatedImage}, Pinned, true, "mirror/proxyv2:1.30.2"},
		{"an annotation that names no registry is the injector's to fill in", []func(*facts){func(f *facts) {
			f.W.Template.Annotations[annotation.SidecarProxyImage.Name] = "proxyv2"
		}}, Stale, true, ""},
		{"a gateway's placeholder is the injector's to fill in", []func(*facts){autoImageInTemplate}, Stale, true, ""},
		{"a CronJob", []func(*facts){kind(workload.CronJob)}, Left, true, "its next run starts with the new proxy"},
		{"pinned before left", []func(*facts){annotatedImage, kind(workload.CronJob)}, Pinned, true, ""},

		{"no answer, and nothing may be read", []func(*facts){noInjector, unread}, Left, false, "the dry run was not answered (exceeded quota: full), and not permitted to read webhook configurations and configmaps in istio-system"},
		{"no answer, and the injector's ConfigMap may not be read", []func(*facts){unread, func(f *facts) { f.Hidden = false }}, Left, false, "is not known"},
		{"nothing may be read, and it was opted out", []func(*facts){noInjector, unread, func(f *facts) { f.W.Template.Labels[label.SidecarInject.Name] = "false" }}, Loses, false, "opted out"},
		{"the webhooks may not be read, and the ConfigMap tells", []func(*facts){noInjector, unread, func(f *facts) {
			f.Answer.HasProxy, f.Answer.Guessed, f.Answer.Proxy.Image = true, true, newProxy
		}}, Stale, true, ""},
		{"the webhooks may not be read, and the answer is no proxy", []func(*facts){noInjector, unread, noProxyFrom}, Loses, false, ""},
		{"missing", []func(*facts){bare}, Missing, true, "should have a proxy and has none"},
		{"missing, as far as is known without an answer", []func(*facts){bare, func(f *facts) { f.Answer = answer{Outcome: unsupported} }}, Missing, true, ""},
		{"nothing runs", []func(*facts){func(f *facts) { f.Pods = nil }}, Outside, false, ""},
		{"stale", nil, Stale, true, ""},
		{"one old pod is enough", []func(*facts){runs(newProxy, oldProxy)}, Stale, true, ""},
		{"one pod without a proxy is enough", []func(*facts){runs(newProxy), func(f *facts) { f.Pods.Bare.Count = 1 }}, Stale, true, ""},
		{"the new image in another form", []func(*facts){runs(newProxy), func(f *facts) { f.Answer.Proxy.Native = true }}, Stale, true, ""},
		{"fresh", []func(*facts){runs(newProxy)}, Fresh, false, ""},
		{"the same image under another name", []func(*facts){func(f *facts) { f.Same = func(string, string) bool { return true } }}, Fresh, false, ""},
		{"a guess knows no form", []func(*facts){runs(newProxy), func(f *facts) {
			f.Answer.Outcome, f.Answer.Told, f.Answer.Guessed, f.Answer.Proxy.Native = unsupported, false, true, true
		}}, Fresh, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := stale()
			for _, change := range tc.facts {
				change(f)
			}
			got := judge(*f)
			if got.Verdict != tc.want || got.Lags != tc.lags || !strings.Contains(got.Reason, tc.words) {
				t.Errorf("%s, lags %v, %q; want %s, %v, %q", got.Verdict, got.Lags, got.Reason, tc.want, tc.lags, tc.words)
			}
			if strings.Contains(got.Reason, "\n") {
				t.Errorf("a reason is one line: %q", got.Reason)
			}
		})
	}
}

// TestJudgeOwnerless: pods that nothing of ours can move are named with what
// their owner can do.
func TestJudgeOwnerless(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ref    workload.Ref
		change func(*facts)
		want   Verdict
		words  string
	}{
		{"a bare pod", workload.Ref{Kind: workload.Pod}, nil, Left, "delete and create it yourself"},
		{"a mirror pod", workload.Ref{Kind: workload.Pod}, func(f *facts) { f.Pods.Mirror = true }, Left, "static manifest"},
		{"a node's", workload.Ref{Kind: workload.Node}, nil, Left, "static manifest"},
		{"a Job", workload.Ref{Group: "batch", Kind: workload.Job}, nil, Left, "runs to its end"},
		{"a run of a CronJob", workload.Ref{Group: "batch", Kind: workload.CronJob}, nil, Left, "the next run"},
		{"an operator that is known", workload.Ref{Group: "postgresql.cnpg.io", Kind: "Cluster", Namespace: "data", Name: "db"}, nil, Left, "a Cluster of postgresql.cnpg.io; CloudNativePG restarts it: kubectl cnpg restart db -n data"},
		{"an operator that is not known", workload.Ref{Group: "example.com", Kind: "Shop"}, nil, Left, "a Shop of example.com, which only its own operator"},
		{"excluded", workload.Ref{Kind: workload.Pod}, func(f *facts) { f.Pods.Annotations = map[string]string{SkipAnnotation: "mine"} }, Excluded, "its pod has the annotation"},
		{"without a proxy", workload.Ref{Kind: workload.Pod}, bare, Outside, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := stale()
			f.Ref, f.W, f.Answer = tc.ref, nil, answer{}
			if tc.change != nil {
				tc.change(f)
			}
			if got := judge(*f); got.Verdict != tc.want || !strings.Contains(got.Reason, tc.words) {
				t.Errorf("%s, %q; want %s, %q", got.Verdict, got.Reason, tc.want, tc.words)
			}
		})
	}
}
