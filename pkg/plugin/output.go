package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

// outputFlag is -o.
type outputFlag struct{ value string }

func (o *outputFlag) add(flags *pflag.FlagSet) {
	flags.StringVarP(&o.value, "output", "o", "table", "Output format: table, wide, json, yaml, name, or jsonpath=TEMPLATE, go-template=TEMPLATE and their like of kubectl")
}

func (o *outputFlag) validate() error {
	switch o.value {
	case "", "table", "wide", "json", "yaml", "name":
		return nil
	}
	_, err := o.template()
	switch {
	case genericclioptions.IsNoCompatiblePrinterError(err):
		return usagef("-o is table, wide, json, yaml, name, or jsonpath=TEMPLATE, go-template=TEMPLATE and their like of kubectl, not %q", o.value)
	case err != nil:
		return usagef("-o %s: %w", o.value, err)
	}
	return nil
}

func (o *outputFlag) wide() bool { return o.value == "wide" }
func (o *outputFlag) name() bool { return o.value == "name" }

// structured says whether one document is printed instead of tables.
func (o *outputFlag) structured() bool {
	switch o.value {
	case "", "table", "wide", "name":
		return false
	}
	return true
}

// template gives the printer of kubectl's templates. A path without braces is
// one too: .a.b and a.b mean {.a.b}, as for kubectl
// (kubernetes/kubectl:pkg/cmd/get/customcolumn.go, RelaxedJSONPathExpression).
func (o *outputFlag) template() (printers.ResourcePrinter, error) {
	format := o.value
	if path, ok := strings.CutPrefix(format, "jsonpath="); ok && path != "" && !strings.ContainsAny(path, "{}") {
		format = "jsonpath={." + strings.TrimPrefix(path, ".") + "}"
	}
	return genericclioptions.NewKubeTemplatePrintFlags().ToPrinter(format)
}

// print writes a value in the form that was asked for.
func (o *outputFlag) print(w io.Writer, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	switch {
	case o.value == "json":
		_, err = fmt.Fprintln(w, string(harmlessJSON(raw)))
	case o.value == "yaml":
		var text []byte
		if text, err = yaml.JSONToYAML(raw); err == nil {
			_, err = io.WriteString(w, visible(string(text)))
		}
	default:
		var printer printers.ResourcePrinter
		if printer, err = o.template(); err != nil {
			return err
		}
		var document unstructured.Unstructured
		if err = json.Unmarshal(raw, &document.Object); err == nil {
			var text strings.Builder
			if err = printer.PrintObj(&document, &text); err == nil {
				_, err = io.WriteString(w, strings.TrimSuffix(visible(text.String()), "\n")+"\n")
			}
		}
	}
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
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
	for i := range cells {
		if text, ok := cells[i].(string); ok {
			cells[i] = cell(text)
		}
	}
	t.Rows = append(t.Rows, metav1.TableRow{Cells: cells})
}

func (t *table) print(w io.Writer, wide bool) error {
	if len(t.Rows) == 0 {
		return nil
	}
	return printers.NewTablePrinter(printers.PrintOptions{Wide: wide}).PrintObj(&t.Table, w)
}
