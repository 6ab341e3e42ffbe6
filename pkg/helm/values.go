package helm

import (
	"io"
	"maps"
	"os"
	"strings"

	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// UserValues merges values files, in their order, and --set expressions over
// them. A file that cannot be read or is no YAML mapping, and an expression
// that cannot be parsed, give a *gate.BadInput.
func UserValues(files, sets []string) (map[string]any, error) {
	merged := map[string]any{}
	for _, file := range files {
		values, err := valuesIn(file)
		if err != nil {
			return nil, err
		}
		merged = loader.MergeMaps(merged, values)
	}
	for _, expression := range sets {
		if !strings.Contains(expression, "=") {
			return nil, gate.BadInputf("--set %s: there is no = in it; give it as KEY=VALUE", expression)
		}
		if err := strvals.ParseInto(expression, merged); err != nil {
			return nil, gate.BadInputf("--set %s: %v", expression, err)
		}
	}
	return merged, nil
}

// maxValues bounds a values file: all of Istio's own values with their comments
// are 60 KiB.
const maxValues = 4 << 20

// valuesIn reads a values file. Its aliases cannot explode: the parser counts
// what they expand to (go.yaml.in/yaml: decode.go).
func valuesIn(file string) (map[string]any, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, gate.BadInputf("read the values file: %v", err)
	}
	defer func() { _ = in.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(in, maxValues+1))
	if err != nil {
		return nil, gate.BadInputf("read the values file: %v", err)
	}
	if len(data) > maxValues {
		return nil, gate.BadInputf("the values file %s is larger than %d MiB", file, maxValues>>20)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(data, &values); err != nil {
		return nil, gate.BadInputf("the values file %s is no YAML mapping: %s", file, strings.ReplaceAll(err.Error(), "\n", ";"))
	}
	return values, nil
}

// Reuse lays changes over the values that a user gave a release before, as
// Helm's --reset-then-reuse-values does: what is not among them comes from the
// new chart's defaults. Neither argument is changed.
func Reuse(stored, changes map[string]any) map[string]any {
	return commonutil.CoalesceTables(copyValues(changes), copyValues(stored))
}

// Defaults gives a chart's values as its templates see them: Istio keeps them
// one level down, under a name that changed with 1.24, and lays the user's over
// them (istio/istio:manifests/zzz_profile.yaml).
func (c *Chart) Defaults() map[string]any {
	values := copyValues(c.Chart.Values)
	if all, err := commonutil.CoalesceValues(c.Chart, map[string]any{}); err == nil {
		values = all // with those of subcharts
	}
	for _, nest := range []string{"_internal_defaults_do_not_set", "defaults"} {
		if inner, ok := values[nest].(map[string]any); ok {
			outer := maps.Clone(values)
			delete(outer, nest)
			return Reuse(inner, outer)
		}
	}
	return values
}

// copyValues copies maps and lists, so that what Helm merges in place stays
// ours.
func copyValues(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for key, value := range values {
		out[key] = copyValue(value)
	}
	return out
}

func copyValue(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return copyValues(v)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = copyValue(item)
		}
		return list
	}
	return value
}
