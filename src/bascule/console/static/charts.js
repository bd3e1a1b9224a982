// Lines over time, drawn by uPlot. Colours are those of the page; each line has a pattern of its own beside its colour.
"use strict";

(() => {
  const DASHES = { 1: [], 2: [6, 3], 3: [2, 3], 4: [8, 3, 2, 3] };
  const charts = new Map(); // element -> {plot, loaded}

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const written = (value, unit) => {
    if (value == null) return "–";
    if (unit === "ms" && value >= 1000) return `${Number((value / 1000).toFixed(2))} s`;
    const digits = value === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return `${Number(value.toFixed(digits))}${unit ? ` ${unit}` : ""}`;
  };

  function options(element) {
    const unit = element.dataset.unit;
    const axis = { stroke: css("--muted"), font: "11px system-ui, sans-serif", grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
    return {
      width: element.clientWidth,
      height: element.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 28, values: (_, ats, __, space, step) => ats.map((at) => clock(at, step)) },
        { ...axis, size: (_, said) => 14 + 6.2 * Math.max(0, ...(said ?? []).map((each) => each.length)), space: 34, values: (_, values) => values.map((value) => written(value, unit)) },
      ],
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
      series: [
        {},
        ...element.dataset.colors.split(" ").map((number) => ({
          stroke: css(`--chart-${number}`),
          width: 1.75,
          dash: DASHES[number],
          points: { show: true, size: 5, fill: css(`--chart-${number}`), filter: alone },
          spanGaps: false,
        })),
      ],
      hooks: { setCursor: [(plot) => tell(element, plot)] },
    };
  }

  // Of what stands between gaps there is no line to see: it gets a point.
  function alone(plot, number) {
    const line = plot.data[number];
    const is = (at) => line[at] != null;
    return line.map((_, at) => at).filter((at) => is(at) && !is(at - 1) && !is(at + 1));
  }

  function clock(at, step) {
    const said = new Date(at * 1000).toISOString();
    return step >= 86400 ? said.slice(5, 10) : step >= 3600 && said.slice(11, 16) === "00:00" ? said.slice(5, 10) : said.slice(11, 16);
  }

  // The numbers beside the names: at the pointer, or else the latest.
  function tell(element, plot) {
    const at = plot.cursor.idx ?? last(plot.data);
    const places = document.querySelectorAll(`[data-now="${element.id}"]`);
    places.forEach((place, number) => { place.textContent = written(plot.data[number + 1]?.[at], element.dataset.unit); });
  }

  function last(data) {
    for (let at = data[0].length - 1; at >= 0; at--) if (data.slice(1).some((line) => line[at] != null)) return at;
    return data[0].length - 1;
  }

  function describe(element, data) {
    const names = [...document.querySelectorAll(`[data-now="${element.id}"]`)].map((place) => place.parentNode.firstElementChild.nextSibling.textContent.trim());
    const facts = data.slice(1).map((line, number) => {
      const known = line.filter((value) => value != null);
      return known.length ? `${names[number]} at most ${written(Math.max(...known), element.dataset.unit)}` : `${names[number]} none`;
    });
    element.setAttribute("aria-label", `${element.dataset.label}: ${facts.join(", ")}`);
  }

  function state(element, name, said) {
    if (!name) return element.removeAttribute("data-state");
    element.dataset.state = name;
    element.dataset.said = said;
  }

  async function load(element) {
    const known = charts.get(element) ?? {};
    known.loaded = Date.now();
    charts.set(element, known);
    try {
      const response = await fetch(element.dataset.chart, { headers: { "bascule-live": "1" } });
      if (response.redirected || !response.ok) throw new Error(response.statusText);
      const { at, lines, said } = await response.json();
      if (!at.length) return state(element, "empty", said ?? "nothing to show");
      draw(element, known, [at, ...lines]);
    } catch {
      if (!known.plot) state(element, "failed", "cannot be loaded now");
    }
  }

  function draw(element, known, data) {
    state(element, "");
    if (known.plot) known.plot.setData(data);
    else known.plot = new uPlot(options(element), data, element);
    known.data = data;
    tell(element, known.plot);
    describe(element, data);
  }

  function again(element) {
    const known = charts.get(element);
    known.plot?.destroy();
    known.plot = null;
    if (known.data) draw(element, known, known.data);
  }

  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      charts.get(target)?.plot?.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  });

  function adopt() {
    for (const element of document.querySelectorAll("[data-chart]")) {
      if (charts.has(element)) continue;
      load(element);
      sizes.observe(element);
      const { liveName, every } = element.dataset;
      if (!liveName) continue;
      document.body.addEventListener(`live:${liveName}`, () => {
        const known = charts.get(element);
        clearTimeout(known.later);
        known.later = setTimeout(() => load(element), Math.max(0, known.loaded + every * 1000 - Date.now()));
      });
    }
  }
  adopt();
  document.addEventListener("htmx:after:swap", adopt);

  const redraw = () => { for (const element of charts.keys()) again(element); };
  document.addEventListener("bascule:theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
