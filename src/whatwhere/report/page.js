"use strict";
// Draws the charts of the page with Observable Plot, and lets tables be sorted and commands be copied.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (v) => (v === null || v === undefined ? "–" : Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(2));
  const interval = (d) => (d.low === null || d.low === undefined ? "" : ` [${shown(d.low)}, ${shown(d.high)}]`);
  const element = (tag, options = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), options);
    made.append(...children);
    return made;
  };
  const frame = (width) => ({
    width, marginLeft: 52, marginBottom: 40,
    style: { background: "transparent", color: css("--ink"), fontSize: "12px", fontFamily: "inherit", overflow: "visible" },
  });

  const dense = 40;  // points of a curve: with more, no marker on each
  const thinned = (n, width) => d3.range(0, n, Math.ceil((n * 15) / (width - 60)));  // names of places that do not touch
  const shortened = (name, width) => { // on a phone the first one would begin off the screen
    const most = width < 560 ? 14 : 22;
    return name.length > most ? `…${name.slice(1 - most)}` : name;
  };

  function curves(chart, on, width, panel) {
    const rows = chart.rows.filter((d) => on.has(d.series) && d.y !== null && d.panel === panel);
    const many = new Map(d3.rollups(rows, (v) => v.length, (d) => d.series));
    const look = new Map(chart.series.map((s) => [s.label, s]));
    const named = chart.ticks.length > 0;
    const ink = (d) => css(`--series-${chart.series.indexOf(look.get(d.series)) % 6}`);
    const spread = rows.filter((d) => d.low !== null && d.high !== null);
    const values = rows.flatMap((d) => [d.y, d.low, d.high]).concat(chart.levels.map((l) => l.y));
    const close = 0.05 * (d3.max([0, ...values]) - d3.min([0, ...values]));
    const under = (d) => chart.levels.some((l, i) => l !== d && l.y >= d.y && l.y - d.y < close && (l.y > d.y || i > chart.levels.indexOf(d)));
    const places = [...new Set(chart.rows.filter((d) => d.panel === panel).map((d) => d.x))];
    const below = 34 + 5 * Math.min(18, d3.max(chart.ticks, (t) => t.length) ?? 0);
    const shortly = (v) => String(Math.round(v * 10) / 10);
    const x = named
      ? { domain: [-0.5, chart.ticks.length - 0.5], ticks: thinned(chart.ticks.length, width), tickRotate: -35, label: null,
          tickFormat: (i) => shortened(chart.ticks[i], width) }
      : { label: null, ...(places.length <= 8 ? { ticks: places, tickFormat: shortly } : { nice: true }) };
    return Plot.plot({
      ...frame(width), height: panel === undefined ? 340 : 280, marginTop: panel === undefined ? 20 : 34, marginBottom: named ? below : 42, x,
      y: { label: panel === undefined ? chart.y : null, grid: true, nice: true, domain: d3.extent([0, ...values.filter((v) => v !== null)]) },
      marks: [
        Plot.text(panel === undefined ? [] : [`${panel}: ${chart.y}`], { frameAnchor: "top-left", dy: -28, dx: -44, fontWeight: 600, fill: css("--ink") }),
        Plot.ruleY([0], { stroke: css("--line") }),
        Plot.ruleY(chart.levels, { y: "y", stroke: css("--soft"), strokeDasharray: "5 3" }),
        ...[false, true].map((lower) => Plot.text(chart.levels.filter((d) => under(d) === lower), {
          y: "y", frameAnchor: "right", dy: lower ? 8 : -7, text: (d) => `${d.label}: ${shown(d.y)}`, fill: css("--soft") })),
        Plot.ruleX(spread, { x: "x", y1: "low", y2: "high", stroke: ink, strokeOpacity: 0.55, strokeWidth: 1.5 }),
        ...[false, true].flatMap((control) => [false, true].map((again) => Plot.line(
          rows.filter((d) => look.get(d.series).control === control && chart.series.indexOf(look.get(d.series)) >= 6 === again),
          { x: "x", y: "y", z: "series", stroke: ink, sort: "x", strokeWidth: control ? 1.5 : 2.2, strokeDasharray: again ? "2 3" : control ? "4 3" : null }))),
        Plot.dot(rows.filter((d) => many.get(d.series) <= dense), { x: "x", y: "y", fill: ink, r: (d) => (look.get(d.series).control ? 2.5 : 3.5), stroke: css("--paper") }),
        Plot.tip(rows, Plot.pointer({ x: "x", y: "y", fill: css("--paper"), stroke: css("--soft"),
          title: (d) => `${d.series}\n${d.place ?? `${shown(d.x)}`}: ${shown(d.y)}${interval(d)}` })),
      ],
    });
  }

  function points(chart, on, width) {
    const rows = chart.rows.filter((d) => on.has(d.series) && d.y !== null);
    const look = new Map(chart.series.map((s, i) => [s.label, { ...s, i }]));
    const ink = (d) => css(`--series-${look.get(d.series).i % 6}`);
    const apart = Math.min(0.22, 0.7 / chart.series.length);
    const at = (d) => d.x + (look.get(d.series).i - (chart.series.length - 1) / 2) * apart;
    const left = Math.min(240, Math.round(width * 0.38), 24 + 7 * d3.max(chart.ticks, (t) => t.length));
    const values = chart.rows.flatMap((d) => [d.y, d.low, d.high]).concat(chart.levels.map((l) => l.y)).filter((v) => v !== null);
    const within = { x: "y", y: at };
    return Plot.plot({
      ...frame(width), marginLeft: left, marginTop: 28, marginRight: 24, height: 76 + chart.ticks.length * (chart.ticks.length > dense ? 18 : Math.max(44, 16 * chart.series.length)),
      x: { label: null, grid: true, nice: true, domain: d3.extent(values) },
      y: { domain: [-0.5, chart.ticks.length - 0.5], reverse: true, axis: null },
      marks: [
        Plot.axisY({ ticks: chart.ticks.map((_, i) => i), tickFormat: (i) => chart.ticks[i], tickSize: 0, label: null, lineWidth: left / 12.5, textOverflow: "ellipsis" }),
        Plot.ruleX(chart.levels, { x: "y", stroke: css("--soft"), strokeDasharray: "5 3" }),
        ...["start", "end"].map((textAnchor, right) => Plot.text(chart.levels.filter((d) => (d.y > d3.mean(d3.extent(values))) === (right === 1)), {
          x: "y", frameAnchor: "top", dy: -14, textAnchor, text: (d) => `${d.label}: ${shown(d.y)}`, fill: css("--soft") })),
        Plot.ruleY(rows.filter((d) => d.low !== null && d.high !== null), { y: at, x1: "low", x2: "high", stroke: ink, strokeWidth: 1.8 }),
        Plot.dot(rows, { ...within, r: 4.5, stroke: ink, strokeWidth: 1.6, fill: (d) => (look.get(d.series).control ? css("--paper") : ink(d)) }),
        Plot.tip(rows, Plot.pointer({ ...within, fill: css("--paper"), stroke: css("--soft"),
          title: (d) => `${d.place}\n${d.series}: ${shown(d.y)}${interval(d)}` })),
      ],
    });
  }

  function strip(chart, width) {
    const places = chart.tracks[0].points.map((d) => d.place);
    return chart.tracks.map((track, k) => {
      const last = k === chart.tracks.length - 1;
      const points = track.points.filter((d) => d.y !== null);
      const gap = Math.min(0.35, 14 / width * places.length);
      return Plot.plot({
        ...frame(width), height: last ? 200 : 112, marginTop: 24, marginBottom: last ? 112 : 10,
        x: { domain: [-0.5, places.length - 0.5], ticks: last ? thinned(places.length, width) : [], tickRotate: -35, label: null,
          tickFormat: (i) => shortened(places[i], width) },
        y: { label: null, ticks: 3, grid: true, nice: true,
          domain: d3.extent([0, ...track.points.flatMap((d) => [d.y, d.low, d.high, d.control]).filter((v) => v !== null)]) },
        marks: [
          Plot.text([track.label], { frameAnchor: "top-left", dy: -20, dx: -44, fontWeight: 600, fill: css("--ink") }),
          Plot.rect(points, { x1: (d) => d.i - gap, x2: (d) => d.i + gap, y1: 0, y2: "y", fill: css(`--series-${k}`), fillOpacity: 0.85 }),
          Plot.ruleX(points.filter((d) => d.low !== null), { x: "i", y1: "low", y2: "high", stroke: css("--ink") }),
          Plot.dot(points.filter((d) => d.control !== null), { x: "i", y: "control", symbol: "diamond", r: 4, stroke: css("--ink"), fill: css("--paper") }),
          Plot.ruleY([0], { stroke: css("--soft") }),
          Plot.tip(points, Plot.pointerX({ x: "i", y: "y", fill: css("--paper"), stroke: css("--soft"),
            title: (d) => `${d.place}\n${shown(d.y)}${interval(d)}${d.control === null ? "" : `\n${track.control_label}: ${shown(d.control)}`}` })),
        ],
      });
    });
  }

  const csv = (rows) => {
    const names = [...new Set(rows.flatMap((r) => Object.keys(r)))];
    const cell = (v) => (v === null || v === undefined ? "" : /[",\n]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
    return [names, ...rows.map((r) => names.map((n) => r[n]))].map((line) => line.map(cell).join(",")).join("\n") + "\n";
  };
  const save = (name, type, text) => {
    const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  function show(chart, figure) {
    const on = new Set((chart.series ?? []).filter((s) => !s.hidden).map((s) => s.label));
    const place = element("div", { className: "drawn" });
    const draw = () => {
      const width = Math.max(280, Math.min(900, figure.clientWidth));
      const panels = [...new Set(chart.rows.map((d) => d.panel))];
      const beside = panels.length > 1 && width >= 640 ? 2 : 1;
      place.classList.toggle("beside", beside > 1);
      const drawn = chart.kind === "strip" ? strip(chart, width)
        : chart.kind === "points" ? [points(chart, on, width)]
        : panels.map((panel) => curves(chart, on, width / beside - 10 * (beside - 1), panel));
      drawn.forEach((svg) => svg.querySelectorAll("g[aria-label]").forEach((g) => g.removeAttribute("aria-label")));
      drawn.forEach((svg) => { svg.setAttribute("role", "img"); svg.setAttribute("aria-label", `${chart.title}. ${chart.about} Its values are in the CSV.`); });
      place.replaceChildren(...drawn);
    };
    const legend = element("div", { className: "legend", role: "group" });
    legend.setAttribute("aria-label", `curves of ${chart.title}`);
    for (const [i, s] of (chart.series ?? []).entries()) {
      const box = element("input", { type: "checkbox", checked: on.has(s.label) });
      box.addEventListener("change", () => { box.checked ? on.add(s.label) : on.delete(s.label); draw(); });
      const apart = chart.kind === "points";
      const swatch = element("span", { className: `swatch${s.control ? " control" : ""}${i >= 6 ? " again" : ""}${apart ? " point" : ""}` });
      swatch.style.setProperty("--colour", `var(--series-${i % 6})`);
      legend.append(element("label", {}, box, swatch, s.control && !apart ? `${s.label} (control)` : s.label));
    }
    legend.hidden = legend.childElementCount < 2;
    const svgButton = element("button", { type: "button", textContent: "SVG" });
    svgButton.setAttribute("aria-label", `download ${chart.title} as SVG`);
    svgButton.addEventListener("click", () => {
      const svgs = [...place.querySelectorAll("svg")].filter((s) => !s.parentElement.closest("svg"));
      svgs.forEach((s) => s.setAttribute("xmlns", "http://www.w3.org/2000/svg"));
      const heights = svgs.map((s) => Number(s.getAttribute("height")));
      const tops = heights.map((_, i) => d3.sum(heights.slice(0, i)));
      const inner = svgs.map((s, i) => `<g transform="translate(0,${tops[i]})">${s.outerHTML}</g>`).join("");
      save(`${chart.name}.svg`, "image/svg+xml",
        `<svg xmlns="http://www.w3.org/2000/svg" width="${svgs[0].getAttribute("width")}" height="${d3.sum(heights)}">${inner}</svg>`);
    });
    const csvButton = element("button", { type: "button", textContent: "CSV" });
    csvButton.setAttribute("aria-label", `download the values of ${chart.title} as CSV`);
    csvButton.addEventListener("click", () => save(`${chart.name}.csv`, "text/csv", csv(chart.rows)));
    const across = element("p", { className: "across", textContent: chart.x ?? "" });  // wraps, where an axis label is cut off
    figure.append(legend, place, across, element("div", { className: "tools" }, svgButton, csvButton));
    draw();
    let width = figure.clientWidth;
    new ResizeObserver(() => { if (figure.clientWidth !== width) { width = figure.clientWidth; draw(); } }).observe(figure);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }
  for (const chart of charts) show(chart, document.getElementById(`chart-${charts.indexOf(chart)}`));

  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const button = element("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th").forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].textContent.trim();
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => {
          const [p, q] = [key(a), key(b)];
          const [m, n] = [p, q].map((t) => (t === "" ? NaN : Number(t.replaceAll(",", ""))));
          return (Number.isNaN(m) || Number.isNaN(n) ? p.localeCompare(q) : m - n) * (up ? 1 : -1);
        });
        body.append(...rows);
      });
    });
  }
  for (const block of document.querySelectorAll("pre.command")) {
    const button = element("button", { type: "button", textContent: "Copy", className: "copy" });
    button.addEventListener("click", async () => {
      const text = block.querySelector("code").textContent;
      try { await navigator.clipboard.writeText(text); }
      catch { const range = document.createRange(); range.selectNodeContents(block.querySelector("code")); getSelection().removeAllRanges(); getSelection().addRange(range); document.execCommand("copy"); }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
})();
