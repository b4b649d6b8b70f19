"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const STATUS = data.statuses;
const RANK = ["BROKEN", "FAIL", "UNEXPECTED", "FLAKY", "KNOWN", "NOT RUN", "PASS"];
const COLOR = { PASS: "--pass", FAIL: "--fail", FLAKY: "--flaky", KNOWN: "--known",
  UNEXPECTED: "--unexpected", BROKEN: "--broken", "NOT RUN": "--notrun" };
const REAL = { inf: Infinity, "-inf": -Infinity, NaN: NaN, "-0": -0 };
const real = (x) => (typeof x === "string" ? REAL[x] : x);

// A row: gate, op, case, variant, subject, status, load, compared, ms, and what else there is.
const rows = data.rows.map((r) => {
  const [gate, op, name, variant, subject, status, load, compared, ms, more] = r;
  const parts = [`gate${gate}`, data.ops[op], name, data.variants[variant], data.subjects[subject]];
  const odd = more && more.name !== undefined;
  return { gate, short: odd ? more.name : `${data.ops[op]}::${name}`,
    where: odd ? "" : `${data.variants[variant]} ${data.subjects[subject]}`, op: data.ops[op], variant: data.variants[variant], subject: data.subjects[subject],
    name: odd ? more.name : parts.join("::"), status: STATUS[status],
    dtype: data.variants[variant].split("-")[0], load: load === null ? null : real(load), compared,
    ms, more: more || {} };
});
const byName = new Map(rows.map((r) => [r.name, r]));
let shown = rows;
let chosen = null;

const el = (tag, text, attributes) => {
  const e = document.createElement(tag);
  if (text !== undefined && text !== null) e.textContent = text;
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  return e;
};
const number = (x) => {
  if (x === null || x === undefined) return "–";
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "-∞";
  if (Object.is(x, -0)) return "-0";
  if (x === 0) return "0";
  const size = Math.abs(x);
  return size < 1e-3 || size >= 1e6 ? x.toExponential(3) : String(Number(x.toPrecision(4)));
};
const exact = (x) => (Object.is(x, -0) ? "-0" : Number.isFinite(x) ? String(x) : number(x));

// Filters.
const fill = (id, values) => {
  $(id).append(el("option", "all", { value: "" }));
  for (const v of values) $(id).append(el("option", v, { value: v }));
};
const distinct = (key) => [...new Set(rows.map((r) => r[key]))].sort();
fill("status", RANK.filter((s) => rows.some((r) => r.status === s)));
fill("op", distinct("op"));
fill("dtype", distinct("dtype"));
fill("subject", distinct("subject"));
const weight = (r) => (r.load === null ? -1 : Number.isNaN(r.load) ? Infinity : r.load);
const down = (a, b) => (a === b ? 0 : a > b ? -1 : 1);
const ORDER = {
  worst: (a, b) => RANK.indexOf(a.status) - RANK.indexOf(b.status) || down(weight(a), weight(b)),
  name: () => 0,
  load: (a, b) => down(weight(a), weight(b)),
  time: (a, b) => down(a.ms, b.ms),
};
const select = () => {
  const words = $("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const want = ["status", "op", "dtype", "subject"].map((k) => [k, $(k).value]).filter((p) => p[1]);
  shown = rows.filter((r) => want.every(([k, v]) => r[k] === v) &&
    words.every((w) => r.name.toLowerCase().includes(w)));
  shown = shown.slice().sort(ORDER[$("order").value]);
  const failing = shown.filter((r) => RANK.indexOf(r.status) < 4).length;
  $("count").textContent = `${shown.length} of ${rows.length} rows, ${failing} of them failing`;
  $("list").scrollTop = 0;
  draw();
  plot();
};

// The list draws only what is in sight.
const height = () => (matchMedia("(max-width: 760px)").matches ? 52 : 30);
const draw = () => {
  const h = height();
  const list = $("list");
  $("pad").style.height = `${shown.length * h}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / h) - 8);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / h) + 8);
  $("window").style.transform = `translateY(${first * h}px)`;
  const items = [];
  for (let i = first; i < last; i++) {
    const r = shown[i];
    const a = el("a", null, { href: `#${encodeURIComponent(r.name)}`, tabindex: "-1", title: r.name });
    if (r === chosen) a.setAttribute("aria-current", "true");
    a.append(el("b", r.status, { "data-status": r.status }), el("span", r.short, { class: "name" }),
      el("span", r.where, { class: "where" }), el("span", number(r.load), { class: "load" }));
    const li = el("li", null, { "aria-setsize": shown.length, "aria-posinset": i + 1 });
    li.append(a);
    items.push(li);
  }
  $("window").replaceChildren(...items);
};

// One row in full.
const around = (w) => {
  const table = el("table", null, { class: "around" });
  const head = el("tr");
  for (const t of ["index", "got", "want", "load", ""]) head.append(el("th", t, { scope: "col" }));
  table.append(head);
  const loads = w.load.map(real);
  const top = Math.max(1, ...loads.filter(Number.isFinite));
  const before = w.index.length ? w.index[w.index.length - 1] : 0;
  w.got.forEach((got, i) => {
    const load = loads[i];
    const at = w.flat - w.first === i;
    const tr = el("tr", null, at ? { "aria-current": "true" } : {});
    const index = before - (w.flat - w.first) + i;
    for (const t of [index, exact(real(got)), exact(real(w.want[i])), number(load)]) {
      tr.append(el("td", t));
    }
    const share = Number.isFinite(load) ? load / top : 1;
    const meter = el("span", "", { class: load <= 1 ? "meter ok" : "meter" });
    meter.style.width = `${Math.max(1, share * 90)}px`;
    const td = el("td");
    td.append(meter);
    tr.append(td);
    table.append(tr);
  });
  return table;
};
const facts = (pairs) => {
  const dl = el("dl");
  for (const [k, v] of pairs) if (v) dl.append(el("dt", k), el("dd", v));
  return dl;
};
const show = (r, focus) => {
  chosen = r;
  const m = r.more;
  const out = [el("h3", r.name)];
  out.push(facts([
    ["status", m.kind ? `${r.status} (${m.kind})` : r.status],
    ["says", m.message], ["known", m.known],
    ["load", r.load === null ? "" : `${number(r.load)} of 1`],
    ["compared", r.compared ? `${r.compared} elements` : ""],
    ["time", `${number(r.ms)} ms`],
    ["figures", Object.entries(m.figures || {}).map(([k, v]) => `${k} ${number(real(v))}`).join(", ")],
    ["notes", (m.notes || []).join("; ")],
    ["observed", m.observed],
  ]));
  if (m.worst) {
    const place = `${m.worst.result}[${m.worst.index.join(", ")}]`;
    out.push(el("h3", `Around ${place}: ${m.worst.over} of ${m.worst.total} over`));
    const wide = el("div", null, { class: "wide" });
    wide.append(around(m.worst));
    out.push(wide);
  }
  if (m.page) out.push(el("h3", "Page"), el("pre", m.page, { tabindex: "0" }));
  out.push(el("h3", "Again"), el("pre", m.again || `goldgate run ${r.name}`, { tabindex: "0" }));
  $("detail").replaceChildren(...out);
  $("detail").scrollTop = 0;
  if (focus) $("detail").focus({ preventScroll: !matchMedia("(max-width: 760px)").matches });
};
const reveal = (i) => {
  const h = height(), list = $("list");
  if (i * h < list.scrollTop) list.scrollTop = i * h;
  if ((i + 1) * h > list.scrollTop + list.clientHeight) list.scrollTop = (i + 1) * h - list.clientHeight;
};
const follow = (focus) => {
  let name = "";
  try { name = decodeURIComponent(location.hash.slice(1)); } catch { return; }
  const r = byName.get(name);
  if (!r) return;
  if (!shown.includes(r)) { $("filters").reset(); select(); }
  show(r, focus);
  reveal(shown.indexOf(r));
  draw();
  $("rows").scrollIntoView();
};
const go = (r, focus) => {
  history.replaceState(null, "", `#${encodeURIComponent(r.name)}`);
  show(r, focus);
  reveal(shown.indexOf(r));
  draw();
};
$("list").addEventListener("keydown", (e) => {
  const page = Math.max(1, Math.floor($("list").clientHeight / height()) - 1);
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page,
    Home: -shown.length, End: shown.length }[e.key];
  if (e.key === "Enter" && chosen) { e.preventDefault(); $("detail").focus(); return; }
  if (step === undefined || !shown.length) return;
  e.preventDefault();
  const at = shown.indexOf(chosen);
  const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + step));
  go(shown[next], false);
});
$("window").addEventListener("click", (e) => {
  const a = e.target.closest("a");
  if (!a || e.ctrlKey || e.metaKey || e.shiftKey) return;
  e.preventDefault();
  go(byName.get(decodeURIComponent(a.hash.slice(1))), matchMedia("(max-width: 760px)").matches);
});

// The plot: every selected row that has a load, in the order of names.
let dots = [];
const plot = () => {
  const canvas = $("loads");
  const box = canvas.getBoundingClientRect();
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const g = canvas.getContext("2d");
  g.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const left = 44, right = box.width - 8, top = 10, bottom = box.height - 12;
  const picked = new Set(shown);
  const loaded = rows.filter((r) => r.load !== null && picked.has(r));
  const finite = loaded.map((r) => r.load).filter((x) => Number.isFinite(x));
  const high = Math.ceil(Math.log10(Math.max(10, finite.reduce((a, b) => Math.max(a, b), 0))));
  const low = -4;
  const y = (load) => {
    const l = load > 0 ? Math.log10(load) : load === 0 ? low : high;
    const at = Math.min(high, Math.max(low, Number.isNaN(l) ? high : l));
    return bottom - ((at - low) / (high - low)) * (bottom - top);
  };
  g.font = "11px system-ui, sans-serif";
  g.textAlign = "right";
  g.textBaseline = "middle";
  const every = Math.ceil((high - low) / 7);
  for (let e = low; e <= high; e += 1) {
    if (e !== 0 && (e - low) % every) continue;
    g.strokeStyle = color("--line");
    g.beginPath();
    g.moveTo(left, y(10 ** e));
    g.lineTo(right, y(10 ** e));
    g.stroke();
    g.fillStyle = color("--soft");
    g.fillText(e >= -3 && e <= 3 ? String(10 ** e) : `1e${e}`, left - 6, y(10 ** e));
  }
  const size = loaded.length > 3000 ? 2 : 4;
  const step = (right - left) / Math.max(1, loaded.length);
  dots = loaded.map((r, i) => ({ r, x: left + (i + 0.5) * step, y: y(r.load) }));
  for (const pass of [true, false]) {
    for (const d of dots) {
      if ((d.r.status === "PASS") !== pass) continue;
      const s = pass ? size : size + 3;
      g.fillStyle = color(COLOR[d.r.status]);
      g.globalAlpha = pass && dots.length > 3000 ? 0.55 : 1;
      g.fillRect(d.x - s / 2, d.y - s / 2, s, s);
    }
  }
  g.globalAlpha = 1;
  g.strokeStyle = color("--ink");
  g.setLineDash([6, 4]);
  g.beginPath();
  g.moveTo(left, y(1));
  g.lineTo(right, y(1));
  g.stroke();
  g.setLineDash([]);
  canvas.setAttribute("aria-label", `Load of ${dots.length} selected rows on a logarithmic scale; ` +
    `${dots.filter((d) => d.r.load > 1).length} above the limit of 1`);
  $("plot").hidden = rows.every((r) => r.load === null);
};
const nearest = (e) => {
  const box = $("loads").getBoundingClientRect();
  const x = e.clientX - box.left, y = e.clientY - box.top;
  let best = null, far = 900;
  for (const d of dots) {
    const at = (d.x - x) ** 2 + (d.y - y) ** 2;
    if (at < far) { far = at; best = d.r; }
  }
  return best;
};
$("loads").addEventListener("pointermove", (e) => {
  const r = nearest(e);
  $("near").textContent = r ? `${r.name}: load ${number(r.load)}, ${r.status}` : "";
});
$("loads").addEventListener("click", (e) => {
  const r = nearest(e);
  if (r) { go(r, true); $("rows").scrollIntoView(); }
});

// Benches: the share of the measured limit.
const benches = rows.filter((r) => r.more.figures && Object.keys(r.more.figures).length);
const SVG = "http://www.w3.org/2000/svg";
const bar = (share) => {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 110 16");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${Math.round(share * 100)} % of the limit`);
  const rect = (x, w, fill, h) => {
    const r = document.createElementNS(SVG, "rect");
    for (const [k, v] of Object.entries({ x, y: (16 - h) / 2, width: w, height: h })) r.setAttribute(k, v);
    r.style.fill = fill;
    svg.append(r);
  };
  rect(0, 110, "var(--bg)", 12);
  rect(0, Math.max(0.5, Math.min(110, share * 100)), "var(--focus)", 12);
  rect(100, 0.6, "var(--ink)", 16);
  return svg;
};
if (benches.length) {
  $("benches").hidden = false;
  for (const r of benches.slice(0, 400)) {
    const f = r.more.figures;
    const key = Object.keys(f).find((k) => k === "share" || k.endsWith("_share"));
    const share = key ? real(f[key]) : f.floor_us ? real(f.floor_us) / real(f.median_us) : null;
    const a = el("a", `${r.short} ${r.where}`,
      { href: `#${encodeURIComponent(r.name)}`, title: r.name });
    const said = Object.entries(f).filter(([k]) => k !== key).slice(0, 2);
    $("bars").append(a, Number.isFinite(share) ? bar(share) : el("span", ""),
      el("span", (Number.isFinite(share) ? `${Math.round(share * 100)} %, ` : "") +
        said.map(([k, v]) => `${k} ${number(real(v))}`).join(", ")));
  }
}

for (const id of ["status", "op", "dtype", "subject", "order"]) $(id).addEventListener("change", select);
let typing = 0;
$("text").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(select, 60); });
$("filters").addEventListener("submit", (e) => e.preventDefault());
$("list").addEventListener("scroll", draw, { passive: true });
addEventListener("resize", () => { draw(); plot(); });
addEventListener("hashchange", () => follow(true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plot);
select();
follow(false);
})();
