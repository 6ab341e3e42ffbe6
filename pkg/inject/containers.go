package inject

import (
	"encoding/json"
	"fmt"
	"slices"

	k8sjson "k8s.io/apimachinery/pkg/util/json"
)

// autoImage stands in a user's own istio-proxy container for "the injector's
// image"; the overrides annotation keeps it as an empty image (webhook.go).
const autoImage = "auto"

// overrides are containers as they were before injection, by name, from the
// annotation proxy.istio.io/overrides (1.9+).
type overrides struct {
	Containers     []map[string]any
	InitContainers []map[string]any
}

func parseOverrides(value string) (overrides, error) {
	var raw struct {
		Containers     []map[string]any `json:"containers"`
		InitContainers []map[string]any `json:"initContainers"`
	}
	if value == "" {
		return overrides{}, nil
	}
	if err := k8sjson.Unmarshal([]byte(value), &raw); err != nil {
		return overrides{}, fmt.Errorf("annotation %s is not JSON: %w", overridesAnnotation, err)
	}
	for _, list := range [][]map[string]any{raw.Containers, raw.InitContainers} {
		for _, container := range list {
			if nameOf(container) == "" {
				return overrides{}, fmt.Errorf("annotation %s holds a container without a name", overridesAnnotation)
			}
			tidyOverride(container)
		}
	}
	return overrides{raw.Containers, raw.InitContainers}, nil
}

// dropIstios takes out, and gives, the containers that no user has written.
func (o *overrides) dropIstios() []map[string]any {
	var dropped []map[string]any
	for _, list := range []*[]map[string]any{&o.Containers, &o.InitContainers} {
		*list = slices.DeleteFunc(*list, func(c map[string]any) bool {
			if istiosOwn(c) {
				dropped = append(dropped, c)
				return true
			}
			return false
		})
	}
	return dropped
}

// tidyOverride undoes what typed JSON adds: the annotation is written from a
// core/v1 Container.
func tidyOverride(container map[string]any) {
	if resources, ok := container["resources"].(map[string]any); ok && len(resources) == 0 {
		delete(container, "resources")
	}
	if image, _ := container["image"].(string); image == "" {
		container["image"] = autoImage
	}
}

// nativeOverride says where a user's own istio-proxy was: with native sidecars the
// injector files it under init containers wherever the user had it. A native
// sidecar of the user's own has restartPolicy, one under containers cannot.
func nativeOverride(container map[string]any) bool {
	_, has := container["restartPolicy"]
	return has
}

func nameOf(container map[string]any) string {
	name, _ := container["name"].(string)
	return name
}

// listOf reads a list of maps; entries that are none are left out.
func listOf(holder map[string]any, key string) []map[string]any {
	raw, _ := holder[key].([]any)
	out := make([]map[string]any, 0, len(raw))
	for _, item := range raw {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func setList(holder map[string]any, key string, list []map[string]any) {
	if len(list) == 0 {
		delete(holder, key)
		return
	}
	out := make([]any, len(list))
	for i, m := range list {
		out[i] = m
	}
	holder[key] = out
}

func findContainer(list []map[string]any, name string) map[string]any {
	for _, c := range list {
		if nameOf(c) == name {
			return c
		}
	}
	return nil
}

// containerEnv reads a container's literal environment.
func containerEnv(container map[string]any) map[string]string {
	env := map[string]string{}
	for _, item := range listOf(container, "env") {
		name, _ := item["name"].(string)
		value, _ := item["value"].(string)
		if _, seen := env[name]; !seen {
			env[name] = value
		}
	}
	return env
}

func containerArgs(container map[string]any) []string {
	raw, _ := container["args"].([]any)
	var args []string
	for _, a := range raw {
		if s, ok := a.(string); ok {
			args = append(args, s)
		}
	}
	return args
}

// removeContainers takes the injected containers out of both lists and puts the
// user's own versions of them back. The error says that nothing would be left.
func (w *work) removeContainers(own overrides) error {
	app := appContainers(w.env)
	var kept []map[string]any
	for _, c := range listOf(w.spec, "containers") {
		name := nameOf(c)
		switch original := findContainer(own.Containers, name); {
		case !slices.Contains(w.status.Containers, name):
			kept = append(kept, c)
		case original != nil:
			if name != proxyContainer { // application containers stay where they are
				kept = append(kept, w.sinceInjection("containers", original, c))
			}
		case name != proxyContainer && slices.Contains(app, name):
			w.note("containers", fmt.Sprintf("container %q is listed as injected but was there before (%s); kept as it is", name, envAppContainers))
			kept = append(kept, c)
		default:
			w.taken.Containers = append(w.taken.Containers, name)
		}
	}
	var inits []map[string]any
	for _, c := range listOf(w.spec, "initContainers") {
		if !slices.Contains(w.status.InitContainers, nameOf(c)) {
			inits = append(inits, c)
			continue
		}
		w.taken.InitContainers = append(w.taken.InitContainers, nameOf(c))
		if i := slices.IndexFunc(own.InitContainers, func(o map[string]any) bool { return nameOf(o) == nameOf(c) }); i >= 0 && nameOf(c) != proxyContainer {
			own.InitContainers[i] = w.sinceInjection("initContainers", own.InitContainers[i], c)
		}
	}
	if proxy := findContainer(own.Containers, proxyContainer); proxy != nil {
		kept = w.putBack(kept, proxy, "containers")
	}
	for _, original := range own.InitContainers {
		if nameOf(original) == proxyContainer && !nativeOverride(original) {
			kept = w.putBack(kept, original, "containers")
			continue
		}
		inits = w.putBack(inits, original, "initContainers")
	}
	if len(kept) == 0 {
		kept = slices.DeleteFunc(listOf(w.spec, "containers"), func(c map[string]any) bool { return nameOf(c) == proxyContainer })
		if len(kept) == 0 {
			return fmt.Errorf("it holds no container but Istio's, and %s does not say what was there before", overridesAnnotation)
		}
		w.note("containers", "the status annotation lists all of them as injected and none is recorded as it was; kept as they are")
	}
	setList(w.spec, "containers", kept)
	setList(w.spec, "initContainers", inits)
	return nil
}

// putBack appends a container of the user's that the injector had taken over.
// Its place in the list is not recorded anywhere.
func (w *work) putBack(list []map[string]any, original map[string]any, key string) []map[string]any {
	if findContainer(list, nameOf(original)) != nil {
		return list
	}
	if len(list) > 1 || len(list) > 0 && key == "initContainers" {
		w.note(key, fmt.Sprintf("your own container %q is put last; its place among the others is not recorded", nameOf(original)))
	}
	return append(list, original)
}

// appContainers reads ISTIO_META_APP_CONTAINERS: a list joined by commas, or in
// 1.6 a list in brackets.
func appContainers(env map[string]string) []string {
	value := env[envAppContainers]
	var names []string
	if json.Unmarshal([]byte(value), &names) == nil {
		return names
	}
	return slices.DeleteFunc(splitNames(value), func(s string) bool { return s == "" })
}
