package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8sjson "k8s.io/apimachinery/pkg/util/json"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// parse reads a chunk: one document, or several JSON objects in a row. What it
// holds is read whole or not at all: a key given twice, a second document behind a
// line end that does not separate here, or a broken object among others is an error
// that names its place.
func parse(doc Document) ([]Document, error) {
	separator, body := splitSeparator(doc.Raw)
	if err := checkEntries(body); err != nil {
		return nil, doc.fail(err)
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		if docs, err := parseJSON(doc, len(separator)); len(docs) > 0 || err != nil {
			return docs, err
		}
	}
	if !mayHoldData(body) {
		return []Document{doc}, nil
	}
	if err := errors.Join(checkAliases(body), checkSingle(body)); err != nil {
		return nil, doc.fail(doc.locate(err))
	}
	data, err := yaml.YAMLToJSONStrict(body)
	if err != nil {
		return nil, doc.fail(doc.locate(err))
	}
	if doc.Object, err = toObject(data); err != nil {
		return nil, doc.fail(err)
	}
	return []Document{doc}, nil
}

func (d Document) fail(err error) error { return fmt.Errorf("%s: %w", d.Where(), err) }

// splitSeparator parts the opening separator line from the rest; a separator
// that has content after it (`--- {a: b}`) is left to the YAML reader.
func splitSeparator(raw []byte) (separator, body []byte) {
	if !isMark(raw, "---") {
		return nil, raw
	}
	end := bytes.IndexByte(raw, '\n') + 1
	if end == 0 {
		end = len(raw)
	}
	rest := bytes.TrimSpace(raw[3:end])
	if len(rest) > 0 && rest[0] != '#' {
		return nil, raw
	}
	return raw[:end], raw[end:]
}

// mayHoldData: a document of blank lines, comments and marks is empty.
func mayHoldData(body []byte) bool {
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) && !bytes.Equal(line, []byte("...")) {
			return true
		}
		if hasOtherLineEnd(line) { // where YAML may see the comment's end
			return true
		}
	}
	return false
}

// hasOtherLineEnd looks for what YAML 1.1 takes for the end of a line, and this
// reader and kubectl do not: a carriage return alone, NEL, LS and PS.
func hasOtherLineEnd(body []byte) bool {
	return bytes.ContainsAny(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), "\r\u0085\u2028\u2029")
}

// checkSingle refuses a document in which the YAML reader sees another one behind
// the first, which it would drop.
func checkSingle(body []byte) error {
	if !bytes.Contains(body, []byte("---")) && !bytes.Contains(body, []byte("...")) {
		return nil
	}
	decoder := yamlv3.NewDecoder(bytes.NewReader(body))
	var node yamlv3.Node
	if err := decoder.Decode(&node); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	err := decoder.Decode(&node)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	case hasOtherLineEnd(body):
		return fmt.Errorf("line %d: another document begins here, behind a line end that is not a line feed; convert the file's line ends", node.Line)
	default:
		return fmt.Errorf("line %d: another document begins here without a separator (---) of its own line", node.Line)
	}
}

// parseJSON reads objects in a row. It gives nothing where the first is none: that
// may be YAML in braces.
func parseJSON(doc Document, start int) ([]Document, error) {
	var docs []Document
	decoder := json.NewDecoder(bytes.NewReader(doc.Raw[start:]))
	from := 0
	for {
		next := Document{
			Source: doc.Source, Index: doc.Index + len(docs), JSON: true,
			Line: doc.Line + bytes.Count(doc.Raw[:from], []byte("\n")),
		}
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) || err != nil && len(docs) > 0 && !mayHoldData(doc.Raw[from:]) {
			break
		}
		if err == nil {
			next.Object, err = toObject(raw)
		}
		switch {
		case err != nil && len(docs) == 0:
			return nil, nil
		case err != nil:
			return nil, next.fail(fmt.Errorf("behind a JSON object: %w", err))
		}
		if err := checkKeys(raw); err != nil {
			return nil, next.fail(err)
		}
		end := start + int(decoder.InputOffset())
		next.Raw = doc.Raw[from:end]
		docs = append(docs, next)
		from = end
	}
	if len(docs) > 0 { // what follows the last object belongs to it
		last := &docs[len(docs)-1]
		last.Raw = doc.Raw[from-len(last.Raw):]
	}
	return docs, nil
}

// checkKeys refuses a JSON object that has a key twice.
func checkKeys(raw []byte) error {
	var value any
	twice, err := strictjson.UnmarshalStrict(raw, &value, strictjson.DisallowDuplicateFields)
	return errors.Join(append(twice, err)...)
}

func toObject(data []byte) (*unstructured.Unstructured, error) {
	var value any
	if err := k8sjson.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	switch value := value.(type) {
	case nil:
		return nil, nil // an empty document is neither an object nor an error
	case map[string]any:
		return &unstructured.Unstructured{Object: value}, nil
	case []any:
		return nil, errors.New("is a list, not an object; a list of objects has kind: List and items")
	default:
		return nil, fmt.Errorf("is a bare %T, not an object", value)
	}
}
