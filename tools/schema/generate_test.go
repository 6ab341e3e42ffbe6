package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The schemas in docs/schemas are those of the types. "go -C tools/schema run ."
// writes them anew; what changes there must be an addition, or else the version
// goes up.
func TestSchemasAreThoseOfTheTypes(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	schemas, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(schemas) {
		t.Errorf("%d files in %s, %d schemas", len(files), folder, len(schemas))
	}
	for name, want := range schemas {
		have, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s has drifted from the Go types: write it anew and look at the difference", name)
		}
	}
}
