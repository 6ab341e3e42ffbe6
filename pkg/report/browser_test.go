package report

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// chromium gives a headless browser. Without one the tests are skipped, unless
// REQUIRE_CHROMIUM is set, as it is where the project's own checks run.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no chromium, chromium-browser or google-chrome on PATH: install one to try the page in a browser"
	if os.Getenv("REQUIRE_CHROMIUM") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// browse opens a page, runs a script in it, whose value fills saw, and gives the
// page's title. Nothing may be said on the browser's console.
func browse(t *testing.T, page []byte, script string, saw any) (title string) {
	t.Helper()
	browser := chromium(t)
	script = "<script>(() => { const saw = (() => {" + script + `})();
  const result = document.createElement("pre");
  result.id = "saw"; result.textContent = JSON.stringify(saw);
  document.body.append(result);
})();</script></body>`
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, bytes.Replace(page, []byte("</body>"), []byte(script), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--enable-logging=stderr", "--window-size=1280,900", "--virtual-time-budget=5000", "--dump-dom", "file://"+path)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the page said on the console: %s", line)
		}
	}
	root, err := html.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	walk(root, func(n *html.Node) {
		if n.Type == html.ElementNode && n.Data == "title" {
			title = n.FirstChild.Data
		}
		for _, a := range n.Attr {
			if a.Key == "id" && a.Val == "saw" {
				found = true
				if err := json.Unmarshal([]byte(n.FirstChild.Data), saw); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if !found {
		t.Fatalf("the script did not come to its end:\n%s", log.String())
	}
	t.Logf("%+v", saw)
	return title
}

// use is what a reader does: filter, hover, print and scroll. What it costs the
// browser is counted, and not timed: elements made, and questions that make it
// lay the page out.
const use = `
  const rows = (id) => [...document.querySelectorAll("#" + id + " .row")];
  const count = (id) => document.querySelector('[data-count="' + id + '"]').textContent;
  const set = (id, text, which) => {
    const [input, select] = document.querySelectorAll('[data-filter="' + id + '"]');
    input.value = text; select.value = which;
    input.dispatchEvent(new Event("input"));
  };
  const saw = { all: count("timeline"), rows: rows("timeline").length, bars: document.querySelectorAll("#timeline .bar").length };
  set("timeline", "service-0999", "");
  saw.one = count("timeline"); saw.oneRow = rows("timeline")[0].textContent;
  set("timeline", "", "failed");
  saw.failed = count("timeline");
  set("timeline", "no such workload", "");
  saw.none = rows("timeline").length;
  set("timeline", "", "");
  const label = rows("timeline")[12].querySelector(".label"), box = label.getBoundingClientRect();
  label.dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX: box.left + 5, clientY: box.top + 5 }));
  saw.tip = document.getElementById("tip").hidden ? "" : document.getElementById("tip").textContent;
  set("services", "", "zero");
  saw.zero = count("services"); saw.gaps = document.querySelectorAll("#services rect").length;
  dispatchEvent(new Event("beforeprint"));
  saw.printed = rows("timeline").length;
  dispatchEvent(new Event("afterprint"));
  saw.made = 0; saw.asked = 0;
  const create = document.createElement.bind(document);
  document.createElement = (tag) => { saw.made++; return create(tag); };
  for (const [proto, name] of [[Element.prototype, "clientHeight"], [Element.prototype, "clientWidth"], [Element.prototype, "scrollTop"],
    [Element.prototype, "scrollHeight"], [HTMLElement.prototype, "offsetHeight"], [HTMLElement.prototype, "offsetWidth"], [HTMLElement.prototype, "offsetTop"]]) {
    const was = Object.getOwnPropertyDescriptor(proto, name);
    Object.defineProperty(proto, name, { ...was, get() { saw.asked++; return was.get.call(this); } });
  }
  for (const name of ["getBoundingClientRect", "getClientRects"]) {
    const was = Element.prototype[name];
    Element.prototype[name] = function () { saw.asked++; return was.call(this); };
  }
  set("timeline", "", "");
  document.createElement = create;
  return saw;`

func TestPageInABrowser(t *testing.T) {
	var saw struct {
		All, One, OneRow, Failed, Tip, Zero string
		Rows, Bars, None, Gaps, Printed     int
		Made, Asked                         int
	}

	title := browse(t, page(t, example(1000)), use, &saw)

	if title != "Istio upgrade in prod" {
		t.Errorf("a hostile name changed the title to %q", title)
	}
	if saw.All != "1000" || saw.Rows < 10 || saw.Rows > 60 || saw.Bars == 0 {
		t.Errorf("1000 workloads, as rows that are in sight: %+v", saw)
	}
	if saw.One != "1 of 1000" || !strings.Contains(saw.OneRow, "service-0999") || saw.None != 0 {
		t.Errorf("the filter by text: %+v", saw)
	}
	if want := "29 of 1000"; saw.Failed != want { // 9 hostile ones and one in fifty
		t.Errorf("the filter by outcome: %q, want %q", saw.Failed, want)
	}
	for _, want := range []string{"1.30.2 → 1.31.0", "predicted: none", "never fewer than 2 ready endpoints", "1/2 new"} {
		if !strings.Contains(saw.Tip, want) {
			t.Errorf("no %q in what hovering shows: %q", want, saw.Tip)
		}
	}
	if saw.Zero != "17 of 1000" || saw.Gaps != 17 {
		t.Errorf("Services without endpoints: %+v", saw)
	}
	if saw.Printed != 1000 {
		t.Errorf("%d of 1000 rows are printed", saw.Printed)
	}
	// What makes 1,000 workloads smooth: to draw anew costs by what is in sight (a
	// row has up to seven elements here), and asks the layout once, not for each row.
	if saw.Made == 0 || saw.Made > 60*7 || saw.Asked == 0 || saw.Asked > 5 {
		t.Errorf("to draw anew made %d elements and asked for the layout %d times", saw.Made, saw.Asked)
	}
}

// look makes the rules for one medium after the other hold, and gives for each the
// least contrast of text and of the charts' bars against what lies behind them, by
// WCAG 2's formula, and what is seen of the controls.
const look = `
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = channels(color).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const ground = (n) => {
    for (; n; n = n.parentElement) {
      const color = getComputedStyle(n).backgroundColor, [, , , alpha] = channels(color);
      if (alpha !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  return ["none", "print", "(prefers-color-scheme: dark)"].map((medium) => {
    const rules = [...document.styleSheets[0].cssRules].filter((r) => r instanceof CSSMediaRule && r.conditionText === medium);
    for (const r of rules) r.media.mediaText = "all";
    const saw = { medium, rules: rules.length, ground: getComputedStyle(document.body).backgroundColor, text: 99, bars: 99,
      controls: getComputedStyle(document.querySelector(".controls")).display, scroll: getComputedStyle(document.querySelector(".scroll")).maxHeight };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const n = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || !n.checkVisibility()) continue;
      const c = contrast(getComputedStyle(n).color, ground(n));
      if (c < saw.text) { saw.text = c; saw.faintest = n.outerHTML.slice(0, 80); }
    }
    for (const n of document.querySelectorAll(".bar")) {
      saw.bars = Math.min(saw.bars, contrast(getComputedStyle(n).backgroundColor, ground(n.parentElement)));
    }
    for (const r of rules) r.media.mediaText = medium;
    return saw;
  });`

// Light, on paper and dark the page can be read: the contrast is what WCAG 2 wants
// of text (4.5) and of graphics (3).
func TestPageCanBeReadInEveryMedium(t *testing.T) {
	var saw []struct {
		Medium, Ground, Faintest, Controls, Scroll string
		Rules                                      int
		Text, Bars                                 float64
	}

	browse(t, page(t, example(60)), look, &saw)

	if len(saw) != 3 {
		t.Fatalf("seen: %+v", saw)
	}
	for i, s := range saw {
		if s.Rules != min(i, 1) {
			t.Errorf("%s: %d rules", s.Medium, s.Rules)
		}
		if dark := s.Ground != "rgb(255, 255, 255)"; dark != (i == 2) {
			t.Errorf("%s: the ground is %s", s.Medium, s.Ground)
		}
		if s.Text < 4.5 || s.Bars < 3 {
			t.Errorf("%s: contrast of text %.1f (%s), of bars %.1f", s.Medium, s.Text, s.Faintest, s.Bars)
		}
		// On paper nothing can be filtered or scrolled.
		if paper := i == 1; (s.Controls == "none") != paper || (s.Scroll == "none") != paper {
			t.Errorf("%s: controls %s, a chart at most %s high", s.Medium, s.Controls, s.Scroll)
		}
	}
}
