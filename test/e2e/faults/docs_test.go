package faults

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The table of docs/reliability.md names the tests that there are, and every
// case of this package stands in it.
func TestReliabilityNamesTheTests(t *testing.T) {
	text, err := os.ReadFile("../../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, words := parsed(t, ".", "..", "../../lab", "../../../pkg/*")
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?`").FindAllStringSubmatch(string(text), -1) {
		test, name := match[1], match[2]
		named[name] = true
		dir, ok := tests[test]
		switch {
		case !ok:
			t.Errorf("there is no test %s", test)
		case name != "" && !slices.Contains(words[dir], name):
			t.Errorf("%s has no case %q", test, name)
		}
	}
	if len(named) < 60 {
		t.Errorf("only %d cases are named", len(named))
	}
	for _, f := range slices.Concat(sidecarsFaults...) {
		if !named[f.name] {
			t.Errorf("the case %q is not told of", f.name)
		}
	}
	for _, f := range chartFaults {
		if !named[f.name] {
			t.Errorf("the case %q is not told of", f.name)
		}
	}
	for promise := range 8 {
		if !strings.Contains(string(text), "\n| "+strconv.Itoa(promise+1)+". ") {
			t.Errorf("promise %d points at no test", promise+1)
		}
	}
}

// parsed gives the folder of each test function, and the strings that stand in
// the tests of a folder.
func parsed(t *testing.T, patterns ...string) (tests map[string]string, words map[string][]string) {
	t.Helper()
	tests, words = map[string]string{}, map[string][]string{}
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(pattern, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", pattern, err)
		}
		for _, file := range files {
			syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Dir(file)
			ast.Inspect(syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Recv == nil && strings.HasPrefix(n.Name.Name, "Test") {
						tests[n.Name.Name] = dir
					}
				case *ast.BasicLit:
					if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
						words[dir] = append(words[dir], s)
					}
				}
				return true
			})
		}
	}
	return tests, words
}
