package inject

import (
	"encoding/json"
	"strconv"
)

// withoutDefaults drops from what istioctl is shown the values that the API
// server filled in since the last injection: ports' protocol and probes' timeout.
// The templates copy both into the proxy's environment, so that a live workload
// would get another proxy than its manifest does. The old proxy's environment
// tells what the manifest had.
func withoutDefaults(spec map[string]any, old map[string]string) {
	var ports []struct {
		Name          string  `json:"name"`
		ContainerPort int64   `json:"containerPort"`
		Protocol      *string `json:"protocol"`
	}
	if json.Unmarshal([]byte(old[envPodPorts]), &ports) == nil {
		written := map[string]bool{} // name and number of the ports that had a protocol
		seen := map[string]bool{}
		for _, p := range ports {
			key := portKey(p.Name, p.ContainerPort)
			seen[key] = true
			written[key] = written[key] || p.Protocol != nil
		}
		for _, c := range listOf(spec, "containers") {
			for _, p := range listOf(c, "ports") {
				name, _ := p["name"].(string)
				number, _ := p["containerPort"].(int64)
				if key := portKey(name, number); p["protocol"] == "TCP" && seen[key] && !written[key] {
					delete(p, "protocol")
				}
			}
		}
	}
	var probers map[string]struct {
		TimeoutSeconds int64 `json:"timeoutSeconds"`
	}
	if json.Unmarshal([]byte(old[envProbers]), &probers) != nil {
		return
	}
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(spec, key) {
			for _, h := range handlers {
				prober, recorded := probers[h.prefix+nameOf(c)+h.suffix]
				probe := mapAt(c, h.path...)
				if recorded && prober.TimeoutSeconds == 0 && probe["timeoutSeconds"] == int64(1) {
					delete(probe, "timeoutSeconds")
				}
			}
		}
	}
}

func portKey(name string, number int64) string { return strconv.FormatInt(number, 10) + "/" + name }

// proxyEnv is the environment of a template's proxies, the first one's first.
func proxyEnv(t podTemplate) map[string]string {
	env := map[string]string{}
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(t.spec, key) {
			if nameOf(c) != proxyContainer {
				continue
			}
			for name, value := range containerEnv(c) {
				if _, has := env[name]; !has {
					env[name] = value
				}
			}
		}
	}
	return env
}
