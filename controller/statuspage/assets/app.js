// The status page. It reads /v1/stream, which sends the whole state after each
// tick of the loop, and /v1/history for the hour before; it changes nothing.

const hour = 3600;
const words = {
  lost: ["?", "no signals"], hard: ["■", "HARD"], soft: ["▲", "SOFT"], ok: ["●", "OK"], disabled: ["–", "disabled"],
};
const outcomes = {
  applied: "applied", failed: "not applied", standby: "standing by", dry_run: "dry run", nothing: "nothing to apply",
};
const owners = {
  controller: "the controller", fast_loop: "the queue's fast loop", operator: "an operator", start_up: "the start-up",
};

// What the viewer chose, and what is shown.
const chosen = { target: "", condition: "", search: "", offset: 0 };
const limit = 25;
let status = null;      // the last message
let received = 0;       // when it came, by performance.now()
let connected = false;
let source = null;      // the stream
let retryIn = 1000;     // milliseconds
let retryTimer = 0;
let past = null;        // the hour of the chosen target, by column
let plots = [];
let spoken = "";        // condition of the chosen target that was last announced

const $ = (id) => document.getElementById(id);

// make returns an element with properties and children.
function make(tag, properties = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in e) e[name] = value; else e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

// text changes an element's text only where it differs, so that a screen reader
// or a selection is not disturbed.
function text(e, value) {
  if (e.textContent !== value) e.textContent = value;
}

const known = (v) => v !== null && v !== undefined && Number.isFinite(v);
function number(v, digits = 4) {
  if (!known(v)) return "unknown";
  if (Math.abs(v) >= 1000) return Math.round(v).toLocaleString("en-GB");
  return v.toLocaleString("en-GB", { maximumSignificantDigits: digits });
}
const rate = (v) => known(v) ? number(v, 3) + "/s" : "unknown";
const scale = (v) => known(v) ? String(Math.round(v * 1000) / 1000) : "none";
function seconds(v) {
  if (!known(v)) return "unknown";
  if (v > 0 && v < 0.1) return number(v * 1000, 2) + " ms";
  if (v < 120) return (v < 10 ? Math.round(v * 10) / 10 : Math.round(v)) + " s";
  if (v < 7200) return Math.round(v / 60) + " min";
  return Math.round(v / 3600) + " h";
}
const clock = (t) => new Date(t).toISOString().slice(11, 19);
function moment(t) {
  const day = new Date(t).toISOString().slice(0, 10);
  return day === new Date(status.at).toISOString().slice(0, 10) ? clock(t) : day + " " + clock(t);
}
// now is the controller's time, whatever the viewer's clock says.
const now = () => Date.parse(status.at) / 1000 + (performance.now() - received) / 1000;

function badge(condition, also = "") {
  const [sign, word] = words[condition];
  return make("span", { className: "badge " + condition }, make("span", { ariaHidden: "true" }, sign + " "), word + also);
}

// ---- the stream ----

function query() {
  const q = new URLSearchParams({ limit });
  for (const [name, value] of Object.entries(chosen)) if (value) q.set(name, value);
  return q.toString();
}

// open starts the stream anew, with what is chosen now.
function open() {
  close();
  if (document.hidden) return; // a browser allows few connections; a hidden page needs none
  source = new EventSource("/v1/stream?" + query());
  source.addEventListener("status", (event) => {
    const message = JSON.parse(event.data);
    if (!message.changes) message.changes = status ? status.changes : [];
    status = message;
    received = performance.now();
    retryIn = 1000;
    connected = true;
    if (status.selected) remember(status.selected);
    show();
  });
  source.addEventListener("error", () => {
    connected = false;
    summary();
    close();
    retryTimer = setTimeout(load, retryIn); // with the history of the time between
    retryIn = Math.min(30000, retryIn * 2);
  });
}

function close() {
  clearTimeout(retryTimer);
  if (source) source.close();
  source = null;
}

// load reads the history of the chosen target, and then follows the stream. At
// first the worst target is the chosen one.
let loading = 0;
async function load() {
  const turn = ++loading;
  close();
  try {
    if (!chosen.target) {
      const worst = (await ask("/v1/status?limit=1")).list.targets[0];
      if (turn !== loading) return;
      chosen.target = worst ? worst.target : "";
    }
    const history = await ask("/v1/history?" + new URLSearchParams({ target: chosen.target }));
    if (turn !== loading) return;
    past = history;
    draw();
    open();
  } catch (error) {
    if (turn !== loading) return;
    if (error.status === 400 && chosen.target) { // there is no such target any more
      chosen.target = "";
      return load();
    }
    connected = false;
    summary();
    retryTimer = setTimeout(load, retryIn);
    retryIn = Math.min(30000, retryIn * 2);
  }
}

async function ask(path) {
  const response = await fetch(path);
  if (!response.ok) throw Object.assign(new Error(path + " answered " + response.status), { status: response.status });
  return response.json();
}

// remember adds what is known now to the hour.
function remember(view) {
  if (!past || past.target !== view.target) return;
  const t = Date.parse(status.at) / 1000, at = past.times;
  if (at.length && t <= at[at.length - 1]) return;
  const d = view.providers[0] && view.providers[0].latest;
  const good = d && !d.fault;
  const value = (v) => good && known(v) ? v : null;
  at.push(t);
  past.depth.push(value(d && d.depth));
  past.capacity.push(value(d && d.capacity));
  past.soft_enter.push(value(d && d.soft_enter));
  past.hard_enter.push(value(d && d.hard_enter));
  past.arrivals_per_second.push(value(d && d.arrivals_per_second));
  past.drain_per_second.push(value(d && d.drain_per_second));
  past.level.push(good && d.level ? ["ok", "soft", "hard"].indexOf(d.level) : null);
  past.replicas.push(value(d && d.replicas));
  past.providers.forEach((p, i) => {
    const latest = view.providers[i] && view.providers[i].latest;
    p.scale.push(latest ? latest.scale : null);
    p.scale_in_force.push(latest ? latest.scale_in_force : null);
    p.effective_per_second.push(latest ? latest.effective_per_second : null);
  });
  let old = 0;
  while (old < at.length && at[old] < t - hour) old++;
  if (old) for (const column of columns()) column.splice(0, old);
}

function columns() {
  const all = [past.times, past.depth, past.capacity, past.soft_enter, past.hard_enter, past.arrivals_per_second,
    past.drain_per_second, past.level, past.replicas];
  for (const p of past.providers) all.push(p.scale, p.scale_in_force, p.effective_per_second);
  return all;
}

// ---- what is shown ----

function show() {
  summary();
  filters();
  list();
  detail();
  overrides();
  changes();
  loop();
}

// summary says in one line how the loop does. It is a live region, so it changes
// only when something that matters does.
function summary() {
  let line, condition = "ok";
  if (!connected) {
    line = status ? "The connection to the controller is lost; what is below is from " + clock(status.at) + ". Trying again …"
      : "The controller does not answer. Trying again …";
    condition = "hard";
  } else if (!status.loop.last_tick) {
    line = "The loop has not ticked yet.";
    condition = "lost";
  } else if (status.loop.query_error) {
    line = "Prometheus cannot be read: " + status.loop.query_error;
    condition = "hard";
  } else if (late()) {
    line = "The loop stands still: its last tick was at " + moment(status.loop.last_tick) + ".";
    condition = "hard";
  } else {
    const counts = status.list.counts, parts = [];
    for (const c of ["lost", "hard", "soft", "ok"]) if (counts[c]) parts.push(counts[c] + " " + words[c][1]);
    line = "The loop runs. " + (parts.length ? "Targets: " + parts.join(", ") + "." : "");
    condition = "";
  }
  const e = $("summary");
  text(e, line);
  e.className = condition;
  document.body.classList.toggle("stale", !connected);
}

const late = () => now() - Date.parse(status.loop.last_tick) / 1000 > 3 * status.loop.interval_seconds + 2;

function filters() {
  const box = $("filters");
  if (!box.children.length) {
    for (const condition of ["", "lost", "hard", "soft", "ok", "disabled"]) {
      const button = make("button", { type: "button" });
      button.dataset.condition = condition;
      button.addEventListener("click", () => { chosen.condition = condition; chosen.offset = 0; filters(); open(); });
      box.append(button);
    }
  }
  for (const button of box.children) {
    const condition = button.dataset.condition;
    const counts = status.list.counts;
    const n = condition ? counts[condition] || 0 : Object.values(counts).reduce((a, b) => a + b, 0);
    text(button, (condition ? words[condition].join(" ") : "All") + " " + number(n));
    button.setAttribute("aria-pressed", String(chosen.condition === condition));
    button.hidden = condition === "disabled" && n === 0;
  }
}

// list brings the table into line with the targets, row by row, so that the
// focus stays where it is.
function list() {
  const body = $("targets").tBodies[0], shown = status.list.targets;
  const rows = new Map([...body.rows].map((row) => [row.dataset.target, row]));
  shown.forEach((view, i) => {
    let row = rows.get(view.target);
    rows.delete(view.target);
    if (!row) {
      row = make("tr");
      row.dataset.target = view.target;
      const name = make("th", { scope: "row" }, make("a", { href: "#target=" + encodeURIComponent(view.target) }, view.target));
      row.append(name, ...["", "", "", "wide", "wide", "wide", "wide"].map((c) => make("td", { className: c })));
      const bar = make("div", { className: "bar", ariaHidden: "true" }, make("div", { className: "full" }),
        make("div", { className: "mark" }), make("div", { className: "mark" }));
      row.cells[2].append(make("span"), bar);
    }
    if (body.rows[i] !== row) body.insertBefore(row, body.rows[i] || null);
    fill(row, view);
  });
  for (const row of rows.values()) row.remove();
  $("none").hidden = shown.length > 0;
  $("targets").hidden = shown.length === 0;
  const { offset, matching } = status.list;
  $("pager").hidden = matching <= limit && offset === 0;
  text($("range"), number(offset + 1) + " to " + number(offset + shown.length) + " of " + number(matching));
  $("earlier").disabled = offset === 0;
  $("later").disabled = offset + shown.length >= matching;
}

function fill(row, view) {
  const d = view.providers[0] && view.providers[0].latest;
  if (view.target === chosen.target) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
  if (row.dataset.condition !== view.condition) {
    row.dataset.condition = view.condition;
    row.cells[1].replaceChildren(badge(view.condition));
  }
  const [full, soft, hard] = row.cells[2].lastChild.children;
  const capacity = d && (d.capacity || d.hard_enter);
  text(row.cells[2].firstChild, d && known(d.depth) ? number(d.depth) + (known(d.capacity) ? " of " + number(d.capacity) : "") : "unknown");
  row.cells[2].lastChild.className = "bar " + view.condition;
  const part = (v) => (capacity && known(v) ? Math.min(100, 100 * v / capacity) : 0) + "%";
  full.style.width = part(d && d.depth);
  soft.style.left = part(d && d.soft_enter);
  hard.style.left = part(d && d.hard_enter);
  const all = view.providers.map((p) => p.latest).filter(Boolean);
  text(row.cells[3], all.map((p) => scale(p.scale_in_force) + (p.scale !== p.scale_in_force && known(p.scale) ? ", wanted " + scale(p.scale) : "")).join("; ") || "none");
  text(row.cells[4], all.map((p) => rate(p.effective_per_second)).join("; ") || "unknown");
  text(row.cells[5], d ? rate(d.drain_per_second) : "unknown");
  text(row.cells[6], d && d.replicas ? number(d.replicas) : "unknown");
  text(row.cells[7], d ? seconds(d.age_seconds) + " old" + trouble(all) : "none yet");
}

function trouble(all) {
  const bad = [...new Set(all.filter((p) => p.outcome !== "applied").map((p) => outcomes[p.outcome]))];
  const held = all.some((p) => p.override) ? ["overridden"] : [];
  return [...bad, ...held].map((w) => "; " + w).join("");
}

function detail() {
  const view = status.selected;
  $("detail").hidden = !view;
  if (!view) return;
  text($("detail-heading"), "Target " + view.target);
  const d = view.providers[0] && view.providers[0].latest;
  sentences(view);
  if (spoken && spoken !== view.target + view.condition && spoken.startsWith(view.target)) {
    text($("announce"), "Target " + view.target + ": " + words[view.condition][1]);
  }
  spoken = view.target + view.condition;
  const figures = [["Level", badge(view.condition, view.level_since && view.condition !== "lost" ? " since " + moment(view.level_since) : "")]];
  if (d) {
    figures.push(
      ["Depth", number(d.depth) + (known(d.capacity) ? " of " + number(d.capacity) : "")],
      ["SOFT above, HARD from", number(d.soft_enter) + ", " + number(d.hard_enter)],
      ["Arrivals", rate(d.arrivals_per_second)], ["Drain", rate(d.drain_per_second)],
      ["Replicas", d.replicas ? number(d.replicas) : "unknown"],
      ["Signals", seconds(d.age_seconds) + " old, stale after " + seconds(view.stale_after_seconds)],
      ["Dead time", seconds(d.dead_time_seconds)],
    );
    if (known(d.headroom_items)) figures.push(["Headroom at the worst", number(d.headroom_items)]);
  }
  for (const p of view.providers) {
    const latest = p.latest, of = view.providers.length > 1 ? " of " + p.provider : "";
    if (!latest) continue;
    figures.push(
      ["Scale wanted" + of, scale(latest.scale) + " by the " + p.law + " law" + (latest.guard ? ", limited: " + latest.guard.replaceAll("_", " ") : "")],
      ...(latest.combined ? [["Scale of all its targets" + of, scale(latest.combined.scale) + " (" + latest.combined.by + ")"]] : []),
      ["Scale in force" + of, scale(latest.scale_in_force) + (latest.scale_in_force_owner ? ", by " + owners[latest.scale_in_force_owner] : "")],
      ["Allowed rate" + of, rate(latest.effective_per_second) + " of " + rate(latest.base_per_second)],
      ["Lease" + of, lease(latest, view)],
    );
  }
  terms($("figures"), figures);
  update();
  table();
}

function lease(d, view) {
  if (d.outcome === "standby") return "held by " + d.holder;
  if (d.outcome === "applied" && d.kept) return "held here, and not yet due for renewal";
  if (d.outcome === "applied") return "held here, for " + seconds(view.lease_seconds) + " from each tick";
  return outcomes[d.outcome];
}

// sentences says of each provider why its scale is what it is.
function sentences(view) {
  const box = $("sentences"), shown = view.providers.filter((p) => p.latest);
  while (box.children.length > Math.max(1, shown.length)) box.lastChild.remove();
  while (box.children.length < Math.max(1, shown.length)) box.append(make("p", {}, make("span")));
  [...box.children].forEach((e, i) => {
    e.className = "sentence " + view.condition;
    const name = shown.length > 1 ? shown[i].provider + ": " : "";
    text(e.firstChild, shown.length ? name + shown[i].latest.explanation
      : view.condition === "disabled" ? "This target is disabled: nothing is decided." : "Nothing was decided yet.");
  });
}

// terms fills a list of terms, whose values are text or an element.
function terms(list, entries) {
  while (list.children.length > entries.length) list.lastChild.remove();
  while (list.children.length < entries.length) list.append(make("div", {}, make("dt"), make("dd")));
  entries.forEach(([term, value], i) => {
    const [dt, dd] = list.children[i].children;
    text(dt, term);
    if (typeof value === "string") text(dd, value);
    else if (dd.textContent !== value.textContent || !dd.firstElementChild) dd.replaceChildren(value);
  });
}

function overrides() {
  const items = status.overrides.map((o) => make("li", {},
    make("strong", {}, o.provider + " of " + o.target), ": at most " + scale(o.scale) + " until " + moment(o.expires_at) +
    ", by " + o.holder + ": " + o.reason));
  if (status.more_overrides) items.push(make("li", {}, "and " + number(status.more_overrides) + " more"));
  if (!items.length) items.push(make("li", { className: "muted" }, "None."));
  replace($("overrides"), items);
}

function changes() {
  text($("changes-heading"), status.selected ? "Last decisions about " + status.selected.target : "Last decisions");
  const items = status.changes.map((c) => make("li", {}, make("span", { className: "when" }, moment(c.at)),
    badge(c.reason !== "law" || !c.level ? "lost" : c.level), " ", make("span", {}, c.explanation)));
  if (!items.length) items.push(make("li", { className: "muted" }, "None since the controller started."));
  replace($("changes"), items);
}

// replace puts items into a list unless they say what is there.
function replace(list, items) {
  if (list.children.length === items.length && items.every((item, i) => item.textContent === list.children[i].textContent)) return;
  list.replaceChildren(...items);
}

// shard says which part of the targets this controller has; of several pages the
// titles tell which is whose.
const shard = (l) => "shard " + l.shard.index + " of " + l.shard.of;

function loop() {
  const l = status.loop;
  document.title = "Headgate" + (l.shard ? ", " + shard(l) : "");
  text($("targets-heading"), "Targets" + (l.shard ? " of " + shard(l) : ""));
  const decided = Object.entries(l.decisions).map(([outcome, n]) => number(n) + " " + outcomes[outcome]).join(", ");
  terms($("loop"), [
    ["Last tick", l.last_tick ? moment(l.last_tick) + ", took " + seconds(l.tick_seconds) : "none yet"],
    ["Interval", seconds(l.interval_seconds)], ["Ticks", number(l.ticks)],
    ["Oldest signal", seconds(l.oldest_signal_seconds)],
    ["Last snapshot of Prometheus", l.last_snapshot ? moment(l.last_snapshot) : "none yet"],
    ["Queries", number(l.queries) + ", of which failed " + number(l.query_errors) + (l.query_pending ? "; one is under way" : "")],
    ["Leases are held as", l.holder], ...(l.shard ? [["Targets", "those of " + shard(l)]] : []),
    ["Decisions of the last tick", decided || "none"],
  ]);
}

// ---- charts ----

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// lines are the lines of a chart: a label, a colour, a dash, a way to write a
// value, and the column.
function kinds() {
  const many = past.providers.length > 1;
  const dashes = [[], [10, 4], [4, 4], [12, 3, 3, 3]];
  const of = (p) => many ? " of " + p.provider : "";
  const kinds = [
    { title: "Depth, items", write: number, lines: [
      { label: "depth", colour: "blue", width: 2, fill: true, column: past.depth },
      { label: "SOFT above", colour: "soft", dash: [8, 4], column: past.soft_enter },
      { label: "HARD from", colour: "hard", dash: [2, 3], column: past.hard_enter },
      { label: "capacity", colour: "grey", column: past.capacity },
    ] },
    { title: "Rates, items per second", write: rate, lines: [
      { label: "arrivals", colour: "ok", dash: [8, 4], column: past.arrivals_per_second },
      { label: "drain", colour: "blue", width: 2, column: past.drain_per_second },
      ...past.providers.map((p) => ({ label: "allowed" + of(p), colour: "soft", dash: [2, 3], stepped: true, column: p.effective_per_second })),
    ] },
    { title: "Scale", write: scale, range: [-0.03, 1.03], stepped: true, lines: past.providers.flatMap((p, i) => [
      { label: "in force" + of(p), colour: "blue", width: 2, dash: dashes[i % 4], column: p.scale_in_force },
      { label: "wanted" + of(p), colour: "soft", dash: i ? dashes[(i + 1) % 4] : [3, 3], column: p.scale },
    ]) },
    { title: "Level", write: (v) => known(v) ? ["OK", "SOFT", "HARD"][v] : "unknown", range: [-0.2, 2.2], ticks: [0, 1, 2], stepped: true, small: true, lines: [
      { label: "level", colour: "text", width: 2, fill: true, column: past.level },
    ] },
  ];
  if (past.replicas.some((v) => v > 0)) {
    kinds.push({ title: "Replicas", write: number, stepped: true, small: true, lines: [
      { label: "replicas", colour: "blue", width: 2, column: past.replicas },
    ] });
  }
  return kinds;
}

// draw makes the charts of the chosen target anew.
function draw() {
  for (const p of plots) { p.watch.disconnect(); p.plot.destroy(); }
  plots = [];
  const box = $("charts");
  box.replaceChildren();
  for (const kind of kinds()) plots.push(chart(box, kind));
}

function chart(box, kind) {
  const holder = make("div", { className: "plot", role: "img" });
  const values = [];
  const keys = kind.lines.map((line) => {
    const value = make("span");
    values.push(value);
    return make("span", { className: "key" }, sample(line), make("span", {}, line.label + " "), value);
  });
  const figure = make("figure", {}, make("figcaption", {}, make("h3", {}, kind.title), ...keys), holder);
  box.append(figure);
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui, sans-serif" };
  const options = {
    width: Math.max(200, holder.clientWidth), height: kind.small ? 120 : 190,
    legend: { show: false },
    cursor: { sync: { key: "hour" }, drag: { x: false, y: false }, points: { size: 6 } },
    tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
    scales: { x: { time: true, range: span }, y: { range: kind.range || ((u, low, high) => [Math.min(0, low || 0), (high || 1) * 1.05]) } },
    axes: [
      { ...axis, size: 30, space: 70, values: (u, at, _, __, step) => at.map((t) => new Date(t * 1000).toISOString().slice(11, step < 60 ? 19 : 16)) },
      { ...axis, size: 60, splits: kind.ticks ? () => kind.ticks : undefined, values: (u, at) => at.map((v) => kind.write(v).replace("/s", "")) },
    ],
    series: [{}, ...kind.lines.map((line) => ({
      label: line.label, stroke: colour(line.colour), width: line.width || 1.5, dash: line.dash, points: { show: false },
      fill: line.fill ? colour("fill") : undefined, spanGaps: false,
      paths: line.stepped || kind.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
    }))],
    hooks: { setCursor: [(u) => read(u.cursor.idx)] },
  };
  const data = () => [past.times, ...kind.lines.map((line) => line.column)];
  const plot = new uPlot(options, data(), holder);
  // read writes the values under the cursor into the key, else the newest ones.
  function read(at) {
    const last = past.times.length - 1;
    kind.lines.forEach((line, i) => text(values[i], kind.write(line.column[at ?? last])));
  }
  const watch = new ResizeObserver(() => {
    const width = Math.floor(holder.clientWidth);
    if (width > 0 && width !== plot.width) plot.setSize({ width, height: plot.height });
  });
  watch.observe(holder);
  const it = { plot, watch, kind, refresh() {
    plot.setData(data());
    read(plot.cursor.idx);
    const label = describe(kind);
    if (holder.getAttribute("aria-label") !== label) holder.setAttribute("aria-label", label);
  } };
  it.refresh();
  return it;
}

// span is what the charts show: the last hour, or less where less is known.
function span() {
  const at = past.times, end = at.length ? at[at.length - 1] : Date.now() / 1000;
  const start = at.length ? Math.max(end - hour, at[0]) : end - 60;
  return [Math.min(start, end - 60), end];
}

// sample is a piece of a line, as the chart has it.
function sample(line) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", "28");
  svg.setAttribute("height", "8");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of Object.entries({
    d: "M0 4h28", fill: "none", stroke: colour(line.colour), "stroke-width": line.width || 1.5, "stroke-dasharray": (line.dash || []).join(" "),
  })) path.setAttribute(name, value);
  svg.append(path);
  return svg;
}

// describe says a chart in words: of each line the newest, least and highest.
function describe(kind) {
  const parts = kind.lines.map((line) => {
    const all = line.column.filter(known);
    if (!all.length) return line.label + " unknown";
    const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    const newest = line.column[line.column.length - 1];
    return line.label + " now " + kind.write(newest) + (low === high ? "" : ", from " + kind.write(low) + " to " + kind.write(high));
  });
  return kind.title + " over the last hour: " + parts.join("; ");
}

function update() {
  if (!past || past.target !== chosen.target) return;
  if (plots.length !== kinds().length) return draw(); // replicas are known now
  for (const p of plots) p.refresh();
}

// table is the hour in numbers, a dozen rows, for those who do not see charts.
function table() {
  if (!$("numbers").open || !past || !past.times.length) return;
  const t = $("numbers").querySelector("table");
  const all = kinds().flatMap((kind) => kind.lines.map((line) => ({ ...line, write: kind.write })));
  if (t.tHead.rows.length === 0 || t.tHead.rows[0].cells.length !== all.length + 1) {
    t.tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "Time"), ...all.map((line) => make("th", { scope: "col" }, line.label))));
  }
  const n = past.times.length, rows = [];
  for (let i = 0; i < Math.min(12, n); i++) {
    const at = n - 1 - Math.floor(i * n / Math.min(12, n));
    rows.push(make("tr", {}, make("th", { scope: "row" }, clock(past.times[at] * 1000)), ...all.map((line) => make("td", {}, line.write(line.column[at])))));
  }
  t.tBodies[0].replaceChildren(...rows);
}

// ---- what the viewer does ----

function choose(fromUser) {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("target");
  if (!wanted || wanted === chosen.target) return;
  chosen.target = wanted;
  load().then(() => { if (fromUser) $("detail-heading").focus(); });
}

let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { chosen.search = $("search").value.trim(); chosen.offset = 0; open(); }, 250);
});
$("earlier").addEventListener("click", () => { chosen.offset = Math.max(0, chosen.offset - limit); open(); });
$("later").addEventListener("click", () => { chosen.offset += limit; open(); });
$("numbers").addEventListener("toggle", table);
addEventListener("hashchange", () => choose(true));
document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else load(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (past) draw(); });
setInterval(() => { if (status) summary(); }, 1000);

choose(false);
if (!chosen.target) load();
