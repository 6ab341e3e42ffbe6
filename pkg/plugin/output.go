package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// outputFlag is -o.
type outputFlag struct{ value string }

func (o *outputFlag) add(flags *pflag.FlagSet) {
	flags.StringVarP(&o.value, "output", "o", "table", "table, wide, json, yaml, name or jsonpath=TEMPLATE")
}

func (o *outputFlag) validate() error {
	switch o.value {
	case "", "table", "wide", "json", "yaml", "name":
		return nil
	}
	if _, ok := o.template(); ok {
		_, err := o.parse()
		return err
	}
	return usagef("-o is table, wide, json, yaml, name or jsonpath=TEMPLATE, not %q", o.value)
}

func (o *outputFlag) wide() bool { return o.value == "wide" }
func (o *outputFlag) name() bool { return o.value == "name" }

// structured says whether one document is printed instead of tables.
func (o *outputFlag) structured() bool {
	_, ok := o.template()
	return ok || o.value == "json" || o.value == "yaml"
}

func (o *outputFlag) template() (string, bool) { return strings.CutPrefix(o.value, "jsonpath=") }

func (o *outputFlag) parse() (*jsonpath.JSONPath, error) {
	text, _ := o.template()
	path := jsonpath.New("output").AllowMissingKeys(true)
	if err := path.Parse(text); err != nil {
		return nil, usagef("-o %s: %w", o.value, err)
	}
	return path, nil
}

// print writes a value in the form that was asked for.
func (o *outputFlag) print(w io.Writer, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	switch {
	case o.value == "json":
		_, err = fmt.Fprintln(w, string(raw))
	case o.value == "yaml":
		var text []byte
		if text, err = yaml.JSONToYAML(raw); err == nil {
			_, err = w.Write(text)
		}
	default:
		var path *jsonpath.JSONPath
		var data any
		if path, err = o.parse(); err != nil {
			return err
		}
		if err = json.Unmarshal(raw, &data); err == nil {
			if err = path.Execute(w, data); err == nil {
				_, err = fmt.Fprintln(w)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// escape makes text from the cluster harmless for a terminal.
func escape(text string) string {
	var b strings.Builder
	_ = printers.WriteEscaped(&b, text) // a Builder does not fail
	return b.String()
}

// table is rows under a head, printed as kubectl prints tables.
type table struct {
	metav1.Table
}

// newTable makes a table; columns whose name begins with "+" are for -o wide.
func newTable(columns ...string) *table {
	t := &table{}
	for _, c := range columns {
		name, wide := strings.CutPrefix(c, "+")
		priority := int32(0)
		if wide {
			priority = 1
		}
		t.ColumnDefinitions = append(t.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string", Priority: priority})
	}
	return t
}

func (t *table) row(cells ...any) {
	t.Rows = append(t.Rows, metav1.TableRow{Cells: cells})
}

func (t *table) print(w io.Writer, wide bool) error {
	if len(t.Rows) == 0 {
		return nil
	}
	return printers.NewTablePrinter(printers.PrintOptions{Wide: wide}).PrintObj(&t.Table, w)
}
