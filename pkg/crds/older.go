package crds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// olderThan says in what the definitions of the cluster are older than the
// target's, one sentence for each definition without a final period: one that
// is missing, a version that is missing or not served, a field that the target
// knows and the cluster does not. What the cluster has beyond the target is no
// fault.
func olderThan(live []mesh.CRD, targets []target) []string {
	older := []string{}
	for _, t := range targets {
		at := slices.IndexFunc(live, func(c mesh.CRD) bool { return c.Name == t.Name })
		if at < 0 {
			older = append(older, t.Name+" is missing")
			continue
		}
		if reason := olderCRD(live[at].Object, t.Object); reason != "" {
			older = append(older, t.Name+" "+reason)
		}
	}
	return older
}

func olderCRD(live, wanted *apiextensionsv1.CustomResourceDefinition) string {
	for _, want := range wanted.Spec.Versions {
		at := slices.IndexFunc(live.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == want.Name })
		if at < 0 {
			return "lacks version " + want.Name
		}
		have := live.Spec.Versions[at]
		if want.Served && !have.Served {
			return fmt.Sprintf("does not serve version %s", want.Name)
		}
		if want.Schema == nil || have.Schema == nil {
			continue
		}
		if field := lackingField(have.Schema.OpenAPIV3Schema, want.Schema.OpenAPIV3Schema, ""); field != "" {
			return fmt.Sprintf("lacks the field %s of version %s", field, want.Name)
		}
	}
	return ""
}

// lackingField gives the first field, by name, that want has and have has not.
// A schema that keeps unknown fields lacks none.
func lackingField(have, want *apiextensionsv1.JSONSchemaProps, path string) string {
	if want == nil {
		return ""
	}
	if have == nil {
		return path
	}
	if have.XPreserveUnknownFields != nil && *have.XPreserveUnknownFields {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(want.Properties)) {
		wantField, field := want.Properties[name], path+"."+name
		haveField, ok := have.Properties[name]
		if !ok {
			return strings.TrimPrefix(field, ".")
		}
		if lacking := lackingField(&haveField, &wantField, field); lacking != "" {
			return lacking
		}
	}
	if want.Items != nil && want.Items.Schema != nil {
		var items *apiextensionsv1.JSONSchemaProps
		if have.Items != nil {
			items = have.Items.Schema
		}
		if lacking := lackingField(items, want.Items.Schema, path+"[]"); lacking != "" {
			return lacking
		}
	}
	if want.AdditionalProperties != nil && want.AdditionalProperties.Schema != nil {
		var additional *apiextensionsv1.JSONSchemaProps
		if have.AdditionalProperties != nil {
			additional = have.AdditionalProperties.Schema
		}
		return lackingField(additional, want.AdditionalProperties.Schema, path+".*")
	}
	return ""
}

// judgeDirection refuses to go back: the API server would prune the fields that only
// the newer definitions have, while newer definitions serve an older control plane.
func (p *Plan) judgeDirection(live []mesh.CRD) {
	to, ok := mesh.TagVersion(p.Brings())
	if !ok {
		return
	}
	var newest *semver.Version
	consider := func(version string) {
		if v, ok := mesh.TagVersion(version); ok && !mesh.IsPlaceholder(version) && (newest == nil || mesh.Compare(v, newest) > 0) {
			newest = v
		}
	}
	if p.work.release != nil {
		consider(p.work.release.ChartVersion)
	}
	for i := range live {
		if slices.ContainsFunc(p.work.targets, func(t target) bool { return t.Name == live[i].Name }) {
			consider(live[i].ChartVersion)
		}
	}
	if newest != nil && mesh.Skew(newest, to) == mesh.Downgrade {
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: "CRDs", Forceable: true,
			Reason: fmt.Sprintf("they are of Istio %s, so that %s is a downgrade: fields that only the newer ones have would be pruned", newest, to),
			Cure:   "leave them as they are: newer definitions serve an older control plane",
		})
	}
}
