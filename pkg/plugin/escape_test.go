package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, with ünïcode 日本語":    "plain, with ünïcode 日本語",
		"\x1b[2Jgone":                "^[[2Jgone",
		"a\rb":                       `a\rb`,
		"bell\a, C1 \u009b31m":       `bell\x07, C1 \x9b31m`,
		"one\nerror: two":            "one error: two",
		"\u202egnp.exe\u202c":        `\u202egnp.exe\u202c`,
		"zero\u200bwidth\ufeff":      `zero\u200bwidth\ufeff`,
		"next\u2028line":             `next\u2028line`,
		"not UTF-8 \xff":             "not UTF-8 \ufffd",
		strings.Repeat("é", 4000):    strings.Repeat("é", 4000),
		strings.Repeat("é", 4010):    strings.Repeat("é", 4000) + "… (10 more characters)",
		"shop\u2066\U000e0041\u2069": `shop\u2066\ue0041\u2069`,
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q)\n got %q\nwant %q", in, got, want)
		}
	}
	if got := cell("a\nb\tc" + strings.Repeat("d", 400)); strings.ContainsAny(got, "\n\t") || !strings.HasSuffix(got, "… (105 more characters)") {
		t.Errorf("cell: %q", got)
	}
}

// JSON means the same with what is hidden written as escapes.
func TestHarmlessJSON(t *testing.T) {
	t.Parallel()
	const text = "\u009b31m\u202eabc\u200b\U000e0041 日本語"
	raw, err := json.MarshalIndent(map[string]string{"name": text}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	safe := harmlessJSON(raw)
	if bytes.ContainsFunc(safe, hidden) || !bytes.Contains(safe, []byte("日本語")) {
		t.Errorf("%q", safe)
	}
	var back map[string]string
	if err := json.Unmarshal(safe, &back); err != nil || back["name"] != text {
		t.Errorf("%v: %q", err, back["name"])
	}
}

func TestVerboseLogIsDiscreet(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, record := range []string{
		"I1125 10:00:00 1 round_trippers.go:1] \"Request\" verb=\"GET\"\n",
		"I1125 10:00:00 1 request.go:1] \"Response Body\" body=<\n\t{\"data\":{\"password\":\"aHVudGVyMg==\"}}\n >\n",
		"I1125 10:00:00 1 request.go:1] \"Request Body\" body=\"hunter2\"\n",
	} {
		if n, err := (discreet{&out}).Write([]byte(record)); err != nil || n != len(record) {
			t.Fatal(n, err)
		}
	}
	if text := out.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "aHVud") || !strings.Contains(text, `verb="GET"`) || strings.Count(text, "\n") != 3 {
		t.Error(text)
	}
}

// TestClientLogsStayQuiet lets client-go's log write an error, which must reach
// neither the terminal without -v nor os.Stderr past what is set.
func TestClientLogsStayQuiet(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = write
	t.Cleanup(func() { os.Stderr = stderr })
	var out strings.Builder
	quietKlog(&out)
	klog.ErrorS(errors.New("context canceled"), "Unexpected error when reading response body")
	klog.Flush()
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	if past, err := io.ReadAll(read); err != nil || len(past) > 0 || out.Len() > 0 {
		t.Errorf("past: %q, through: %q, %v", past, out.String(), err)
	}
}
