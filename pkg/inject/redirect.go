package inject

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"istio.io/api/annotation"
)

// restoreRedirect puts the redirection annotations back. To 1.10 all annotations
// are recorded, so that what the record lacks is the template's or was added since;
// after that only the CNI plugin has them written, unrecorded.
func (w *work) restoreRedirect(a map[string]string, r record, agentPorts map[string]bool) {
	for _, key := range redirectAnnotations {
		value, set := a[key]
		if !set {
			continue
		}
		field := fmt.Sprintf("annotations[%s]", key)
		switch was, had := r.annotations[key]; {
		case had && w.withoutAgent(key, value, agentPorts) != was && value != was:
			w.note(field, fmt.Sprintf("%q is kept: it was changed after the injection, which found %q", value, was))
		case had:
			a[key] = was
		case r.knownAnnotations && w.writesRedirect(key, value, agentPorts):
			delete(a, key)
		case r.knownAnnotations:
			w.note(field, fmt.Sprintf("%q is kept: it was not there before the injection, which does not write it, so it was added after", value))
		case w.era.since(11) && w.usesCNI():
			w.restoreUnrecorded(a, key, value, agentPorts)
		case w.guessing(9):
			w.note(field, fmt.Sprintf("%q is kept: %s", value, unknownRelease))
		}
	}
}

// writesRedirect says whether the template of a release to 1.10 has written the
// annotation: since 1.9 only for the CNI plugin, and always the value by which the
// same injection's init container sets up iptables.
func (w *work) writesRedirect(key, value string, agentPorts map[string]bool) bool {
	if w.era.since(9) && !w.usesCNI() {
		return false
	}
	rest := w.withoutAgent(key, value, agentPorts)
	if rest == "" || rest == redirectDefaults[key] {
		return true
	}
	switch key {
	case annotation.SidecarTrafficExcludeInboundPorts.Name:
		return within(rest, strings.Split(w.forced[key], ","))
	case annotation.SidecarTrafficIncludeInboundPorts.Name:
		return value == w.forced[key] || within(value, w.appPorts())
	}
	return value == w.forced[key]
}

// within: each port of a list joined by commas is one of these.
func within(list string, ports []string) bool {
	return !slices.ContainsFunc(strings.Split(list, ","), func(port string) bool { return !slices.Contains(ports, port) })
}

// appPorts are the ports that kube-inject to 1.8 includes by default: all that the
// containers have.
func (w *work) appPorts() []string {
	var ports []string
	for _, c := range listOf(w.spec, "containers") {
		for _, p := range listOf(c, "ports") {
			if number, ok := p["containerPort"].(int64); ok {
				ports = append(ports, strconv.FormatInt(number, 10))
			}
		}
	}
	return ports
}

// redirectDefaults are what the templates write where nothing is configured.
var redirectDefaults = map[string]string{
	annotation.SidecarInterceptionMode.Name:               "REDIRECT",
	annotation.SidecarTrafficIncludeOutboundIPRanges.Name: "*",
	annotation.SidecarTrafficIncludeInboundPorts.Name:     "*",
}

// readRedirection reads the values in force from the flags of the init container
// that sets up iptables, or checks them.
func readRedirection(spec map[string]any) map[string]string {
	flags := map[string]string{
		"-m": annotation.SidecarInterceptionMode.Name,
		"-i": annotation.SidecarTrafficIncludeOutboundIPRanges.Name,
		"-x": annotation.SidecarTrafficExcludeOutboundIPRanges.Name,
		"-b": annotation.SidecarTrafficIncludeInboundPorts.Name,
		"-d": annotation.SidecarTrafficExcludeInboundPorts.Name,
		"-q": annotation.SidecarTrafficIncludeOutboundPorts.Name,
		"-o": annotation.SidecarTrafficExcludeOutboundPorts.Name,
		"-k": annotation.SidecarTrafficKubevirtInterfaces.Name,
	}
	forced := map[string]string{}
	for _, name := range []string{initContainer, validationContainer} {
		args := containerArgs(findContainer(listOf(spec, "initContainers"), name))
		for i, arg := range args {
			if key := flags[arg]; key != "" && i+1 < len(args) {
				forced[key] = args[i+1]
			}
		}
	}
	return forced
}

// restoreUnrecorded: what the templates write where nothing was configured goes;
// any other value may be the user's or the mesh's, and stays.
func (w *work) restoreUnrecorded(a map[string]string, key, value string, agentPorts map[string]bool) {
	rest := w.withoutAgent(key, value, agentPorts)
	if d, known := redirectDefaults[key]; known && value == d || rest == "" {
		delete(a, key)
		return
	}
	a[key] = rest
	w.note(fmt.Sprintf("annotations[%s]", key), fmt.Sprintf("%q is kept: it may be yours or the injector's, which is not recorded", rest))
}

// withoutAgent takes the agent's port off the list of excluded ports, to which
// the templates add it.
func (w *work) withoutAgent(key, value string, agentPorts map[string]bool) string {
	if key != annotation.SidecarTrafficExcludeInboundPorts.Name {
		return value
	}
	rest, last := "", value
	if i := strings.LastIndexByte(value, ','); i >= 0 {
		rest, last = value[:i], value[i+1:]
	}
	if agentPorts[strings.TrimSpace(last)] {
		return rest
	}
	return value
}

// usesCNI: the validation container stands in for istio-init.
func (w *work) usesCNI() bool {
	return slices.Contains(w.status.InitContainers, validationContainer)
}
