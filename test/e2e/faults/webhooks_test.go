package faults

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

// Webhooks that are down, slow, or break the new pod.
var webhookFaults = []fault{
	{name: "webhook that refuses", objects: web("a"), test: webhookRefuses},
	{name: "webhook that refuses, not for dry runs", objects: web("a", "b"), test: webhookRefusesLater},
	{name: "webhook that breaks the sidecar", objects: web("a"), test: webhookBreaks},
	{name: "webhook that is slow", objects: web("a", "b"), test: webhookSlow},
	{name: "webhook that times out", objects: web("a"), test: webhookTimesOut},
	{name: "injector down before", objects: web("a"), alone: true, test: injectorDownBefore},
	{name: "injector down meanwhile", objects: web("a", "b", "c"), alone: true, test: injectorDownMeanwhile},
	{name: "injector down for a moment", objects: web("a", "b", "c"), alone: true, test: injectorDownForAMoment},
	{name: "injector down at the end", alone: true, test: injectorDownAtTheEnd, objects: []manifest{
		{Kind: "Deployment", Name: "a", Replicas: 2, Spec: "strategy: {rollingUpdate: {maxSurge: 2, maxUnavailable: 0}}"},
	}},
}

// webhook is another mutating webhook for the case's pods.
type webhook struct {
	decide atomic.Pointer[func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse]
	delay  atomic.Int64
	calls  atomic.Int64
}

func admit(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

func refuse(message string) func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: message}}
	}
}

// mutating registers a webhook, which answers until the case is over.
func (s *scene) mutating(timeout int32, decide func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) *webhook {
	s.T.Helper()
	h := &webhook{}
	h.decide.Store(&decide)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		h.calls.Add(1)
		select {
		case <-time.After(time.Duration(h.delay.Load())):
		case <-r.Context().Done():
		}
		review.Response = (*h.decide.Load())(review.Request)
		review.Response.UID = review.Request.UID
		_ = json.NewEncoder(w).Encode(review)
	}))
	s.T.Cleanup(server.Close)
	fail, never := admissionregistrationv1.Fail, admissionregistrationv1.NeverReinvocationPolicy
	effects := admissionregistrationv1.SideEffectClassNoneOnDryRun
	configurations := s.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err := configurations.Create(s.T.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "zz-" + s.ns}, // the last in their order
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "policy.example.com", SideEffects: &effects, TimeoutSeconds: &timeout, FailurePolicy: &fail,
			ReinvocationPolicy: &never, AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.ns}},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL:      &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}, metav1.CreateOptions{})
	s.Check(err)
	s.T.Cleanup(func() { s.cleanKubectl("delete", "mutatingwebhookconfiguration", "zz-"+s.ns) })
	// The API server takes it up within a second.
	s.Eventually("the webhook of "+s.ns, func() string {
		_, _ = s.Kubectl(s.T.Context(), nil, "-n", s.ns, "run", "probe", "--image=example.com/probe:1", "--dry-run=server")
		if h.calls.Load() == 0 {
			return "it was not asked"
		}
		return ""
	})
	return h
}

// webhookRefuses: the dry run tells before anything is sent.
func webhookRefuses(s *scene) {
	h := s.mutating(10, refuse("images of proxies must be signed"))
	s.fails(0, s.sidecars(), "images of proxies must be signed", "Nothing to move")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	pass := admit
	h.set(pass)
	s.finishes(s.sidecars())
}

// webhookRefusesLater: a dry run passes it, so that the first workload tells.
func webhookRefusesLater(s *scene) {
	h := s.mutating(10, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if r.DryRun != nil && *r.DryRun {
			return admit(r)
		}
		return refuse("images of proxies must be signed")(r)
	})
	run := s.sidecars("--canary", "1")
	s.fails(3, run, "images of proxies must be signed", "1 not started")
	s.watch.Never(s.World, 2)
	h.set(admit)
	s.finishes(run)
}

// webhookBreaks: another webhook makes the injected pod invalid.
func webhookBreaks(s *scene) {
	h := s.mutating(10, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &kind, Patch: []byte(`[{"op":"remove","path":"/spec/volumes"}]`)}
	})
	s.fails(0, s.sidecars(), "volumeMounts", "Nothing to move")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	h.set(admit)
	s.finishes(s.sidecars())
}

func webhookSlow(s *scene) {
	h := s.mutating(10, admit)
	h.delay.Store(int64(3 * time.Second))
	o := s.finishes(s.sidecars())
	if o.Took > time.Minute {
		s.T.Errorf("it took %s", o.Took)
	}
}

func webhookTimesOut(s *scene) {
	h := s.mutating(1, admit)
	h.delay.Store(int64(5 * time.Second))
	s.fails(0, s.sidecars(), "policy.example.com", "Nothing to move")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	h.delay.Store(0)
	s.RunKubectl("patch", "mutatingwebhookconfiguration", "zz-"+s.ns, "--type=json", "-p", `[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":10}]`)
	s.finishes(s.sidecars())
}

func (h *webhook) set(decide func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) {
	h.decide.Store(&decide)
}

func injectorDownBefore(s *scene) {
	s.Check(s.StopIstiod(""))
	s.fails(3, s.sidecars(), "it does not answer", "bring istiod back")
	s.WantProxies(s.ns, "a", map[string]int{older: 2})
	s.Check(s.StartIstiod(s.T.Context(), ""))
	s.finishes(s.sidecars())
}

// injectorDownMeanwhile: it goes after the plan was made, and stays away.
func injectorDownMeanwhile(s *scene) {
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	s.Check(s.StopIstiod(""))
	release()
	p.must(3, "failed calling webhook", "2 not started")
	s.watch.Never(s.World, 1)
	s.Check(s.StartIstiod(s.T.Context(), ""))
	s.finishes(run)
}

// injectorDownForAMoment: as when its own pods are being replaced; it is waited
// out.
func injectorDownForAMoment(s *scene) {
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars("--max-parallel", "1")
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 1 of 2 new")
	back := s.injectorElsewhere()
	release()
	s.Eventually("a pod that cannot be created", func() string {
		events := s.RunKubectl("-n", s.ns, "get", "events", "--field-selector", "reason=FailedCreate", "-o", "name")
		if events == "" {
			return "no event tells of it"
		}
		return ""
	})
	back()
	p.must(0, "failed calling webhook", "✓ deployment/a in "+s.ns)
	s.finishes(run)
}

// injectorElsewhere has the API server look for the injector where nobody
// listens, until back is called: quicker than a process stops and starts.
func (s *scene) injectorElsewhere() (back func()) {
	s.T.Helper()
	set := func(change func(url string) string) {
		configurations := s.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
		all, err := configurations.List(s.T.Context(), metav1.ListOptions{LabelSelector: "app=sidecar-injector"})
		s.Check(err)
		if len(all.Items) == 0 {
			s.T.Fatal("no webhook injects")
		}
		for i := range all.Items {
			name := all.Items[i].Name
			s.Check(retry.RetryOnConflict(retry.DefaultRetry, func() error { // istiod writes it too
				c, err := configurations.Get(s.T.Context(), name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				for j := range c.Webhooks {
					url := change(*c.Webhooks[j].ClientConfig.URL)
					c.Webhooks[j].ClientConfig.URL = &url
				}
				_, err = configurations.Update(s.T.Context(), c, metav1.UpdateOptions{})
				return err
			}))
		}
	}
	was := ""
	set(func(url string) string { was = url; return "https://localhost:1/inject" })
	return func() { s.T.Helper(); set(func(string) string { return was }) }
}

// injectorDownAtTheEnd: the last pods are made when it goes. They come up, and
// the run ends well.
func injectorDownAtTheEnd(s *scene) {
	release := s.failing(lab.FailNeverReady)
	run := s.sidecars()
	p := start(s.World, run...)
	p.until("deployment/a in " + s.ns + ": 2 of 2 new")
	s.Check(s.StopIstiod(""))
	release()
	p.must(0, "✓ deployment/a in "+s.ns)
	s.Check(s.StartIstiod(s.T.Context(), ""))
	s.finishes(run)
}

// cleanKubectl is for what is done after a test.
func (s *scene) cleanKubectl(args ...string) {
	ctx, cancel := cleanupContext()
	defer cancel()
	if _, err := s.Kubectl(ctx, nil, args...); err != nil {
		s.T.Error(fmt.Errorf("clean up: %w", err))
	}
}
