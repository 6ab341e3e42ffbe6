package inject

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// maxEntries is the most lines and commas that one document may have. Each can
// be a value, which takes some hundred bytes once it is read; a List of ten
// thousand workloads has less.
const maxEntries = 4 << 20

// checkEntries refuses a document that would take too much time and memory to
// read although its bytes are few enough.
func checkEntries(body []byte) error {
	if bytes.Count(body, []byte("\n"))+bytes.Count(body, []byte(",")) > maxEntries {
		return fmt.Errorf("it has more than %d lines and list entries; give it in several documents", maxEntries)
	}
	return nil
}

// checkAliases refuses a document whose aliases would expand beyond MaxDocument.
// The YAML reader bounds how many nodes aliases make, but not their bytes.
func checkAliases(body []byte) error {
	if !bytes.ContainsRune(body, '&') || !bytes.ContainsRune(body, '*') {
		return nil
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(body, &root); err != nil {
		return err
	}
	size, err := expandedSize(&root, map[*yamlv3.Node]int{})
	if err != nil {
		return err
	}
	if size > MaxDocument {
		return fmt.Errorf("its aliases expand to more than %d MiB", MaxDocument>>20)
	}
	return nil
}

// expandedSize is a node's size in bytes with all aliases written out, counted
// once for each anchor. It stops growing past the limit.
func expandedSize(node *yamlv3.Node, known map[*yamlv3.Node]int) (int, error) {
	if size, seen := known[node]; seen {
		if size < 0 {
			return 0, errors.New("an anchor contains itself")
		}
		return size, nil
	}
	known[node] = -1
	size := len(node.Value) + 1
	if node.Alias != nil {
		n, err := expandedSize(node.Alias, known)
		if err != nil {
			return 0, err
		}
		size += n
	}
	for _, child := range node.Content {
		n, err := expandedSize(child, known)
		if err != nil {
			return 0, err
		}
		size = min(size+n, MaxDocument+1)
	}
	known[node] = size
	return size, nil
}

var errorLine = regexp.MustCompile(`\bline (\d+)`)

// locate turns the line numbers of a YAML error, which count from the document's
// start, into those of the stream.
func (d Document) locate(err error) error {
	separator, _ := splitSeparator(d.Raw)
	before := d.Line - 1 + bytes.Count(separator, []byte("\n"))
	text := errorLine.ReplaceAllStringFunc(err.Error(), func(s string) string {
		n, convErr := strconv.Atoi(s[len("line "):])
		if convErr != nil {
			return s
		}
		return "line " + strconv.Itoa(n+before)
	})
	text = strings.NewReplacer("unmarshal errors:\n  ", "", "\n  ", "; ").Replace(text) // one line
	return &yamlError{text: text, err: err}
}

// yamlError is a reader's error with the stream's line numbers.
type yamlError struct {
	text string
	err  error
}

func (e *yamlError) Error() string { return e.text }
func (e *yamlError) Unwrap() error { return e.err }
