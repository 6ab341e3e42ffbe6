package inject

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Format is how manifests are written.
type Format string

// The formats.
const (
	FormatAsRead Format = ""     // every document in the form it came in
	FormatYAML   Format = "yaml" // JSON documents become YAML
	FormatJSON   Format = "json" // YAML documents become JSON; empty ones go
)

// Summary says what UninjectManifests did.
type Summary struct {
	Documents int         `json:"documents"`
	Changed   int         `json:"changed"`
	Removed   []Injection `json:"removed"`
	Notes     []Note      `json:"notes"`
}

// UninjectManifests copies manifests to out with the sidecars taken out.
// Documents without one go through byte for byte, unless the format asks for
// another form; separators and Lists keep their shape. Up to MaxDocument bytes
// of output are held back until all input was read, so that an error leaves out
// empty; past that it streams.
func UninjectManifests(ctx context.Context, sources []Source, format Format, out io.Writer) (Summary, error) {
	summary := Summary{Removed: []Injection{}, Notes: []Note{}}
	w := &manifestWriter{out: out, format: format}
	for _, source := range sources {
		if err := uninjectSource(ctx, source, w, &summary); err != nil {
			return summary, err
		}
	}
	return summary, w.flush()
}

func uninjectSource(ctx context.Context, source Source, w *manifestWriter, summary *Summary) error {
	in, err := source.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	documents := NewDocuments(source.Name, in)
	w.fresh = true
	for ctx.Err() == nil {
		doc, err := documents.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		summary.Documents++
		clean, result, err := uninjectDocument(doc)
		if err != nil {
			return err
		}
		if result.Changed {
			summary.Changed++
		}
		summary.Removed = append(summary.Removed, result.Removed...)
		summary.Notes = append(summary.Notes, result.Notes...)
		if err := w.write(doc, clean, result.Changed); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func uninjectDocument(doc Document) (*unstructured.Unstructured, Result, error) {
	if doc.Object == nil {
		return nil, Result{}, nil
	}
	clean, result, err := Uninject(doc.Object)
	if err != nil {
		return nil, Result{}, fmt.Errorf("%s: %w", doc.Where(), err)
	}
	return clean, result, nil
}

// manifestWriter puts documents together again.
type manifestWriter struct {
	out    io.Writer
	format Format
	buffer bytes.Buffer
	last   byte // written
	some   bool // anything written
	fresh  bool // the next document is the first of its source
}

func (w *manifestWriter) write(doc Document, object *unstructured.Unstructured, changed bool) error {
	asJSON := w.format == FormatJSON || w.format == FormatAsRead && doc.JSON
	// Of a stream of JSON no separator, comment or mark may be left.
	untouched := !changed && (w.format == FormatAsRead || w.format == FormatYAML && !doc.JSON)
	if object == nil && w.format == FormatJSON {
		return nil
	}
	if untouched || object == nil {
		w.separate(doc.Raw, true)
		return w.put(doc.Raw)
	}
	separator, _ := splitSeparator(doc.Raw)
	var body []byte
	var err error
	if asJSON {
		body, err = json.MarshalIndent(object.Object, "", "    ")
		body = append(body, '\n')
	} else {
		body, err = yaml.Marshal(object.Object)
	}
	if err != nil {
		return fmt.Errorf("%s: cannot write: %w", doc.Where(), err)
	}
	switch {
	case w.format == FormatJSON:
		separator = nil
	case len(separator) == 0 && isMark(doc.Raw, "---"), !asJSON && w.some && len(separator) == 0:
		separator = []byte("---\n")
	}
	w.separate(append(separator, body...), false)
	if err := w.put(separator); err != nil {
		return err
	}
	return w.put(body)
}

// separate makes sure that a document begins on a line of its own, and that the
// first of another source does not run into the last one. Between documents that
// are copied as they are (exact) nothing is added.
func (w *manifestWriter) separate(next []byte, exact bool) {
	if w.some && w.last != '\n' && (!exact || w.fresh) {
		w.buffer.WriteByte('\n')
	}
	if w.some && w.fresh && !isMark(next, "---") && w.format != FormatJSON {
		w.buffer.WriteString("---\n")
	}
}

func (w *manifestWriter) put(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	w.buffer.Write(data)
	w.some, w.fresh, w.last = true, false, data[len(data)-1]
	if w.buffer.Len() > MaxDocument {
		return w.flush()
	}
	return nil
}

func (w *manifestWriter) flush() error {
	if _, err := w.buffer.WriteTo(w.out); err != nil {
		return fmt.Errorf("cannot write the manifests: %w", err)
	}
	return nil
}
