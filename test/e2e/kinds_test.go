package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// definition is a CRD that takes any spec and status.
func definition(group, version, kind, plural string) string {
	return fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[4]s.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {kind: %[3]s, plural: %[4]s, singular: %[5]s}
  versions:
  - name: %[2]s
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}`,
		group, version, kind, plural, strings.ToLower(kind))
}

var (
	rollouts = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts"}
	configs  = schema.GroupVersionResource{Group: "apps.openshift.io", Version: "v1", Resource: "deploymentconfigs"}
)

// controller plays a controller that is not in the lab: it looks at its objects
// every 100 ms until the test ends.
type controller struct {
	w       *world
	dynamic dynamic.Interface
}

func (w *world) play(resource schema.GroupVersionResource, namespace string, reconcile func(context.Context, controller, *unstructured.Unstructured) error) {
	w.T.Helper()
	client, err := dynamic.NewForConfig(w.Config())
	w.Check(err)
	ctx, cancel := context.WithCancel(w.T.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			list, err := client.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			for i := range list.Items {
				// What does not succeed, as on a conflict, is tried at the next look.
				_ = reconcile(ctx, controller{w, client}, &list.Items[i])
			}
		}
	}()
	w.T.Cleanup(func() { cancel(); <-done })
}

func (c controller) create(ctx context.Context, resource schema.GroupVersionResource, object map[string]any) error {
	u := &unstructured.Unstructured{Object: object}
	_, err := c.dynamic.Resource(resource).Namespace(u.GetNamespace()).Create(ctx, u, metav1.CreateOptions{})
	return err
}

func (c controller) pods(ctx context.Context, o *unstructured.Unstructured, label string) ([]corev1.Pod, error) {
	list, err := c.w.Client().CoreV1().Pods(o.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: label})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }), nil
}

func (c controller) status(ctx context.Context, resource schema.GroupVersionResource, o *unstructured.Unstructured, status map[string]any) error {
	o.Object["status"] = status
	_, err := c.dynamic.Resource(resource).Namespace(o.GetNamespace()).UpdateStatus(ctx, o, metav1.UpdateOptions{})
	return err
}

func owner(o *unstructured.Unstructured) []any {
	return []any{map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "name": o.GetName(), "uid": string(o.GetUID()), "controller": true}}
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func readyOf(pods []corev1.Pod) int64 {
	n := int64(0)
	for i := range pods {
		if podReady(&pods[i]) {
			n++
		}
	}
	return n
}

// argo plays the part of the Argo Rollouts controller that a restart needs: one
// ReplicaSet, from which it evicts the pods older than spec.restartAt one at a
// time, when all are ready (argo-rollouts rollout/restart.go).
func argo(ctx context.Context, c controller, o *unstructured.Unstructured) error {
	const hash = "rollouts-pod-template-hash"
	replicas, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	template, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
	_ = unstructured.SetNestedField(template, "6b5d7c", "metadata", "labels", hash)
	sets := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	_ = c.create(ctx, sets, map[string]any{
		"apiVersion": "apps/v1", "kind": "ReplicaSet",
		"metadata": map[string]any{"name": o.GetName() + "-6b5d7c", "namespace": o.GetNamespace(), "ownerReferences": owner(o)},
		"spec": map[string]any{
			"replicas": replicas, "template": template,
			"selector": map[string]any{"matchLabels": map[string]any{"app": o.GetName(), hash: "6b5d7c"}},
		},
	}) // it is there from the second look on
	pods, err := c.pods(ctx, o, hash+"=6b5d7c,app="+o.GetName())
	if err != nil {
		return err
	}
	ready := readyOf(pods)
	status := map[string]any{
		"observedGeneration": fmt.Sprint(o.GetGeneration()), "phase": "Healthy",
		"replicas": int64(len(pods)), "updatedReplicas": int64(len(pods)), "readyReplicas": ready, "availableReplicas": ready,
	}
	if ready < replicas {
		status["phase"] = "Progressing"
	}
	if at, _, _ := unstructured.NestedString(o.Object, "spec", "restartAt"); at != "" {
		restartAt, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return err
		}
		left := 0
		for i := range pods {
			if !pods[i].CreationTimestamp.Time.Before(restartAt) {
				continue
			}
			if left++; left == 1 && ready >= replicas && time.Now().After(restartAt) {
				_ = c.w.Client().PolicyV1().Evictions(o.GetNamespace()).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pods[i].Name, Namespace: o.GetNamespace()}})
			}
		}
		if before, _, _ := unstructured.NestedString(o.Object, "status", "restartedAt"); before != "" {
			status["restartedAt"] = before
		}
		if left == 0 {
			status["restartedAt"] = at
		}
	}
	return c.status(ctx, rollouts, o, status)
}

func rolloutManifest(name, ns string, replicas int) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {canary: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: app, image: 'example.com/app:1', readinessProbe: {httpGet: {port: 8080, path: /}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec: {selector: {app: %[1]s}, ports: [{port: 80}]}`, name, ns, replicas)
}

// Argo Rollouts are restarted by spec.restartAt: no new revision, one pod after
// the other; one with a single pod is an outage, since there is no surge. Their
// controller is played by the test.
func TestKindsRollout(t *testing.T) {
	w := sharedCluster(t)
	ns := "kinds-rollout"
	w.InjectedNamespace(ns)
	w.Apply(definition("argoproj.io", "v1alpha1", "Rollout", "rollouts"))
	w.AwaitEstablished()
	w.Apply(rolloutManifest("web", ns, 2), rolloutManifest("single", ns, 1))
	w.play(rollouts, ns, argo)
	w.AwaitReady(ns, 3)
	w.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web")
	get := func(path string) string {
		return w.RunKubectl("-n", ns, "get", "rollout", "web", "-o", "jsonpath="+path)
	}
	template := get("{.spec.template}")

	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)

	if item := r.Find(t, "Rollout", "web"); item.Verdict != "stale" || item.How != "restart" || item.Impact != "none" {
		t.Errorf("web: %+v", item)
	}
	if item := r.Find(t, "Rollout", "single"); item.How != "none" || item.Impact != "outage" || !strings.Contains(item.Held, "evicts") {
		t.Errorf("single: %+v", item)
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	w.WantProxies(ns, "single", map[string]int{older: 1})
	endpoints.Never(w.World, 1)
	if now := get("{.spec.template}"); now != template {
		t.Errorf("the template was changed, which makes a new revision:\nbefore %s\nafter  %s", template, now)
	}
	if get("{.spec.restartAt}") == "" || !strings.Contains(get("{.metadata.annotations}"), "istio-upgrade/restarted") {
		t.Errorf("neither restartAt nor the stamp stands there: %s", get("{}"))
	}

	w.Must(0, "sidecars", "rollout/single", "-n", ns, "--yes", "--allow-downtime")
	w.WantProxies(ns, "single", map[string]int{newer: 1})
	before := w.Writes()
	w.Must(0, "sidecars", "-n", ns, "--yes")
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("a run with nothing to do wrote: %v", after[len(before):])
	}
}

// openshift plays the controller of DeploymentConfigs: a new ReplicationController
// for every change of the configuration, which takes over when its pods are ready.
func openshift(ctx context.Context, c controller, o *unstructured.Unstructured) error {
	controllers := schema.GroupVersionResource{Version: "v1", Resource: "replicationcontrollers"}
	replicas, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	latest, _, _ := unstructured.NestedInt64(o.Object, "status", "latestVersion")
	observed, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
	if observed < o.GetGeneration() {
		latest++
		name := fmt.Sprintf("%s-%d", o.GetName(), latest)
		template, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
		for k, v := range map[string]string{"deployment": name, "deploymentconfig": o.GetName()} {
			_ = unstructured.SetNestedField(template, v, "metadata", "labels", k)
		}
		if err := c.create(ctx, controllers, map[string]any{
			"apiVersion": "v1", "kind": "ReplicationController",
			"metadata": map[string]any{"name": name, "namespace": o.GetNamespace(), "ownerReferences": owner(o)},
			"spec":     map[string]any{"replicas": replicas, "template": template, "selector": map[string]any{"app": o.GetName(), "deployment": name}},
		}); err != nil {
			return err
		}
	}
	all, err := c.pods(ctx, o, "app="+o.GetName())
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d", o.GetName(), latest)
	updated := slices.DeleteFunc(slices.Clone(all), func(p corev1.Pod) bool { return p.Labels["deployment"] != name })
	if readyOf(updated) >= replicas && latest > 1 {
		before := fmt.Sprintf("%s-%d", o.GetName(), latest-1)
		_, _ = c.dynamic.Resource(controllers).Namespace(o.GetNamespace()).Patch(ctx, before, types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{})
	}
	return c.status(ctx, configs, o, map[string]any{
		"latestVersion": latest, "observedGeneration": o.GetGeneration(), "replicas": int64(len(all)),
		"updatedReplicas": int64(len(updated)), "readyReplicas": readyOf(all), "availableReplicas": readyOf(all),
	})
}

// DeploymentConfigs move by their template; one that no change triggers is named
// with the command that does. Their controller is played by the test.
func TestKindsDeploymentConfig(t *testing.T) {
	w := sharedCluster(t)
	ns := "kinds-config"
	w.InjectedNamespace(ns)
	w.Apply(definition("apps.openshift.io", "v1", "DeploymentConfig", "deploymentconfigs"))
	w.AwaitEstablished()
	config := func(name, more string) string {
		return fmt.Sprintf(`apiVersion: apps.openshift.io/v1
kind: DeploymentConfig
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: 2
  selector: {app: %[1]s}
  strategy: {type: Rolling}%[3]s
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: app, image: 'example.com/app:1', readinessProbe: {httpGet: {port: 8080, path: /}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[2]s}
spec: {selector: {app: %[1]s}, ports: [{port: 80}]}`, name, ns, more)
	}
	w.Apply(config("web", ""), config("manual", "\n  triggers: []"))
	w.play(configs, ns, openshift)
	w.AwaitReady(ns, 4)
	w.Inject(newer)
	endpoints := w.WatchEndpoints(ns, "web")

	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)

	if item := r.Find(t, "DeploymentConfig", "web"); item.How != "restart" || item.Impact != "none" {
		t.Errorf("web: %+v", item)
	}
	if item := r.Find(t, "DeploymentConfig", "manual"); item.How != "none" || !strings.Contains(item.Held, "oc rollout latest dc/manual") {
		t.Errorf("manual: %+v", item)
	}
	w.WantProxies(ns, "web", map[string]int{newer: 2})
	w.WantProxies(ns, "manual", map[string]int{older: 2})
	endpoints.Never(w.World, 2)
}

// Owners that are operators' custom resources are named with what their operator
// offers, and never touched; kinds of other groups are not taken for Kubernetes'
// own of the same name.
func TestKindsOfOperators(t *testing.T) {
	w := sharedCluster(t)
	ns := "kinds-operators"
	w.InjectedNamespace(ns)
	owned := func(name, apiVersion, kind string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s-0
  namespace: %s
  ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: 11111111-2222-4333-8444-555555555555, controller: true}]
spec: {containers: [{name: app, image: 'example.com/app:1'}]}`, name, ns, apiVersion, kind, name)
	}
	client := w.Client().CoreV1().Pods(ns)
	w.Apply(owned("db", "postgresql.cnpg.io/v1", "Cluster"), owned("kafka", "core.strimzi.io/v1beta2", "StrimziPodSet"),
		owned("build", "tekton.dev/v1", "TaskRun"), owned("vm", "kubevirt.io/v1", "VirtualMachineInstance"), owned("web", "apps.kruise.io/v1beta1", "StatefulSet"))
	made, err := client.List(t.Context(), metav1.ListOptions{})
	w.Check(err)
	if len(made.Items) != 5 {
		t.Fatalf("%d pods", len(made.Items))
	}
	w.Inject(newer)
	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)
	for _, want := range []struct{ kind, name, says string }{
		{"Cluster", "db", "kubectl cnpg restart db -n " + ns},
		{"StrimziPodSet", "kafka", "strimzi.io/manual-rolling-update=true"},
		{"TaskRun", "build", "runs to its end"},
		{"VirtualMachineInstance", "vm", "virtctl"},
		{"StatefulSet", "web", "kubectl kruise rollout restart statefulset/web -n " + ns},
	} {
		if item := r.Find(t, want.kind, want.name); item.Verdict != "left" || item.How != "none" || !strings.Contains(item.Reason, want.says) {
			t.Errorf("%s %s: want it left and %q said, have %+v", want.kind, want.name, want.says, item)
		}
	}
	o := w.Must(0, "sidecars", "statefulset.apps.kruise.io/web", "-n", ns, "--yes", "-o", "json").JSON(t)
	if len(o.Plan.Workloads) != 1 {
		t.Errorf("one was named: %+v", o.Plan.Workloads)
	}
	w.Must(1, "sidecars", "statefulset/web", "-n", ns, "--yes")
	left, err := client.List(t.Context(), metav1.ListOptions{})
	w.Check(err)
	for i := range left.Items {
		if left.Items[i].UID != made.Items[i].UID {
			t.Errorf("%s was touched", left.Items[i].Name)
		}
	}
}

// A whole sidecar in the template without the marks of injection keeps the old
// image through every restart: that is said, and nothing is restarted.
func TestKindsFrozen(t *testing.T) {
	w := sharedCluster(t)
	ns := "kinds-frozen"
	w.MakeNamespace(ns, nil)
	w.Apply(w.kubeInject(manifest{Kind: "Deployment", Name: "web", Namespace: ns, Replicas: 1}.String()))
	w.RunKubectl("-n", ns, "patch", "deployment", "web", "--type=json", "-p",
		`[{"op":"remove","path":"/spec/template/metadata/annotations/sidecar.istio.io~1status"}]`)
	w.AwaitReady(ns, 1)
	w.RunKubectl("label", "namespace", ns, "istio-injection=enabled")
	w.Inject(newer)
	before := w.Writes()
	r := w.Must(0, "sidecars", "-n", ns, "--yes", "-o", "json").JSON(t)
	if item := r.Find(t, "Deployment", "web"); item.Verdict != "frozen" || item.How != "none" || !strings.Contains(item.Reason, older) {
		t.Errorf("%+v", item)
	}
	if len(r.Left) != 1 {
		t.Errorf("it is not left to a person: %+v", r.Left)
	}
	if after := w.Writes(); len(after) != len(before) {
		t.Errorf("it wrote: %v", after[len(before):])
	}
	// The verdict is right: a restart brings the old proxy again.
	w.RunKubectl("-n", ns, "rollout", "restart", "deployment/web")
	w.RunKubectl("-n", ns, "rollout", "status", "deployment/web", "--timeout=60s")
	w.WantProxies(ns, "web", map[string]int{older: 1})
}
