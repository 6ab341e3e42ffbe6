package inject

import (
	"encoding/json"
	"fmt"
)

// sidecarStatus is the value of sidecar.istio.io/status: the names of what the
// rendered template held (SidecarInjectionStatus in inject.go). `version` was
// there to 1.8, `revision` since 1.11.
type sidecarStatus struct {
	InitContainers   []string `json:"initContainers"`
	Containers       []string `json:"containers"`
	Volumes          []string `json:"volumes"`
	ImagePullSecrets []string `json:"imagePullSecrets"`
	Version          *string  `json:"version"`
	Revision         *string  `json:"revision"`

	unlisted map[string]bool // what addForm added, such as containers[istio-proxy]
}

// empty: nothing is listed, as where a person emptied the annotation.
func (s sidecarStatus) empty() bool {
	return len(s.Containers)+len(s.InitContainers)+len(s.Volumes)+len(s.ImagePullSecrets) == 0
}

func parseStatus(value string) (sidecarStatus, error) {
	var status sidecarStatus
	if err := json.Unmarshal([]byte(value), &status); err != nil {
		return status, fmt.Errorf("annotation %s is not what an injector writes: %w", statusAnnotation, err)
	}
	return status, nil
}

// era is the span of Istio 1.x minors that can have written an injection,
// told from its form and not from image tags, which anyone can choose.
type era struct{ first, last int }

const newest = 1 << 10

func (e era) before(minor int) bool { return e.last < minor }
func (e era) since(minor int) bool  { return e.first >= minor }

// injectionEra: the status annotation's keys, then what the templates of the
// releases added (environment, volumes).
func injectionEra(status sidecarStatus, env map[string]string, canonicalLabel bool) era {
	_, ports := env[envPodPorts]
	volumes := map[string]bool{}
	for _, v := range status.Volumes {
		volumes[v] = true
	}
	switch {
	case status.Revision != nil && volumes[credentialSocketVolume]:
		return era{15, newest}
	case status.Revision != nil && volumes[workloadSocketVolume]:
		return era{14, newest}
	case status.Revision != nil && ports: // the templates with a proxy have the socket since 1.14
		return era{11, 13}
	case status.Revision != nil:
		return era{11, newest}
	case status.Version == nil:
		return era{9, 10}
	case ports && canonicalLabel:
		return era{8, 8}
	case ports:
		return era{6, 8}
	default:
		return era{0, 5}
	}
}

// formEra is the span where the status is lost, told from what is there and never
// from what is not: the volumes and the environment that releases have written
// since, the overrides of 1.9, and the record of annotations that ended with 1.10.
func formEra(t podTemplate, env map[string]string) era {
	volumes := listOf(t.spec, "volumes")
	_, ports := env[envPodPorts]
	_, annotations := env[envAnnotations]
	_, labels := env[envLabels]
	_, overridden := t.annotations()[overridesAnnotation]
	e := era{0, newest}
	switch {
	case lastNamed(volumes, credentialSocketVolume) >= 0:
		e.first = 15
	case lastNamed(volumes, workloadSocketVolume) >= 0:
		e.first = 14
	case overridden:
		e.first = 9
	case ports:
		e.first = 6
	}
	switch {
	case labels && e.first <= 5:
		e.last = 5
	case annotations && e.first <= 10:
		e.last = 10
	}
	return e
}
