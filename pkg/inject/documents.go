package inject

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// MaxDocument is the most that one document of a stream may have, in bytes, and
// what its aliases may expand to. The API server takes 3 MiB in a request; a
// List that a person pipes through may be larger.
const MaxDocument = 64 << 20

// Document is one document of a manifest stream.
type Document struct {
	Source string // file name or URL
	Index  int    // from 1
	Line   int    // its first line in the stream, from 1
	Raw    []byte // as it came, with the separator line that opens it
	JSON   bool
	Object *unstructured.Unstructured // nil for an empty document or one of comments only
}

// Where names the document for errors.
func (d Document) Where() string {
	return fmt.Sprintf("%s: document %d (line %d)", d.Source, d.Index, d.Line)
}

// Documents reads a stream of YAML or JSON documents one at a time.
type Documents struct {
	source  string
	in      *bufio.Reader
	line    int    // of the next line to be read
	index   int    // documents given so far
	held    []byte // the separator line that opens the next document
	queue   []Document
	atEnd   bool
	maximum int
}

// NewDocuments reads from in; source names it in errors. UTF-16 with a byte order
// mark, which PowerShell's redirection writes, is read as UTF-8.
func NewDocuments(source string, in io.Reader) *Documents {
	return &Documents{source: source, in: bufio.NewReaderSize(in, 64<<10), line: 1, maximum: MaxDocument}
}

// decode makes UTF-8 of a stream that begins with the mark of UTF-16.
func (d *Documents) decode() {
	start, err := d.in.Peek(2)
	if err != nil || !bytes.Equal(start, []byte("\xff\xfe")) && !bytes.Equal(start, []byte("\xfe\xff")) {
		return
	}
	utf16 := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder()
	d.in = bufio.NewReaderSize(utf16.Reader(d.in), 64<<10)
}

// Next returns the next document, or io.EOF after the last. Broken YAML, a
// document that is no object, one that is too large (MaxDocument, also by its
// aliases) or nested too deep gives an error with its place.
func (d *Documents) Next() (Document, error) {
	if len(d.queue) == 0 {
		if err := d.fill(); err != nil {
			return Document{}, err
		}
	}
	doc := d.queue[0]
	d.queue = d.queue[1:]
	return doc, nil
}

// fill reads up to the next separator.
func (d *Documents) fill() error {
	first := d.line
	if len(d.held) > 0 {
		first--
	}
	raw, err := d.chunk()
	if err != nil {
		return err
	}
	doc := Document{Source: d.source, Index: d.index + 1, Line: first, Raw: raw}
	docs, err := parse(doc)
	if err != nil {
		return err
	}
	d.index += len(docs)
	d.queue = docs
	return nil
}

// chunk reads one document's bytes: from its separator up to the next one, or to
// an end mark (...), which belongs to it.
func (d *Documents) chunk() ([]byte, error) {
	if d.atEnd {
		return nil, io.EOF
	}
	if d.line == 1 {
		d.decode()
	}
	chunk := d.held
	d.held = nil
	for {
		line, err := d.readLine(d.maximum - len(chunk))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if errors.Is(err, io.EOF) {
			d.atEnd = true
		}
		if len(line) > 0 {
			d.line++
		}
		if isMark(line, "---") && len(chunk) > 0 && !onlyDirectives(chunk) {
			d.held = line
			d.atEnd = false
			if errors.Is(err, io.EOF) { // the separator is the last line
				d.in.Reset(bytes.NewReader(nil))
			}
			return chunk, nil
		}
		chunk = append(chunk, line...)
		if isMark(line, "...") {
			return chunk, nil
		}
		if d.atEnd {
			if len(chunk) == 0 {
				return nil, io.EOF
			}
			return chunk, nil
		}
	}
}

// readLine reads a line with its end, at most limit bytes.
func (d *Documents) readLine(limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := d.in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return nil, fmt.Errorf("%s: document %d is larger than %d MiB", d.source, d.index+1, d.maximum>>20)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: cannot read: %w", d.source, err)
		}
		return line, err
	}
}

// onlyDirectives: `%YAML 1.2` stands before the separator of its document.
func onlyDirectives(chunk []byte) bool {
	directive := false
	for line := range bytes.Lines(chunk) {
		switch line = bytes.TrimSpace(line); {
		case len(line) == 0, line[0] == '#':
		case line[0] == '%':
			directive = true
		default:
			return false
		}
	}
	return directive
}

// isMark: a document mark stands at the line's start, alone or before a space;
// the separator also before a comment, as kubectl reads it (YAMLReader in
// k8s.io/apimachinery/pkg/util/yaml/decoder.go).
func isMark(line []byte, mark string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	return ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])) || rest[0] == '#' && mark == "---")
}
