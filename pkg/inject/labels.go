package inject

import (
	"encoding/json"
	"fmt"
	"strings"
)

// restoreLabels drops the labels that the injector is shown to have written.
// Shown means: this release's template writes that label, its value is what the
// template makes of the rest of the object, and nothing in the object says that
// it is the user's (a selector that needs it, the workload's own labels, the
// manifest last applied without a sidecar). Every other label stays.
func (w *work) restoreLabels(r record) {
	labels := w.labels()
	for _, l := range w.injectedLabels(labels) {
		value, set := labels[l.key]
		if !set {
			continue
		}
		if r.knownLabels {
			if was, had := r.labels[l.key]; had {
				labels[l.key] = was
			} else if l.writes {
				delete(labels, l.key)
			}
			continue
		}
		field := fmt.Sprintf("labels[%s]", l.key)
		if !l.writes {
			if l.maybe && l.defaults[value] {
				w.note(field, fmt.Sprintf("%q is kept: %s", value, unknownRelease))
			}
			continue
		}
		switch why := w.usersOwn(l.key, value); {
		case why != "":
			w.note(field, fmt.Sprintf("%q is kept: %s", value, why))
		case l.defaults[value]:
			delete(labels, l.key)
			if l.doubt != "" {
				w.note(field, fmt.Sprintf("%q is removed: %s", value, l.doubt))
			}
		default:
			w.note(field, fmt.Sprintf("%q is kept: the injector would have written another value, so it is yours", value))
		}
	}
	w.setMeta("labels", labels)
}

// injectedLabel is one label that injectors write.
type injectedLabel struct {
	key      string
	writes   bool            // this release and template writes it
	maybe    bool            // whether it does cannot be told
	defaults map[string]bool // the values that it writes where the user has none
	doubt    string          // what to say where a user could have had the same
}

func values(list ...string) map[string]bool {
	set := map[string]bool{}
	for _, v := range list {
		set[v] = true
	}
	return set
}

// injectedLabels lists them with the releases that write them: the templates'
// metadata.labels, and to 1.8 inject.go and webhook.go.
func (w *work) injectedLabels(labels map[string]string) []injectedLabel {
	sidecar := w.role == "sidecar"
	grpc := w.env[envGenerator] == "grpc"
	pod := w.path == ""
	proxy := w.role != ""
	// kube-inject writes the canonical labels since 1.8, the webhook since 1.5.
	canonical := proxy && (w.era.since(8) || pod && !w.era.before(5))

	maybe := proxy && !canonical && w.guessing(8)

	names := []string{w.env[envWorkloadName]}
	if metadata := mapAt(w.owner, "metadata"); metadata != nil {
		name, _ := metadata["name"].(string)
		names = append(names, name)
	}
	return []injectedLabel{
		{key: tlsModeLabel, writes: sidecar && !grpc && !w.era.before(4), defaults: values("istio")},
		{key: canonicalName, writes: canonical, maybe: maybe, defaults: canonicalNames(labels, names)},
		{key: canonicalRevision, writes: canonical, maybe: maybe, defaults: values(firstSet(labels[labelAppVersion], labels["version"], "latest"))},
		{key: tunnelLabel, writes: sidecar && w.env[envHBONE] == "true", defaults: values("http")},
		w.revisionLabel(),
		{
			key: networkLabel, writes: sidecar && w.era.since(9) && w.env[envNetwork] != "", defaults: values(w.env[envNetwork]),
			doubt: "it is the network that the injector was set to; who wrote it is not recorded",
		},
	}
}

// revisionLabel: kube-inject 1.6 to 1.10 overwrites istio.io/rev with its own
// revision (1.6 to 1.8 even with nothing), the gateway template to 1.17 sets it.
func (w *work) revisionLabel() injectedLabel {
	l := injectedLabel{key: revKey, defaults: values("", "default")}
	l.writes = w.era.since(6) && w.era.before(11) || w.role == "router" && w.era.since(9) && w.annotations()[revKey] == ""
	if revision := w.proxyRevision(); revision != "" {
		l.defaults[revision] = true
	}
	if l.writes && !values("", "default")[w.labels()[revKey]] {
		l.doubt = "the injector overwrites it with its own revision; if you had it, add it again"
	}
	return l
}

// proxyRevision reads the injector's revision from the address of its istiod:
// istiod-<revision>.<namespace>.svc:15012.
func (w *work) proxyRevision() string {
	host, _, _ := strings.Cut(w.env["CA_ADDR"], ".")
	revision, _ := strings.CutPrefix(host, "istiod-")
	if revision == host {
		return ""
	}
	return revision
}

// canonicalNames are the values the templates make: the label of the recommended
// set, then app, then the workload's name, cut to 63 characters since 1.20.
func canonicalNames(labels map[string]string, workload []string) map[string]bool {
	set := values()
	add := func(v string) {
		set[v] = true
		if len(v) > 63 {
			v = v[:63]
		}
		set[strings.Trim(v, "-_.")] = true
	}
	if first := firstSet(labels[labelAppName], labels["app"]); first != "" {
		add(first)
		return set
	}
	for _, name := range workload {
		if name != "" {
			add(name)
		}
	}
	add("") // kube-inject through the webhook sends a pod without a name
	return set
}

func firstSet(list ...string) string {
	for _, v := range list {
		if v != "" {
			return v
		}
	}
	return ""
}

// usersOwn says why a label must be the user's; empty where nothing shows it.
func (w *work) usersOwn(key, value string) string {
	if mentions(mapAt(w.owner, "spec")["selector"], key) {
		return "the selector needs it"
	}
	for _, field := range []string{"affinity", "topologySpreadConstraints"} {
		if mentions(w.spec[field], key) {
			return fmt.Sprintf("the pod's %s needs it", field)
		}
	}
	if w.path != "" && stringMap(w.owner, "labels")[key] == value && hasKey(mapAt(w.owner, "metadata", "labels"), key) {
		return "the workload itself has it too"
	}
	if original, ok := w.lastApplied(); ok {
		if was, had := original.labels()[key]; had && was == value {
			return "it was in the manifest last applied, which had no sidecar"
		}
	}
	return ""
}

func hasKey(m map[string]any, key string) bool {
	_, has := m[key]
	return has
}

// mentions looks for a label key in a selector: as a map key or as the `key` of
// an expression.
func mentions(node any, key string) bool {
	switch node := node.(type) {
	case map[string]any:
		if hasKey(node, key) || node["key"] == key {
			return true
		}
		for _, v := range node {
			if mentions(v, key) {
				return true
			}
		}
	case []any:
		for _, v := range node {
			if mentions(v, key) {
				return true
			}
		}
	}
	return false
}

// lastApplied is this template in the manifest that kubectl applied last, where
// that one has no sidecar: then it shows what the user wrote.
func (w *work) lastApplied() (podTemplate, bool) {
	value := stringMap(w.owner, "annotations")[lastApplied]
	if value == "" {
		return podTemplate{}, false
	}
	var obj map[string]any
	if json.Unmarshal([]byte(value), &obj) != nil {
		return podTemplate{}, false
	}
	for _, t := range podTemplates(obj) {
		if t.path != w.path {
			continue
		}
		if _, _, found, err := detect(t); err == nil && !found {
			return t, true
		}
	}
	return podTemplate{}, false
}
