package crds

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The API server's own limits on what validation rules may cost
// (k8s.io/apiserver/pkg/apis/cel/config.go).
const (
	celCallLimit = 1000000
	celBudget    = 10000000
)

// validator judges objects by the schema of one version of a definition, as
// the API server does when they are written.
type validator struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// newValidator makes the validator for a version of a definition; one that
// takes everything where the definition has no schema for it. The error says what of the schema is
// wrong.
func newValidator(crd *apiextensionsv1.CustomResourceDefinition, version string) (*validator, error) {
	at := slices.IndexFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == version })
	if at < 0 || crd.Spec.Versions[at].Schema == nil || crd.Spec.Versions[at].Schema.OpenAPIV3Schema == nil {
		return &validator{}, nil
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[at].Schema.OpenAPIV3Schema, props, nil); err != nil {
		return nil, fmt.Errorf("read the schema of %s %s: %w", crd.Name, version, err)
	}
	v := &validator{}
	var err error
	if v.schema, _, err = validation.NewSchemaValidator(props); err != nil {
		return nil, fmt.Errorf("read the schema of %s %s: %w", crd.Name, version, err)
	}
	// Schemas of v1beta1 need not be structural: then neither defaults nor
	// rules exist.
	if v.structural, err = schema.NewStructural(props); err == nil {
		v.rules = cel.NewValidator(v.structural, true, celCallLimit)
	}
	return v, nil
}

// errors gives what is wrong with an object, by field: what its next write
// would be refused for, and the fields that it would lose. The object is not
// changed.
func (v *validator) errors(ctx context.Context, object *unstructured.Unstructured) []string {
	if v.schema == nil {
		return nil
	}
	content := object.DeepCopy().Object
	found := []string{}
	if v.structural != nil {
		lost := pruning.PruneWithOptions(content, v.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
		for _, path := range lost {
			found = append(found, path+": unknown to the schema, and dropped by the next write")
		}
		defaulting.Default(content, v.structural)
	}
	errs := validation.ValidateCustomResource(nil, content, v.schema)
	if v.structural != nil {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, content)...)
	}
	if v.rules != nil && len(errs) == 0 {
		ruleErrs, _ := v.rules.Validate(ctx, nil, v.structural, content, nil, celBudget)
		errs = append(errs, ruleErrs...)
	}
	for _, err := range errs {
		found = append(found, fieldText(err))
	}
	return found
}

func fieldText(err *field.Error) string {
	if err.Field == "" || err.Field == "<nil>" {
		return err.ErrorBody()
	}
	return err.Field + ": " + err.ErrorBody()
}
