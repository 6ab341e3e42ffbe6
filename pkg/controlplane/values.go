package controlplane

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// tagValues are the values that bring a component's images to a tag. Sidecars
// read global.tag only; ztunnel's chart reads its own; a gateway has no image
// of its own, the injector fills it in (istio/istio:manifests/charts).
func tagValues(component helm.Component, tag string) map[string]any {
	switch component {
	case helm.Gateway:
		return map[string]any{}
	case helm.Ztunnel:
		return map[string]any{"tag": tag}
	}
	return map[string]any{"global": map[string]any{"tag": tag}}
}

// withoutVariants empties the values that would have the charts append a variant
// to a tag which bears one already. What a component's own tag is pinned to stays.
func withoutVariants(values map[string]any, tag string) map[string]any {
	if mesh.Variant(tag) == "" {
		return values
	}
	empty := map[string]any{}
	for _, scope := range []string{"", "global.", "pilot.", "cni."} {
		flat := leaves(values)
		own, _ := flat[scope+"tag"].(string)
		if variant, _ := flat[scope+"variant"].(string); variant != "" && (own == "" || own == tag) {
			set(empty, "", strings.Split(scope+"variant", ".")...)
		}
	}
	return helm.Reuse(values, empty)
}

// userChanges gives the part of --set and --values that concerns a component:
// all of it for the components that were named, or istiod where none was; for
// cni and ztunnel otherwise only what is global.
func userChanges(changes map[string]any, component helm.Component, o Options) map[string]any {
	switch {
	case slices.Contains(o.Components, asComponent(component)), component == helm.Istiod, component == helm.Istio:
		return changes
	case component == helm.Gateway:
		return map[string]any{}
	}
	if global, ok := changes["global"]; ok {
		return map[string]any{"global": global}
	}
	return map[string]any{}
}

// valueChanges lists the leaves that differ, by path.
func valueChanges(from, to map[string]any) []ValueChange {
	changes := []ValueChange{}
	before, after := leaves(from), leaves(to)
	paths := slices.Sorted(maps.Keys(after))
	for path := range before {
		if _, ok := after[path]; !ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		if !same(before[path], after[path]) {
			changes = append(changes, ValueChange{Path: path, From: shown(path, before[path]), To: shown(path, after[path])})
		}
	}
	return changes
}

// Hidden stands for a value that a plan does not show.
const Hidden = "(hidden)"

// secretWord is in the path of values that hold something secret, as in
// global.imagePullSecretToken or pilot.env.DB_PASSWORD.
var secretWord = regexp.MustCompile(`(?i)passw|token|secret|credential|private.?key|api.?key|signing.?key|\bcacerts?\b`)

// shown gives a value as a plan shows it: plans are printed, logged and handed
// around, so that nothing secret may be in them. Names of Secrets and switches
// are none.
func shown(path string, value any) any {
	text, isText := value.(string)
	_, isList := value.([]any)
	switch {
	case !secretWord.MatchString(path), isText && text == "", !isText && !isList:
		return value
	case strings.HasSuffix(strings.ToLower(path), "name"), strings.HasSuffix(path, "imagePullSecrets"), strings.HasSuffix(path, "imagePullPolicy"):
		return value
	}
	return Hidden
}

// leaves flattens nested maps; lists are leaves.
func leaves(values map[string]any) map[string]any {
	out := map[string]any{}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for key, value := range m {
			path := prefix + strings.ReplaceAll(key, ".", `\.`)
			if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
				walk(path+".", inner)
				continue
			}
			out[path] = value
		}
	}
	walk("", values)
	return out
}

// same compares values as YAML and JSON give them, where a number may be of
// several types.
func same(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	switch a.(type) {
	case int, int64, float64:
		return fmt.Sprint(a) == fmt.Sprint(b)
	}
	return false
}

// templateMentions tells whether the chart's templates or files use a value of
// this name at all.
func templateMentions(ch *helm.Chart, key string) bool {
	for _, text := range ch.Texts() {
		for rest := text; ; {
			at := strings.Index(rest, key)
			if at < 0 {
				break
			}
			after := rest[at+len(key):]
			starts := at > 0 && strings.ContainsRune(`."`, rune(rest[at-1]))
			if starts && (after == "" || !isWord(after[0])) {
				return true
			}
			rest = after
		}
	}
	return false
}

func isWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// unknownValues lists the user's values that the chart neither has a default
// for nor mentions in a template. What lies below a value that is a free-form
// map (its default is empty, or it is meshConfig) counts as known.
func unknownValues(ch *helm.Chart, user map[string]any) []string {
	unknown := []string{}
	var walk func(prefix string, values, defaults map[string]any)
	walk = func(prefix string, values, defaults map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			value, known := defaults[key]
			if !known {
				if !templateMentions(ch, key) {
					unknown = append(unknown, prefix+key)
				}
				continue
			}
			inner, isMap := values[key].(map[string]any)
			below, hasMap := value.(map[string]any)
			if isMap && hasMap && len(below) > 0 && key != "meshConfig" {
				walk(prefix+key+".", inner, below)
			}
		}
	}
	defaults := ch.Defaults()
	if pilot, ok := user["pilot"].(map[string]any); ok && defaults["pilot"] == nil {
		// Charts from 1.24 on take what is below pilot for the top level.
		user = maps.Clone(user)
		delete(user, "pilot")
		walk("pilot.", pilot, defaults)
	}
	walk("", user, defaults)
	return unknown
}
