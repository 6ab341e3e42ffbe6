package plugin

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// pages gives the Markdown files of the project by their path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	texts := map[string]string{}
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimPrefix(filepath.ToSlash(file), "../../")] = string(raw)
	}
	return texts
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

// anchor gives the name that GitHub gives a heading.
func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

// A link to another page, or to a heading in one, leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	texts := pages(t)
	for page, text := range texts {
		for _, found := range markdownLink.FindAllStringSubmatch(text, -1) {
			link := found[1]
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue // not ours
			}
			file, title, _ := strings.Cut(link, "#")
			target := page
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), file))
				if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
					t.Errorf("%s: dead link %s", page, link)
					continue
				}
			}
			if title == "" {
				continue
			}
			alive := false
			for _, h := range heading.FindAllStringSubmatch(texts[target], -1) {
				alive = alive || anchor(h[1]) == title
			}
			if !alive {
				t.Errorf("%s: %s has no heading %s", page, target, title)
			}
		}
	}
}

// commandLine is one call of the plugin in a page.
var commandLine = regexp.MustCompile("kubectl istio-upgrade ([^|#`\n]*(?:\\\\\n[^|#`\n]*)*)")

// What the pages tell people to type exists: every command, every flag.
func TestPagesNameRealFlags(t *testing.T) {
	root := NewCommand(genericiooptions.NewTestIOStreamsDiscard())
	seen := 0
	for page, text := range pages(t) {
		for _, found := range commandLine.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(strings.ReplaceAll(found[1], "\\\n", " "))
			if len(words) == 0 || strings.HasPrefix(words[0], "-") {
				continue
			}
			name := strings.Trim(words[0], ".,;:)'\"")
			if !regexp.MustCompile(`^[a-z-]+$`).MatchString(name) {
				continue // a placeholder such as CMD or <command>
			}
			cmd, _, err := root.Find([]string{name})
			if err != nil || cmd == root {
				t.Errorf("%s: there is no command in %q", page, found[0])
				continue
			}
			seen++
			for _, word := range words[1:] {
				checkFlag(t, page, cmd, word)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d calls found: is the pattern right?", seen)
	}
}

func checkFlag(t *testing.T, page string, cmd *cobra.Command, word string) {
	t.Helper()
	cmd.InitDefaultHelpFlag()
	word, _, _ = strings.Cut(strings.Trim(word, "[].,;:)'\""), "=")
	switch long, isLong := strings.CutPrefix(word, "--"); {
	case isLong && long != "" && cmd.Flag(long) == nil && cmd.InheritedFlags().Lookup(long) == nil:
		t.Errorf("%s: %s has no flag %s", page, cmd.Name(), word)
	case !isLong && len(word) == 2 && word[0] == '-' && cmd.Flags().ShorthandLookup(word[1:]) == nil && cmd.InheritedFlags().ShorthandLookup(word[1:]) == nil:
		t.Errorf("%s: %s has no flag %s", page, cmd.Name(), word)
	}
}

// docs/plugin-conventions.md says where each convention is shown: the tests and
// files that it names are there.
func TestConventionsAreShown(t *testing.T) {
	text := pages(t)["docs/plugin-conventions.md"]
	sources := testSources(t)
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(text, -1)
	if len(names) < 10 {
		t.Fatalf("only %d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(sources, "func "+name[1]+"(t *testing.T)") {
			t.Errorf("there is no test %s", name[1])
		}
	}
}

// The files and folders that pages for contributors name are there.
func TestPathsExist(t *testing.T) {
	texts := pages(t)
	for _, page := range []string{"CONTRIBUTING.md", "docs/plugin-conventions.md", "docs/performance.md"} {
		paths := regexp.MustCompile("`((?:pkg|cmd|test|tools|docs|krew|\\.github)(?:/[a-zA-Z0-9_.-]+)*|\\.goreleaser\\.yaml)`").FindAllStringSubmatch(texts[page], -1)
		if len(paths) == 0 {
			t.Errorf("%s names no path: is the pattern right?", page)
		}
		for _, path := range paths {
			if _, err := os.Stat(filepath.Join("../..", path[1])); err != nil {
				t.Errorf("%s: there is no %s", page, path[1])
			}
		}
	}
}

// testSources gives the text of all tests of the project.
func testSources(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, top := range []string{"../../pkg", "../../test", "../../cmd"} {
		err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			b.Write(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// docs/troubleshooting.md explains messages that there are.
func TestTroubleshootingQuotesRealMessages(t *testing.T) {
	var sources strings.Builder
	err := filepath.WalkDir("../../pkg", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		sources.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(pages(t)["docs/troubleshooting.md"], -1)
	if len(quoted) < 20 {
		t.Fatalf("only %d messages", len(quoted))
	}
	for _, message := range quoted {
		if !strings.Contains(sources.String(), message[1]) {
			t.Errorf("no message contains %q", message[1])
		}
	}
}
