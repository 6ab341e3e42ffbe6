package inject

import (
	"fmt"
	"strconv"
	"strings"
)

// handlers are the places of a container that the injector rewrites to ask its
// agent, and the paths it gives them (FormatProberURL in
// pilot/cmd/pilot-agent/status/server.go; app_probe.go).
var handlers = []struct {
	path   []string
	prefix string
	suffix string
}{
	{[]string{"readinessProbe"}, "/app-health/", "/readyz"},
	{[]string{"livenessProbe"}, "/app-health/", "/livez"},
	{[]string{"startupProbe"}, "/app-health/", "/startupz"},
	{[]string{"lifecycle", "preStop"}, "/app-lifecycle/", "/prestopz"},
	{[]string{"lifecycle", "postStart"}, "/app-lifecycle/", "/poststartz"},
}

// restoreProbes puts probes and lifecycle handlers back to what the proxy's
// record says.
func (w *work) restoreProbes(r record) {
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(w.spec, key) {
			if nameOf(c) == proxyContainer {
				continue
			}
			for _, h := range handlers {
				handler := mapAt(c, h.path...)
				agentPath := h.prefix + nameOf(c) + h.suffix
				get := mapAt(handler, "httpGet")
				if get == nil || get["path"] != agentPath {
					continue
				}
				field := fmt.Sprintf("%s[%s].%s", key, nameOf(c), strings.Join(h.path, "."))
				original, recorded := r.probers[agentPath]
				if !recorded {
					w.note(field, "asks Istio's agent, and what it asked before is not recorded (the injector drops a handler whose port name the container does not have); write it again")
					continue
				}
				w.restoreHandler(field, c, handler, get, original)
			}
		}
	}
}

// restoreHandler replaces the agent's httpGet. The record is a bare httpGet to
// 1.4, and {httpGet|tcpSocket|grpc} after.
func (w *work) restoreHandler(field string, container, handler, agent, original map[string]any) {
	kind, action := "httpGet", original
	for _, k := range []string{"httpGet", "tcpSocket", "grpc"} {
		if a, ok := original[k].(map[string]any); ok {
			kind, action = k, a
		}
	}
	restored := map[string]any{}
	if kind == "httpGet" {
		// The rewriting leaves these as they are, and only some releases record them.
		for _, keep := range []string{"host", "httpHeaders"} {
			if v, has := agent[keep]; has {
				restored[keep] = v
			}
		}
	}
	for k, v := range action {
		if v != nil {
			restored[k] = v
		}
	}
	if kind != "grpc" { // gRPC ports have no names
		w.restorePortName(field, container, restored)
	}
	delete(handler, "httpGet")
	handler[kind] = restored
}

// restorePortName: the record holds numbers only. Where exactly one of the
// container's ports has the number, its name means the same.
func (w *work) restorePortName(field string, container, action map[string]any) {
	port, isNumber := action["port"].(int64)
	if !isNumber {
		return
	}
	var names []string
	for _, p := range listOf(container, "ports") {
		name, _ := p["name"].(string)
		if p["containerPort"] == port && name != "" {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
	case 1:
		action["port"] = names[0]
	default:
		w.note(field, fmt.Sprintf("port %d has several names here (%s); the number is kept", port, strings.Join(names, ", ")))
	}
}

// rewrittenPorts are the ports to which a container's handlers were turned.
func rewrittenPorts(c map[string]any) []string {
	var ports []string
	for _, h := range handlers {
		get := mapAt(mapAt(c, h.path...), "httpGet")
		if port, ok := get["port"].(int64); ok && get["path"] == h.prefix+nameOf(c)+h.suffix {
			ports = append(ports, strconv.FormatInt(port, 10))
		}
	}
	return ports
}
