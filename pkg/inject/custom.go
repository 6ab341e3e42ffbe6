package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"istio.io/api/annotation"
)

// istioTemplates are the templates that Istio's charts bring.
var istioTemplates = []string{"sidecar", "gateway", "grpc-simple", "grpc-agent", "waypoint", "kube-gateway", "agentgateway"}

// noteCustom says that a template of someone's own had a part in the injection:
// the status lists containers and volumes, and nothing else of what it wrote.
func (w *work) noteCustom() {
	var custom []string
	for _, name := range splitNames(w.annotations()[templatesAnnotation]) {
		if name != "" && !slices.Contains(istioTemplates, name) {
			custom = append(custom, "template "+name)
		}
	}
	app := appContainers(w.env)
	for key, names := range map[string][]string{"containers": w.status.Containers, "initContainers": w.status.InitContainers} {
		for _, name := range names {
			known := name == proxyContainer || slices.Contains(knownInits, name) || slices.Contains(app, name) || w.proxyless()
			if !known && !w.status.unlisted[key+"["+name+"]"] {
				custom = append(custom, "container "+name)
			}
		}
	}
	own := map[string]any{}
	_ = json.Unmarshal([]byte(w.annotations()[annotation.SidecarUserVolume.Name]), &own) // broken: no names
	for _, name := range w.status.Volumes {
		if _, users := own[name]; !users && !knownVolumes[name] {
			custom = append(custom, "volume "+name)
		}
	}
	if len(custom) > 0 {
		slices.Sort(custom)
		w.note("metadata", fmt.Sprintf("a custom template was injected too (%s); annotations, labels and pod fields that it sets are recorded nowhere and stay", strings.Join(custom, ", ")))
	}
}
