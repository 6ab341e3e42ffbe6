"use strict";
// The page builds its two charts of the data that it carries. Rows that are not
// in sight do not exist, so that thousands of them scroll smoothly. Text from
// the cluster is only ever set as text.
(() => {
  const run = JSON.parse(document.getElementById("data").textContent);
  const rowHeight = 24, spare = 8;
  const began = Date.parse(run.began), ended = Math.max(Date.parse(run.ended), began + 1000);
  const share = (time) => Math.min(1, Math.max(0, (Date.parse(time) - began) / (ended - began)));
  const clock = (time) => new Date(time).toLocaleTimeString();
  const percent = (x) => (x * 100).toFixed(3) + "%";
  const node = (tag, className, text) => {
    const n = document.createElement(tag);
    if (className) n.className = className;
    if (text !== undefined) n.textContent = text;
    return n;
  };

  // Times stand in UTC in the page and are shown in the reader's zone.
  for (const t of document.querySelectorAll("time")) {
    t.title = t.dateTime;
    t.textContent = new Date(t.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }

  // Hovering, and moving with the keyboard, shows the details of a row.
  const tip = document.getElementById("tip");
  const showTip = (lines, x, y) => {
    tip.replaceChildren(...lines.map((line, i) => node(i ? "div" : "b", "", line)));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 10) : y + 18) + "px";
  };
  const hideTip = () => { tip.hidden = true; };

  // axis draws round times over a chart's lanes.
  const axis = (chart) => {
    const bar = node("div", "axis"), lane = node("div");
    lane.style.cssText = "position:absolute;left:var(--labels);right:1rem;top:0;bottom:0";
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
    const seconds = (ended - began) / 1000;
    const step = steps.find((s) => seconds / s <= 6) || 86400;
    for (let s = 0; s <= seconds; s += step) {
      const label = node("span", "", clock(began + s * 1000));
      label.style.left = percent(s / seconds);
      if (s === 0) label.style.transform = "none";
      else if (s / seconds > 0.92) continue;
      lane.append(label);
    }
    bar.append(lane);
    chart.prepend(bar);
  };

  // list shows the items that pass the filter as rows of a chart.
  const list = (id, items, draw, details, passes) => {
    const chart = document.getElementById(id);
    if (!chart) return;
    axis(chart);
    const scroll = chart.querySelector(".scroll"), sheet = chart.querySelector(".sheet");
    const counter = document.querySelector(`[data-count="${id}"]`);
    const inputs = [...document.querySelectorAll(`[data-filter="${id}"]`)];
    let shown = items, all = false;
    const render = () => {
      const from = all ? 0 : Math.max(0, Math.floor(scroll.scrollTop / rowHeight) - spare);
      const to = all ? shown.length : Math.min(shown.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / rowHeight) + spare);
      const rows = [];
      for (let i = from; i < to; i++) {
        const row = draw(shown[i]);
        row.style.top = i * rowHeight + "px";
        row.tabIndex = 0;
        row.dataset.index = i;
        rows.push(row);
      }
      sheet.replaceChildren(...rows);
    };
    const filter = () => {
      const wanted = inputs.map((n) => n.value.trim().toLowerCase());
      shown = items.filter((item) => passes(item, wanted));
      sheet.style.height = Math.max(1, shown.length) * rowHeight + "px";
      counter.textContent = shown.length === items.length ? `${items.length}` : `${shown.length} of ${items.length}`;
      scroll.scrollTop = 0;
      render();
    };
    let waiting = false;
    scroll.addEventListener("scroll", () => {
      hideTip();
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; render(); });
    }, { passive: true });
    const itemAt = (target) => {
      const row = target.closest && target.closest(".row");
      return row ? shown[Number(row.dataset.index)] : undefined;
    };
    sheet.addEventListener("mousemove", (e) => {
      const item = itemAt(e.target);
      if (item) showTip(details(item, e), e.clientX, e.clientY); else hideTip();
    });
    sheet.addEventListener("mouseleave", hideTip);
    sheet.addEventListener("focusin", (e) => {
      const item = itemAt(e.target), box = e.target.getBoundingClientRect();
      if (item && e.target.matches(":focus-visible")) showTip(details(item), box.left + 40, box.top);
    });
    sheet.addEventListener("focusout", hideTip);
    for (const n of inputs) n.addEventListener("input", filter);
    addEventListener("beforeprint", () => { all = true; render(); });
    addEventListener("afterprint", () => { all = false; render(); });
    addEventListener("resize", render);
    filter();
  };

  const title = (w) => `${w.kind.toLowerCase()}/${w.name}`;
  const classes = { done: "done", failed: "failed", skipped: "skipped", "still moving": "moving" };
  const marks = { done: "✓", failed: "×", skipped: "–", "still moving": "…", "not started": "·" };
  const seen = (w) => !w.seen.known ? "not watched"
    : w.seen.fewest > 0 ? `never fewer than ${w.seen.fewest} ready endpoints`
      : `no ready endpoint for ${w.seen.withoutSeconds.toFixed(1)} s`;

  list("timeline", run.workloads, (w) => {
    const row = node("div", "row"), label = node("div", "label name"), lane = node("div", "lane");
    label.append(node("span", "mark " + (w.outcome === "failed" ? "bad" : "faint"), marks[w.outcome] || ""), `${title(w)} `, node("span", "faint", w.namespace));
    row.append(label, lane);
    if (w.began) {
      const from = share(w.began), to = share(w.ended || run.ended), bar = node("div", "bar " + (classes[w.outcome] || ""));
      bar.style.left = percent(from);
      bar.style.width = percent(to - from);
      for (const m of w.marks.slice(1, 40)) {
        const tick = node("i");
        if (to > from) tick.style.left = percent(Math.min(1, Math.max(0, (share(m.time) - from) / (to - from))));
        bar.append(tick);
      }
      lane.append(bar);
    }
    return row;
  }, (w) => {
    const lines = [`${title(w)} in ${w.namespace}: ${w.outcome}`];
    if (w.from || w.to) lines.push(`${w.from || "none"} → ${w.to || "unknown"}${w.how ? ", by " + w.how : ""}`);
    if (w.began) lines.push(`${clock(w.began)} – ${w.ended ? clock(w.ended) : "still moving"}${w.ended ? `, ${((Date.parse(w.ended) - Date.parse(w.began)) / 1000).toFixed(1)} s` : ""}`);
    if (w.message) lines.push(w.message);
    if (w.impact) lines.push(`predicted: ${w.impact}${w.impactReason ? " (" + w.impactReason + ")" : ""}`);
    if (w.services.length) lines.push(`seen: ${seen(w)}`);
    for (const m of w.marks.slice(-6)) {
      lines.push(`${clock(m.time)}  ${m.desired ? `${m.updated}/${m.desired} new, ${m.ready} ready  ` : ""}${m.message || ""}`);
    }
    return lines;
  }, (w, [text, outcome]) => (!outcome || w.outcome === outcome) &&
    (!text || `${title(w)} ${w.namespace} ${w.message || ""} ${w.from || ""} ${w.to || ""}`.toLowerCase().includes(text)));

  // Services: which workloads move behind them says what was predicted.
  const behind = new Map();
  for (const w of run.workloads) {
    for (const s of w.services) {
      const key = w.namespace + "/" + s;
      behind.set(key, [...(behind.get(key) || []), w]);
    }
  }
  const services = run.services.map((s) => ({
    ...s, movers: behind.get(s.namespace + "/" + s.name) || [],
    least: Math.min(...s.points.map((p) => p.ready)), most: Math.max(...s.points.map((p) => p.ready)),
  }));
  services.sort((a, b) => a.least - b.least || b.movers.length - a.movers.length);
  const svg = (tag, attributes) => {
    const n = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) n.setAttribute(k, v);
    return n;
  };
  const which = document.querySelector('select[data-filter="services"]');
  if (which && services.some((s) => s.movers.length)) which.value = "moved";
  list("services", services, (s) => {
    const row = node("div", "row"), label = node("div", "label name"), lane = node("div", "lane");
    label.append(node("span", "mark " + (s.least ? "faint" : "bad"), s.least ? "✓" : "×"), `${s.name} `, node("span", "faint", `${s.namespace}  ${s.least === s.most ? s.least : s.least + "–" + s.most} ready`));
    const picture = svg("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none", "aria-hidden": "true" });
    let path = "M0 20", ready = s.points.length ? s.points[0].ready : 0;
    const y = (n) => 20 - (s.most ? 20 * n / s.most : 0);
    s.points.forEach((p, i) => {
      const x = i ? share(p.time) * 1000 : 0, next = i + 1 < s.points.length ? share(s.points[i + 1].time) * 1000 : 1000;
      path += ` L${x.toFixed(1)} ${y(ready).toFixed(1)} L${x.toFixed(1)} ${y(p.ready).toFixed(1)}`;
      ready = p.ready;
      if (!p.ready) picture.append(svg("rect", { x, y: 0, width: Math.max(2, next - x), height: 20 }));
    });
    picture.append(svg("path", { d: `${path} L1000 ${y(ready).toFixed(1)} L1000 20 Z` }));
    lane.append(picture);
    row.append(label, lane);
    return row;
  }, (s, e) => {
    const lines = [`service/${s.name} in ${s.namespace}`, `between ${s.least} and ${s.most} ready endpoints`];
    const lane = e && e.target.closest(".row").querySelector(".lane").getBoundingClientRect();
    if (lane && e.clientX >= lane.left) {
      const at = began + (ended - began) * Math.min(1, (e.clientX - lane.left) / lane.width);
      const p = s.points.findLast((q) => Date.parse(q.time) <= at) || s.points[0];
      if (p) lines.push(`${clock(at)}: ${p.ready} ready`);
    }
    for (const w of s.movers.slice(0, 5)) lines.push(`${title(w)}: predicted ${w.impact || "nothing"}; seen: ${seen(w)}`);
    return lines;
  }, (s, [text, which]) => (which !== "zero" || s.least === 0) && (which !== "moved" || s.movers.length > 0) &&
    (!text || `${s.name} ${s.namespace}`.toLowerCase().includes(text)));
})();
