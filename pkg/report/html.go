package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"reflect"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// WriteHTML writes the run as one page that needs nothing else. All text of the
// run goes through show first, which makes visible what a browser would obey and
// HTML does not know: marks of writing direction, control characters. It is
// escaped where it stands: as HTML, and in the data of the charts as JSON in which
// no character can end the script element (encoding/json writes <, > and & as \u
// escapes).
func WriteHTML(w io.Writer, run *Run, show func(string) string) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		// The style sheet and the script are this package's own.
		"css": func() template.CSS { return template.CSS(pageCSS) },
		"js":  func() template.JS { return template.JS(pageJS) },
		"data": func(run *Run) (template.JS, error) {
			raw, err := json.Marshal(run)
			return template.JS(raw), err
		},
		"rfc3339": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}).Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("read the page of the report: %w", err)
	}
	run.fill()
	texts(reflect.ValueOf(run).Elem(), show)
	if err := page.Execute(w, run); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// fill gives empty lists instead of none, as the page's script wants them.
func (r *Run) fill() {
	r.Steps, r.Changes, r.Workloads = list(r.Steps), list(r.Changes), list(r.Workloads)
	r.Services, r.Left, r.Notes = list(r.Services), list(r.Left), list(r.Notes)
	for i := range r.Workloads {
		r.Workloads[i].Services, r.Workloads[i].Marks = list(r.Workloads[i].Services), list(r.Workloads[i].Marks)
	}
}

// texts passes every text below v through show.
func texts(v reflect.Value, show func(string) string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(show(v.String()))
	case reflect.Slice:
		for i := range v.Len() {
			texts(v.Index(i), show)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() { // a time has other fields only
				texts(value, show)
			}
		}
	}
}

func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
