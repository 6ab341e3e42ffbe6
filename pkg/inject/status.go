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
