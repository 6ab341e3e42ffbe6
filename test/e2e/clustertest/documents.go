package clustertest

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are those of docs, by name, compiled when first wanted.
var schemas = struct {
	sync.Mutex
	byName map[string]*jsonschema.Schema
}{byName: map[string]*jsonschema.Schema{}}

// schemaOf says which schema a command's -o json promises to follow.
var schemaOf = map[string]string{
	"crds": "report", "control-plane": "report", "sidecars": "report", "all": "report", "rollback": "report",
	"check": "check", "status": "status", "version": "version",
}

// wantDocument fails the test where a command that was to print JSON has printed
// something that its schema in docs does not allow. Every run of every test is
// looked at.
func wantDocument(t *testing.T, args []string, stdout string) {
	t.Helper()
	i := slices.Index(args, "-o")
	if stdout == "" || i < 0 || i+1 == len(args) || args[i+1] != "json" {
		return
	}
	if slices.Contains(args, "-f") && (slices.Contains(args, "--dry-run") || slices.Contains(args, "--dry-run=client")) {
		return // the manifests, as docs/manual-injection.md says
	}
	for _, arg := range args {
		if name, ok := schemaOf[arg]; ok {
			WantValid(t, name, stdout)
			return
		}
	}
}

// WantValid fails the test where a document is not as the schema of this name
// says.
func WantValid(t *testing.T, name, document string) {
	t.Helper()
	schemas.Lock()
	defer schemas.Unlock()
	if schemas.byName[name] == nil {
		s, err := jsonschema.NewCompiler().Compile(filepath.Join(root(), "docs", "schemas", name+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		schemas.byName[name] = s
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		t.Errorf("%v in %s", err, document)
		return
	}
	if err := schemas.byName[name].Validate(value); err != nil {
		t.Errorf("%v\n%s", err, document)
	}
}
