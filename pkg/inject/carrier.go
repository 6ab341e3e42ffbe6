package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// kubeInjectKinds are the kinds that kube-inject knows, by kind and group
// (injectScheme in istio/istio:pkg/kube/inject/initializer.go). It matches by
// kind alone, so that a foreign Job must not be shown to it.
var kubeInjectKinds = map[string]string{
	"Pod": "", "ReplicationController": "", "Deployment": "apps", "StatefulSet": "apps", "DaemonSet": "apps",
	"ReplicaSet": "apps", "Job": "batch", "CronJob": "batch", "DeploymentConfig": "apps.openshift.io",
}

// carrier is what istioctl is shown of one pod template: an object of the same
// kind and name with the template and nothing else; a Deployment where istioctl
// does not know the kind. Its uid is the key by which the result is found:
// injection reads it nowhere, and a workload may be shown more than once.
type carrier struct {
	object *unstructured.Unstructured
	owner  string // of the template, for the proxy's environment; empty where istioctl gets it right
}

// newCarrier makes the carrier of a template. Of its metadata it changes what
// stands between kube-inject and what the injector would do: the opt-out of a
// workload that carries a sidecar by hand, and the choice of templates. old is the
// environment of the proxy that was taken out, nil where there was none.
func newCarrier(t podTemplate, key string, config injectConfig, old map[string]string) carrier {
	owner := &unstructured.Unstructured{Object: t.owner}
	group, _, _ := strings.Cut(owner.GetAPIVersion(), "/")
	if !strings.Contains(owner.GetAPIVersion(), "/") {
		group = ""
	}
	known, isKnown := kubeInjectKinds[owner.GetKind()]
	isKnown = isKnown && (known == group || group == "extensions" || owner.GetKind() == "DeploymentConfig" && group == "")
	template := copyOf(map[string]any{"metadata": orEmpty(t.meta["metadata"]), "spec": t.spec})
	metadata := map[string]any{"name": firstSet(owner.GetName(), "unnamed")}
	if ns := owner.GetNamespace(); ns != "" {
		metadata["namespace"] = ns
	}
	c := carrier{}
	switch {
	case isKnown && owner.GetKind() == "Pod":
		template["apiVersion"], template["kind"] = owner.GetAPIVersion(), "Pod"
		c.object = &unstructured.Unstructured{Object: template}
	case isKnown && owner.GetKind() == "CronJob":
		job := map[string]any{"metadata": template["metadata"], "spec": map[string]any{"template": map[string]any{"spec": template["spec"]}}}
		c.object = wrap(owner.GetAPIVersion(), owner.GetKind(), metadata, "jobTemplate", job)
	case isKnown:
		c.object = wrap(owner.GetAPIVersion(), owner.GetKind(), metadata, "template", template)
	default:
		c.object = wrap("apps/v1", "Deployment", metadata, "template", template)
		c.owner = ownerPath(owner)
	}
	c.object.SetUID(types.UID(key))
	c.prepare(config, old)
	return c
}

func (c carrier) prepare(config injectConfig, old map[string]string) {
	t := podTemplates(c.object.Object)[0]
	withoutDefaults(t.spec, old)
	annotations, labels := t.annotations(), t.labels()
	if old != nil {
		for _, m := range []map[string]string{annotations, labels} {
			if m[injectKey] == "false" {
				delete(m, injectKey)
			}
		}
	}
	if templates := config.templatesFor(annotations[templatesAnnotation]); templates != "" {
		annotations[templatesAnnotation] = templates
	}
	t.setMeta("annotations", annotations)
	t.setMeta("labels", labels)
}

// restoreMeta takes prepare back in a result's metadata, and adds what the injector
// adds to every pod.
func restoreMeta(annotations, labels map[string]string, own podTemplate, config injectConfig) {
	maps.Copy(annotations, config.InjectedAnnotations)
	was := own.annotations()
	for _, key := range []string{injectKey, templatesAnnotation} {
		if v, had := was[key]; had {
			annotations[key] = v
		} else {
			delete(annotations, key)
		}
	}
	if v, had := own.labels()[injectKey]; had {
		labels[injectKey] = v
	}
}

func wrap(apiVersion, kind string, metadata map[string]any, key string, template map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "metadata": metadata, "spec": map[string]any{key: template},
	}}
}

// ownerPath is ISTIO_META_OWNER as the templates write it.
func ownerPath(owner *unstructured.Unstructured) string {
	return fmt.Sprintf("kubernetes://apis/%s/namespaces/%s/%ss/%s", owner.GetAPIVersion(),
		firstSet(owner.GetNamespace(), "default"), strings.ToLower(owner.GetKind()), owner.GetName())
}

func orEmpty(v any) any {
	if v == nil {
		return map[string]any{}
	}
	return v
}

func copyOf(m map[string]any) map[string]any {
	return (&unstructured.Unstructured{Object: m}).DeepCopy().Object
}

// untouched gives the same carrier marked so that kube-inject only reads it and
// writes it out again: what it then lacks, istioctl does not know.
func (c carrier) untouched(key string) *unstructured.Unstructured {
	twin := c.object.DeepCopy()
	t := podTemplates(twin.Object)[0]
	for _, field := range []string{"annotations", "labels"} {
		values := stringMap(t.meta, field)
		values[injectKey] = "false"
		t.setMeta(field, values)
	}
	twin.SetUID(types.UID(key))
	return twin
}

// complete sets right what istioctl could not know of the workload: its owner
// where it was shown a Deployment instead, and name and owner where the webhook
// was asked, which sees a pod without either.
func (c carrier) complete(injected, own podTemplate, settings Settings) {
	owner := &unstructured.Unstructured{Object: own.owner}
	path := c.owner
	if path == "" && settings.Webhook {
		path = ownerPath(owner)
	}
	if path == "" {
		return
	}
	for _, key := range []string{"containers", "initContainers"} {
		for _, container := range listOf(injected.spec, key) {
			if nameOf(container) == proxyContainer {
				setEnv(container, envWorkloadName, owner.GetName())
				setEnv(container, envOwner, path)
			}
		}
	}
	labels := injected.labels()
	if name, has := labels[canonicalName]; has && name == "" {
		labels[canonicalName] = firstSet(labels[labelAppName], labels["app"], owner.GetName())
		injected.setMeta("labels", labels)
	}
}

// setEnv sets a literal variable: in its place, or behind the others of
// ISTIO_META.
func setEnv(container map[string]any, name, value string) {
	env := listOf(container, "env")
	at := len(env)
	for i, item := range env {
		existing, _ := item["name"].(string)
		if existing == name {
			item["value"] = value
			return
		}
		if strings.HasPrefix(existing, "ISTIO_META_") {
			at = i + 1
		}
	}
	setList(container, "env", slices.Insert(env, at, map[string]any{"name": name, "value": value}))
}
