package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/invopop/jsonschema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/plugin"
)

const module = "github.com/kubectl-istio-upgrade/kubectl-istio-upgrade"

// generate gives the schemas by the names of their files. It must run in the
// root of the module, the comments of which become descriptions.
func generate() (map[string][]byte, error) {
	schemas := map[string][]byte{}
	for _, d := range plugin.Documents() {
		text, err := schemaOf(d)
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", d.Name, err)
		}
		schemas[d.Name+".schema.json"] = text
	}
	return schemas, nil
}

func schemaOf(d plugin.Document) ([]byte, error) {
	r := &jsonschema.Reflector{
		// A later release of the same version may add fields.
		AllowAdditionalProperties: true,
		Anonymous:                 true,
		Namer:                     name,
	}
	if err := r.AddGoComments(module, "./pkg"); err != nil {
		return nil, err
	}
	s := r.ReflectFromType(reflect.TypeOf(d.Value))
	s.ID = jsonschema.ID(plugin.SchemaID(d.Name))
	s.Title = d.Title
	top := s.Definitions[name(reflect.TypeOf(d.Value))]
	for property, values := range d.Parts {
		alternatives := []*jsonschema.Schema{}
		for _, value := range values {
			part := r.ReflectFromType(reflect.TypeOf(value))
			for key, definition := range part.Definitions {
				s.Definitions[key] = definition
			}
			part.Version, part.ID, part.Definitions = "", "", nil
			alternatives = append(alternatives, part)
		}
		old, _ := top.Properties.Get(property)
		top.Properties.Set(property, &jsonschema.Schema{AnyOf: alternatives, Description: old.Description})
	}
	for property, value := range d.Constants {
		old, _ := top.Properties.Get(property)
		old.Const = value
	}
	for property, values := range d.Known {
		// Not an enum: readers must bear values that a later release adds.
		old, _ := top.Properties.Get(property)
		old.Examples = values
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(s)
	return b.Bytes(), err
}

// name names a definition by its type, and by its package where several have
// a type of that name: "SidecarsPlan", "Event".
func name(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Name() == "" {
		return "" // a list or a map, which stands where it is used
	}
	first, size := utf8.DecodeRuneInString(t.Name())
	own := string(unicode.ToUpper(first)) + t.Name()[size:]
	pkg, inside := strings.CutPrefix(t.PkgPath(), module+"/pkg/")
	if !inside || pkg == "plugin" {
		return own
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + own
}
