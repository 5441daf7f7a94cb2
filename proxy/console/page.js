"use strict";
// Draws what /api/status says, then what /api/events adds once a second. Text from the proxy is only
// ever set as text: names of databases and users are strangers' words.

const KEPT_POINTS = 300;
const COLOURS = ["a", "b", "c", "d", "e", "f"];
const SVG = "http://www.w3.org/2000/svg";
// Not relative: the page's own address may hold a name and password, which fetch refuses.
const HERE = location.origin;
let points = [];

const by = (id) => document.getElementById(id);

function make(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
}

// --- numbers as people read them

function count(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (Math.abs(value) >= size) return (value / (unit === "k" ? 1e3 : size)).toFixed(1) + " " + unit;
  }
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return (unit ? value.toFixed(1) : String(Math.round(value))) + " " + units[unit];
}

function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return (value / 1000).toFixed(1) + " s";
  return (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)) + " ms";
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return (seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return (seconds / 3600).toFixed(1) + " h";
  return Math.round(seconds / 86400) + " d";
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString();

// --- curves

// All that there is, and not less than a minute of it.
const drawnPoints = () => Math.max(60, points.length);

function draw(figure, series, format) {
  const width = 300, height = 100;
  let most = 0;
  for (const each of series) for (const value of each.values) if (value > most) most = value;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", series.map((each) => each.name).join(", ") + ", at most " + format(most));
  for (const y of [0.5, height - 0.5]) {
    const line = document.createElementNS(SVG, "line");
    for (const [key, value] of Object.entries({ x1: 0, x2: width, y1: y, y2: y, class: "axis" })) line.setAttribute(key, value);
    svg.append(line);
  }
  const legend = make("ul", null, "legend");
  series.forEach((each, index) => {
    const colour = COLOURS[index % COLOURS.length];
    let path = "", pen = "M";
    each.values.forEach((value, at) => {
      if (value === null || value === undefined) { pen = "M"; return; }
      const x = width - (each.values.length - 1 - at) * (width / (drawnPoints() - 1));
      const y = height - 1 - (most ? (value / most) * (height - 4) : 0);
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      if (pen === "M") path += `h0.5`;
      pen = "L";
    });
    const drawn = document.createElementNS(SVG, "path");
    drawn.setAttribute("d", path);
    drawn.setAttribute("class", "line-" + colour);
    svg.append(drawn);
    const item = make("li");
    item.append(make("i", "", "mark-" + colour), `${each.name} ${format(each.values[each.values.length - 1])}`);
    legend.append(item);
  });
  legend.append(make("li", "top " + format(most)));
  figure.replaceChildren(figure.querySelector("figcaption"), svg, legend);
}

function drawCurves() {
  by("covered").textContent = points.length > 90 ? Math.round(points.length / 60) + " minutes" : "minute";
  const of = (key) => points.map((point) => point[key]);
  draw(by("curve-throughput"), [
    { name: "queries", values: of("queries") },
    { name: "transactions", values: of("transactions") },
    { name: "errors", values: of("errors") },
  ], count);
  draw(by("curve-latency"), [
    { name: "p50", values: of("p50_ms") },
    { name: "p95", values: of("p95_ms") },
    { name: "p99", values: of("p99_ms") },
  ], ms);
  const nodes = [...new Set(points.flatMap((point) => Object.keys(point.lag_s)))].sort();
  draw(by("curve-lag"), nodes.map((node) => ({
    name: node, values: points.map((point) => (node in point.lag_s ? point.lag_s[node] : null)),
  })), span);
}

// --- tables

function fill(section, rows, nothing) {
  const body = document.querySelector(`#${section} tbody`);
  if (!rows.length) {
    const cell = make("td", nothing, "soft");
    cell.colSpan = document.querySelectorAll(`#${section} th`).length;
    const row = make("tr");
    row.append(cell);
    body.replaceChildren(row);
    return;
  }
  body.replaceChildren(...rows.map((cells) => {
    const row = make("tr");
    for (const cell of cells) {
      if (cell instanceof HTMLElement) {
        const holder = cell.tagName === "TD" ? cell : make("td");
        if (holder !== cell) holder.append(cell);
        row.append(holder);
      } else row.append(make("td", cell));
    }
    return row;
  }));
}

const number = (text) => make("td", text, "n");

function drawNode(node) {
  const card = make("article", null, `node ${node.role || "none"} ${node.state}`);
  const head = make("h3", node.name + " ");
  head.append(make("span", node.role || "not used", node.role ? "" : "bad"), " ",
    make("span", node.state, { up: "good", down: "bad" }[node.state] || "odd"));
  card.append(head);
  const place = [`${node.host}:${node.port}`];
  if (node.zone) place.push(node.zone);
  if (node.server_version) place.push("PostgreSQL " + node.server_version);
  card.append(make("p", place.join(" · ")));
  if (node.role === "replica") {
    const lag = make("p", "lag ");
    lag.append(make("b", span(node.lag_s)), node.lag_bytes === null ? "" : ` · ${bytes(node.lag_bytes)}`, node.stale ? " · cut off from the primary" : "");
    card.append(lag);
  }
  const limit = node.connection_limit ? ` of ${node.connection_limit}` : "";
  card.append(make("p", `${node.connections}${limit} connections · round trip ${ms(node.round_trip_ms)}`));
  card.append(make("p", node.reason));
  return card;
}

function drawTopology(clusters) {
  by("clusters").replaceChildren(...clusters.map((cluster) => {
    const block = make("div", null, "cluster");
    const head = make("h3", cluster.name + " ");
    head.append(make("small", cluster.primary ? `primary is ${cluster.primary}` : `no primary: ${cluster.reason}`, cluster.primary ? "soft" : "bad"));
    const nodes = make("div", null, "nodes");
    nodes.append(...cluster.nodes.map(drawNode));
    block.append(head, nodes);
    return block;
  }));
}

function drawPools(pools) {
  fill("pools", pools.map((pool) => {
    const meter = make("meter");
    meter.max = pool.size;
    meter.high = pool.size * 0.8;
    meter.optimum = 0;
    meter.value = pool.active;
    return [pool.database, pool.user, pool.node, meter, number(`${pool.active} / ${pool.size}`), number(pool.idle),
      number(pool.waiting), number(pool.waiting ? span(pool.oldest_wait_s) : "–")];
  }), "no client has asked for anything yet");
}

function drawQueries(queries) {
  fill("queries", queries.slice(0, 20).map((query) => {
    const statement = make("code", query.statement);
    statement.title = query.statement.slice(0, 2000);
    const where = Object.entries(query.nodes).map(([node, calls]) => `${node} ${count(calls)}`).join(", ");
    return [statement, query.database, number((query.share * 100).toFixed(1) + " %"), number(count(query.calls)),
      number(ms(query.mean_ms)), number(ms(query.p95_ms)), number(count(query.rows)), number(bytes(query.bytes)), where];
  }), "none yet");
}

function drawPins(pins) {
  const total = Object.entries(pins.total).filter(([, times]) => times).map(([reason, times]) => `${reason} ${times}×`).join(", ");
  fill("pins", pins.clients.map((pin) => [pin.database, pin.user, pin.addr, pin.node, pin.reasons.join(", "), number(span(pin.since_s))]),
    total ? `nobody now; so far: ${total}` : "nobody");
}

const SENTENCES = new Set(["node", "primary", "decision", "promotion", "switchover", "replica", "fencing", "hook"]);

function drawEvents(events, severalClusters) {
  document.querySelector("#events ol").replaceChildren(...(events.length ? events : [{ message: "none yet", facts: {} }]).map((event) => {
    const item = make("li");
    if (event.at) {
      const time = make("time", clock(event.at));
      time.dateTime = new Date(event.at * 1000).toISOString();
      item.append(time);
    }
    if (event.kind) item.append(make("b", event.kind, "kind"));
    // A sentence says it all; of which cluster it speaks is to be said where there are several.
    const shown = Object.entries(event.facts).filter(([key, value]) =>
      SENTENCES.has(event.kind) ? key === "cluster" && severalClusters : !event.message.includes(value));
    const facts = shown.map(([key, value]) => `${key}=${value}`).join(" ");
    item.append(make("span", event.message, { warning: "odd", error: "bad" }[event.level] || ""), " ", make("span", facts, "soft"));
    return item;
  }));
}

function drawHead(status) {
  by("version").textContent = status.version;
  by("uptime").textContent = "up " + span(status.uptime_s);
  const ready = by("ready");
  ready.textContent = status.ready ? "ready" : status.draining ? "draining" : "not ready";
  ready.className = "badge " + (status.ready ? "good" : "bad");
  ready.title = status.not_ready || "";
  document.title = (status.ready ? "" : "! ") + "pgweir";
  const warnings = by("warnings");
  warnings.hidden = !status.warnings.length;
  warnings.querySelector("ul").replaceChildren(...status.warnings.map((warning) => make("li", warning)));
}

function drawFigures(status) {
  const now = points[points.length - 1];
  by("now-queries").textContent = now ? count(now.queries) : "–";
  by("now-errors").textContent = now ? count(now.errors) : "–";
  by("now-p95").textContent = ms(status.latency.p95_ms);
  by("now-clients").textContent = `${count(status.clients.total)} / ${count(status.clients.limit)}`;
  by("now-waiting").textContent = count(status.clients.waiting);
  const roles = status.totals.queries_by_role;
  const all = Object.values(roles).reduce((sum, each) => sum + each, 0);
  by("now-replicas").textContent = all ? Math.round((roles.replica || 0) / all * 100) + " %" : "–";
  by("now-servers").textContent = count(status.clusters.flatMap((each) => each.nodes).reduce((sum, node) => sum + node.connections, 0));
  by("now-pins").textContent = count(status.pins.clients.length);
}

function show(status) {
  const newest = points.length ? points[points.length - 1].at : 0;
  points = points.concat(status.points.filter((point) => point.at > newest)).slice(-KEPT_POINTS);
  drawHead(status);
  drawFigures(status);
  drawCurves();
  drawTopology(status.clusters);
  drawPools(status.pools);
  drawQueries(status.queries);
  drawPins(status.pins);
  drawEvents(status.events, status.clusters.length > 1);
}

// --- from the proxy

function say(text, lost) {
  by("live").textContent = text;
  by("live").className = lost ? "lost" : "";
}

async function reload() {
  const answer = await fetch(HERE + "/api/status");
  if (!answer.ok) throw new Error(`/api/status answers ${answer.status}`);
  points = [];
  show(await answer.json());
}

function listen() {
  const events = new EventSource(HERE + "/api/events");
  let fresh = false;
  events.addEventListener("open", () => {
    // After a pause there are points in between.
    if (!fresh) reload().catch(() => {});
    fresh = true;
  });
  events.addEventListener("message", (message) => {
    show(JSON.parse(message.data));
    say("live, " + new Date().toLocaleTimeString(), false);
  });
  events.addEventListener("error", () => {
    fresh = false;
    say("the proxy does not answer; trying again …", true);
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

listen();
