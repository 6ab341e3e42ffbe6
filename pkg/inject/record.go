package inject

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	k8sjson "k8s.io/apimachinery/pkg/util/json"
)

// record is what the injector wrote down of the pod as it was before.
type record struct {
	probers    map[string]map[string]any // by path, such as /app-health/app/readyz
	prometheus *prometheusRecord         // nil: no Prometheus annotations before, or not recorded

	// annotations and labels as they were, where the release keeps them: known
	// says whether it does, since an empty set is not written at all.
	annotations      map[string]string
	knownAnnotations bool
	labels           map[string]string
	knownLabels      bool
}

// prometheusRecord is PrometheusScrapeConfiguration of
// pilot/cmd/pilot-agent/status/server.go.
type prometheusRecord struct {
	Scrape  string `json:"scrape"`
	Path    string `json:"path"`
	Port    string `json:"port"`
	Targets []struct {
		Port string `json:"port"`
		Path string `json:"path"`
	} `json:"targets"`
}

// record reads the environment of the injected proxies. After a double
// injection (to 1.1) the first proxy's word counts: the second saw an injected
// pod.
func (w *work) record() (record, error) {
	out := record{probers: map[string]map[string]any{}}
	for _, proxy := range slices.Backward(w.proxies) {
		env := containerEnv(proxy)
		if err := out.read(env); err != nil {
			return record{}, fmt.Errorf("container %s: %w", proxyContainer, err)
		}
	}
	out.knownAnnotations = out.annotations != nil || w.recordsAnnotations(out.labels != nil)
	out.knownLabels = out.labels != nil
	delete(out.annotations, statusAnnotation)
	return out, nil
}

func (r *record) read(env map[string]string) error {
	if value := env[envProbers]; value != "" {
		probers := map[string]map[string]any{}
		if err := k8sjson.Unmarshal([]byte(value), &probers); err != nil {
			return fmt.Errorf("environment %s is not JSON: %w", envProbers, err)
		}
		maps.DeleteFunc(probers, asksItself)
		maps.Copy(r.probers, probers)
	}
	if value := env[envPrometheus]; value != "" {
		var p prometheusRecord
		if err := json.Unmarshal([]byte(value), &p); err != nil {
			return fmt.Errorf("environment %s is not JSON: %w", envPrometheus, err)
		}
		r.prometheus = &p
	}
	for key, into := range map[string]*map[string]string{envAnnotations: &r.annotations, envLabels: &r.labels} {
		value := strings.TrimSpace(env[key])
		if value == "" {
			continue
		}
		var m map[string]string
		if err := json.Unmarshal([]byte(value), &m); err != nil {
			return fmt.Errorf("environment %s is not JSON: %w", key, err)
		}
		if m == nil {
			m = map[string]string{}
		}
		*into = m
	}
	return nil
}

// asksItself: the record of a second injection, which saw a probe that the first
// had turned to the agent.
func asksItself(path string, prober map[string]any) bool {
	get := mapAt(prober, "httpGet")
	return get["path"] == path || prober["path"] == path
}

// recordsAnnotations says whether this release's template writes
// ISTIO_METAJSON_ANNOTATIONS whenever there are annotations, so that its absence
// means there were none: 1.0.9 to 1.10. The marks are other variables of those
// templates.
func (w *work) recordsAnnotations(labelsRecorded bool) bool {
	_, ports := w.env[envPodPorts]
	_, inbound := w.env["ISTIO_META_INCLUDE_INBOUND_PORTS"]
	return w.taken.FoundBy == FoundByStatus && w.era.before(11) && (labelsRecorded || ports || inbound)
}

func splitNames(value string) []string {
	value = strings.Trim(strings.TrimSpace(value), "[]")
	names := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\n' })
	for i := range names {
		names[i] = strings.Trim(strings.TrimSpace(names[i]), `"`)
	}
	return slices.Clip(names)
}

// proxyConfigPort is statusPort of PROXY_CONFIG; 0 where it is not set.
func proxyConfigPort(value string) int {
	var config struct {
		StatusPort int `json:"statusPort"`
	}
	if json.Unmarshal([]byte(value), &config) != nil {
		return 0
	}
	return config.StatusPort
}
