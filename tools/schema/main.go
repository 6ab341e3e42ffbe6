// Command schema writes the JSON Schemas of what the plugin prints and writes,
// made from its Go types, into docs/schemas. It runs in tools/schema.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

const folder = "docs/schemas"

func write() error {
	if err := os.Chdir(filepath.Join("..", "..")); err != nil {
		return err
	}
	schemas, err := generate()
	if err != nil {
		return err
	}
	for name, text := range schemas {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
