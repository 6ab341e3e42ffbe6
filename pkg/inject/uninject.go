package inject

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Note is something that Uninject could not know, or that it decided by a rule
// which the user may want to check.
type Note struct {
	Object  string `json:"object"`  // Kind/name or Kind/namespace/name
	Field   string `json:"field"`   // such as spec.template.containers
	Message string `json:"message"` // one sentence, no final period
}

func (n Note) String() string { return n.Object + ": " + n.Field + ": " + n.Message }

// Result says what Uninject did to an object. Removed has an entry for each pod
// template that carried a sidecar (several in a List).
type Result struct {
	Changed bool        `json:"changed"`
	Removed []Injection `json:"removed"`
	Notes   []Note      `json:"notes"`
}

// Uninject returns the object as it was before Istio's injection, in a copy;
// its input stays as it is. An object without a sidecar comes back unchanged
// (Result.Changed false). Lists are done item by item.
//
// An error means that the object cannot be judged (annotations of the injector
// that are no JSON); it names the object and nothing is changed.
func Uninject(obj *unstructured.Unstructured) (*unstructured.Unstructured, Result, error) {
	result := Result{Removed: []Injection{}, Notes: []Note{}}
	out := obj.DeepCopy()
	if err := uninjectObject(out.Object, "", &result, 0); err != nil {
		return nil, Result{Removed: []Injection{}, Notes: []Note{}}, err
	}
	return out, result, nil
}

func uninjectObject(obj map[string]any, in string, result *Result, depth int) error {
	if items, ok := obj["items"].([]any); ok && isList(obj) {
		if depth > maxDepth {
			return fmt.Errorf("%s: lists are nested more than %d deep", objectName(obj), maxDepth)
		}
		for i, item := range items {
			m, ok := item.(map[string]any)
			if !ok {
				continue
			}
			_, named := m["kind"]
			if kind := strings.TrimSuffix(obj["kind"].(string), "List"); !named && kind != "" {
				m["kind"] = kind // what the API server leaves out of its own lists
			}
			err := uninjectObject(m, fmt.Sprintf("items[%d] ", i), result, depth+1)
			if !named {
				delete(m, "kind")
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, t := range podTemplates(obj) {
		injection, status, found, err := detect(t)
		if err == nil && found {
			w := newWork(t, injection, status, result)
			err = w.run()
			result.Changed = true
			result.Removed = append(result.Removed, w.taken)
		}
		if err != nil {
			return fmt.Errorf("%s%s: cannot take the sidecar out: %w", in, objectName(obj), err)
		}
	}
	return nil
}

func isList(obj map[string]any) bool {
	kind, _ := obj["kind"].(string)
	return strings.HasSuffix(kind, "List")
}

// objectName is Kind/name, with the namespace where the object has one.
func objectName(obj map[string]any) string {
	kind, _ := obj["kind"].(string)
	if kind == "" {
		kind = "object"
	}
	metadata := mapAt(obj, "metadata")
	parts := []string{kind}
	if namespace, _ := metadata["namespace"].(string); namespace != "" {
		parts = append(parts, namespace)
	}
	name, _ := metadata["name"].(string)
	if name == "" {
		name, _ = metadata["generateName"].(string)
	}
	if name != "" {
		parts = append(parts, name)
	}
	return strings.Join(parts, "/")
}

// work is the state of one template's uninjection: what is known of the
// injection, and where to report.
type work struct {
	podTemplate
	status  sidecarStatus
	env     map[string]string // of the proxy as first injected
	forced  map[string]string // redirection annotations by the init container's flags
	proxies []map[string]any  // the injected istio-proxy containers; two after a double injection
	era     era
	role    string // "sidecar", "router" (gateway template), "" where there is no proxy
	double  bool   // injected twice
	taken   Injection
	result  *Result
}

func newWork(t podTemplate, injection Injection, status sidecarStatus, result *Result) *work {
	w := &work{podTemplate: t, status: status, taken: injection, result: result}
	w.taken.Containers, w.taken.InitContainers, w.taken.Volumes = []string{}, []string{}, []string{}
	w.proxies = proxiesOf(t)
	w.env = proxyEnv(t) // a second template's part of the proxy may stand in the other list
	w.forced = readRedirection(t.spec)
	w.role = proxyRole(w.proxies, t.annotations()[templatesAnnotation])
	w.double = w.twice()
	_, canonical := t.labels()[canonicalName]
	w.era = injectionEra(status, w.env, canonical)
	if injection.FoundBy == FoundByForm {
		w.era = formEra(t, w.env)
	}
	return w
}

// proxiesOf lists a template's proxies, those of the containers first.
func proxiesOf(t podTemplate) []map[string]any {
	var proxies []map[string]any
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(t.spec, key) {
			if nameOf(c) == proxyContainer {
				proxies = append(proxies, c)
			}
		}
	}
	return proxies
}

// run does the parts in an order in which each still sees what it needs: the
// proxy's environment is read before, the annotations change last.
func (w *work) run() error {
	if w.taken.FoundBy == FoundByForm {
		w.note("annotations", fmt.Sprintf("%s is missing or unreadable; the sidecar was recognised by its form and removed by known names", statusAnnotation))
	}
	if left := sortedKeys(w.status.unlisted); w.taken.FoundBy == FoundByStatus && len(left) > 0 {
		w.note("annotations", fmt.Sprintf("%s does not list %s, which an earlier injection left; removed too", statusAnnotation, strings.Join(left, ", ")))
	}
	w.noteCustom()
	if w.double {
		w.note("containers", fmt.Sprintf("injected %d times; all proxies are removed and the first one's record of the original is used", len(w.proxies)))
	}
	own, err := parseOverrides(w.annotations()[overridesAnnotation])
	if err != nil {
		return err
	}
	for _, c := range own.dropIstios() {
		w.note("annotations", fmt.Sprintf("%s holds container %q of an earlier injection as your own, since the status was lost before the last; removed too", overridesAnnotation, nameOf(c)))
	}
	record, err := w.record()
	if err != nil {
		return err
	}
	firstApp := w.firstAppContainer()
	agentPorts := w.agentPorts()

	if err := w.removeContainers(own); err != nil {
		return err
	}
	w.restoreProbes(record)
	w.removeVolumes()
	w.removePullSecrets()
	w.restorePodSpec()
	w.restoreLabels(record)
	w.restoreAnnotations(record, firstApp, agentPorts)
	w.tidy()
	return nil
}

func (w *work) note(field, message string) {
	w.result.Notes = append(w.result.Notes, Note{Object: objectName(w.owner), Field: w.field(field), Message: message})
}

// twice: one list holds two proxies, as kube-inject to 1.1 makes it, or both lists
// a whole one, as 1.17+ makes it where the form has changed in between.
func (w *work) twice() bool {
	whole := 0
	for _, key := range []string{"containers", "initContainers"} {
		list := listOf(w.spec, key)
		n := 0
		for _, c := range list {
			if nameOf(c) == proxyContainer {
				n++
			}
		}
		if n > 1 {
			return true
		}
		if slices.ContainsFunc(list, sidecarForm) {
			whole++
		}
	}
	return whole > 1
}

// proxyRole is the proxy's role by its arguments; where a user's own replaced
// them, the pod's choice of templates tells. Empty without a proxy.
func proxyRole(proxies []map[string]any, templates string) string {
	if len(proxies) == 0 {
		return ""
	}
	for _, proxy := range proxies {
		for _, arg := range containerArgs(proxy) {
			if arg == "sidecar" || arg == "router" {
				return arg
			}
		}
	}
	if slices.Contains(splitNames(templates), "gateway") {
		return "router"
	}
	return "sidecar"
}

// tidy drops what kube-inject leaves where it writes typed objects out: an
// empty creationTimestamp and a status of zeros.
func (w *work) tidy() {
	for _, holder := range []map[string]any{w.meta, w.owner} {
		metadata := mapAt(holder, "metadata")
		if stamp, has := metadata["creationTimestamp"]; has && stamp == nil {
			delete(metadata, "creationTimestamp")
		}
		if metadata != nil && len(metadata) == 0 {
			delete(holder, "metadata")
		}
	}
	status, has := w.owner["status"].(map[string]any)
	for _, v := range status {
		if v != int64(0) && v != float64(0) {
			return
		}
	}
	if has {
		delete(w.owner, "status")
	}
}

// firstAppContainer is what the templates call the default container.
func (w *work) firstAppContainer() string {
	if names := appContainers(w.env); len(names) > 0 {
		return names[0]
	}
	for _, c := range listOf(w.spec, "containers") {
		if nameOf(c) != proxyContainer {
			return nameOf(c)
		}
	}
	return ""
}

// agentPorts are the ports at which this pod's agent may listen for health and
// metrics: the default, what the mesh or the pod say, and where rewritten
// probes point.
func (w *work) agentPorts() map[string]bool {
	ports := map[string]bool{"15020": true}
	if port := w.annotations()[statusPortAnnotation]; port != "" {
		ports[port] = true
	}
	if port := proxyConfigPort(w.env[envProxyConfig]); port > 0 {
		ports[strconv.Itoa(port)] = true
	}
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(w.spec, key) {
			for _, port := range rewrittenPorts(c) {
				ports[port] = true
			}
		}
	}
	return ports
}
