// The dashboard: one WebSocket, one snapshot, no frameworks. All text goes through textContent.
"use strict";

const RETRY_MS = 3000;
const CONFIRM_MS = 3000;
const SILENCE_MS = 10000;
const $ = (id) => document.getElementById(id);
let socket = null;
let token = null;
let snapshot = null;
let armedUntil = 0;
let lastFrame = 0;
let busy = false;

// ---- numbers and times ------------------------------------------------------------------------------------------------

const known = (value) => value !== null && value !== undefined && value !== "" && Number.isFinite(Number(value));
const fixed = (value, digits) => known(value)
  ? Number(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : "–";
const signed = (value, digits) => known(value) ? (Number(value) > 0 ? "+" : "") + fixed(value, digits) : "–";
const percent = (fraction, digits = 2) => known(fraction) ? fixed(100 * Number(fraction), digits) + "%" : "–";
const signedPercent = (fraction) => known(fraction) ? signed(100 * Number(fraction), 2) + "%" : "–";
const money = (value) => known(value) ? `${fixed(value, 2)} ${snapshot.currency ?? ""}`.trim() : "–";
const tone = (value) => !known(value) || Number(value) === 0 ? "" : Number(value) > 0 ? "good" : "bad";
const ms = (value) => known(value) ? fixed(value, Number(value) < 10 ? 1 : 0) + " ms" : "–";
const count = (value) => fixed(value, 0);
const FEED_TONES = { live: "healthy", repairing: "warn", disconnected: "bad", offline: "bad" };
const iso = (ns) => new Date(Number(ns) / 1e6).toISOString();
const clock = (ns) => known(ns) && Number(ns) > 0 ? iso(ns).slice(11, 16) : "–";
function price(value) {
  if (!known(value)) return "–";
  const size = Math.abs(Number(value));
  return fixed(value, size >= 1000 ? 2 : size >= 1 ? 4 : 6);
}
function quantity(value) {
  return known(value) ? Number(value).toLocaleString("en-US", { maximumFractionDigits: 8 }) : "–";
}

// ---- elements ---------------------------------------------------------------------------------------------------------

function put(id, text, className) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  if (className !== undefined && element.className !== className) element.className = className;
}
function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}
// A table is rebuilt only when its data changed, so that focus and reading position stay where they are.
const drawn = new Map();
function fill(id, rows, columns, empty, draw) {
  const key = JSON.stringify(rows);
  if (drawn.get(id) === key) return;
  drawn.set(id, key);
  if (rows.length) return $(id).replaceChildren(...rows.map(draw));
  const cell = make("td", empty, "quiet");
  cell.colSpan = columns;
  const row = make("tr");
  row.append(cell);
  $(id).replaceChildren(row);
}
function line(...cells) {
  const row = make("tr");
  row.append(...cells.map((cell) => {
    if (cell instanceof Node) { const box = make("td"); box.append(cell); return box; }
    const [text, className] = Array.isArray(cell) ? cell : [cell];
    return make("td", text, className);
  }));
  return row;
}

// ---- views ------------------------------------------------------------------------------------------------------------

function show(data) {
  snapshot = data;
  showHeader();
  showAccount();
  showCurve();
  showTables();
  showRisk();
  showModel();
}

function showHeader() {
  const state = snapshot.state ?? "unknown";
  const tones = { RUNNING: "healthy", PAUSED: "warn", REDUCING: "warn", EMERGENCY_STOP: "bad", ERROR: "bad" };
  put("state", state.replaceAll("_", " "), `chip ${tones[state] ?? "unknown"}`);
  put("venue", snapshot.venue ?? "");
  const badges = [snapshot.is_synthetic ? "SYNTHETIC" : "", snapshot.replay || snapshot.venue === "replay" ? "REPLAY" : "",
    snapshot.mode ?? ""].filter(Boolean);
  const key = badges.join();
  if (drawn.get("badges") !== key) {
    drawn.set("badges", key);
    $("badges").replaceChildren(...badges.map((text) => make("span", text, "badge")));
  }
  const time = Number(snapshot.market_time_ns) > 0 ? iso(snapshot.market_time_ns) : "";
  put("market-time", time ? time.slice(0, 19).replace("T", " ") + " UTC" : "not known");
  $("market-time").dateTime = time;
  const stopped = state === "EMERGENCY_STOP";
  $("pause").disabled = busy || !["RUNNING", "REDUCING"].includes(state);
  $("resume").disabled = busy || state !== "PAUSED";
  $("clear").hidden = !stopped;
  $("clear").disabled = busy;
  if (Date.now() >= armedUntil) $("emergency").disabled = busy || stopped;
  const open = snapshot.emergency_still_open ?? [];
  const dust = (snapshot.positions ?? []).filter((p) => p.is_dust).map((p) => p.symbol);
  const flat = `Emergency stop: everything is closed${dust.length ? `, of ${dust.join(", ")} dust is left` : ""}. Clear it to go on.`;
  if (stopped) notice(open.length ? `Emergency stop: still open: ${open.join(", ")}` : flat);
  else if ($("notice").dataset.kind === "stop") notice("");
  if (stopped) $("notice").dataset.kind = "stop";
}

function showAccount() {
  put("equity", money(snapshot.equity), "figure");
  const start = Number(snapshot.day_start_equity);
  const change = Number(snapshot.equity) - start;
  const hasChange = known(snapshot.equity) && known(snapshot.day_start_equity) && start !== 0;
  const digits = Number.isInteger(change) ? 0 : 2;
  put("equity-change", hasChange ? `${signed(change, digits)} (${signedPercent(change / start)}) today` : "not known yet",
    `quiet ${hasChange ? tone(change) : ""}`.trim());
  put("unrealised", signed(snapshot.unrealised_pnl, 2), `figure ${tone(snapshot.unrealised_pnl)}`.trim());
  put("realised", signed(snapshot.realised_pnl, 2), `figure ${tone(snapshot.realised_pnl)}`.trim());
  const closed = snapshot.closed_trades;
  put("trades", known(closed) ? `${closed} closed` + (closed > 0 ? `, ${percent(snapshot.winning_trades / closed, 0)} won` : "") : "");
  const drawdown = snapshot.drawdown; // a positive fraction
  put("drawdown", percent(drawdown), `figure ${!known(drawdown) ? "" : drawdown < 0.05 ? "good" : drawdown < 0.1 ? "warn" : "bad"}`.trim());
  const held = snapshot.positions;
  put("open-positions", held ? String(held.filter((p) => !p.is_dust).length) : "–");
  put("cash", known(snapshot.cash) ? `cash ${money(snapshot.cash)}` : "");
}

function showTables() {
  fill("tiers", snapshot.tiers ?? [], 6, "Nothing heard yet", (t) => line(t.name, make("span", t.status, `chip ${t.status}`),
    [ms(t.latency_ms?.p50), "n"], [ms(t.latency_ms?.p95), "n"], [String(t.restarts ?? "–"), "n"],
    [String(t.errors ?? "–"), `n ${t.errors ? "bad" : ""}`]));
  $("feeds-panel").hidden = !(snapshot.feeds ?? []).length;
  fill("feeds", snapshot.feeds ?? [], 10, "Nothing heard yet", (f) => line(f.symbols, make("span", f.status, `chip ${FEED_TONES[f.status]}`),
    [ms(f.lag_p50_ms), "n"], [ms(f.lag_p99_ms), "n"], [count(f.messages), "n"], [count(f.reconnects), "n"], [count(f.books_lost), "n"],
    [count(f.minutes_confirmed), "n"], [count(f.minutes_repaired), "n"], [count(f.minutes_corrected), "n"]));
  showSymbols();
  fill("positions", snapshot.positions ?? [], 9, snapshot.positions ? "No open positions" : "Account not known yet", (p) => line(p.symbol,
    p.is_dust ? ["DUST", "quiet"] : [p.side, p.side.toLowerCase()], [quantity(p.quantity), "n"], [price(p.average_price), "n"], [price(p.mark_price), "n"],
    [signed(p.unrealised_pnl, 2), `n ${tone(p.unrealised_pnl)}`], [signedPercent(p.unrealised_pnl_pct), `n ${tone(p.unrealised_pnl_pct)}`],
    [price(p.stop_price), "n"], [price(p.target_price), "n"]));
  fill("predictions", snapshot.predictions ?? [], 5, "No prediction yet", (p) => line(p.symbol, [p.action, p.action.toLowerCase()],
    confidence(p.confidence), [(p.attention ?? []).map((a) => fixed(100 * a, 0)).join(" / "), "n"], [clock(p.bar_time), "n"]));
  fill("decisions", snapshot.decisions ?? [], 5, "No decision yet", decisionRow);
  fill("orders", snapshot.orders ?? [], 5, "No order yet", (o) => line(o.symbol,
    Number(o.side) > 0 ? ["BUY", "buy"] : ["SELL", "sell"], [quantity(o.filled_base), "n"],
    [Number(o.filled_base) > 0 ? price(o.average_price) : "–", "n"], o.status));
}
// The prices move with every frame and the buttons must not: cells are written, rows are rebuilt only when their status changes.
function showSymbols() {
  const rows = snapshot.symbols ?? [];
  fill("symbols", rows.map((s) => ({ symbol: s.symbol, status: symbolStatus(s), out: s.reduce_only })), 5, "Nothing heard yet", (s) => {
    const change = make("button", s.out ? "Trade" : "Remove");
    change.type = "button";
    change.setAttribute("aria-label", `${change.textContent}: ${s.symbol}`);
    change.addEventListener("click", () => s.out ? changeSymbol("POST", "/symbols", { symbol: s.symbol })
      : changeSymbol("DELETE", `/symbols/${encodeURIComponent(s.symbol)}`));
    return line(s.symbol, make("span", s.status, `chip ${SYMBOL_TONES[s.status]}`), ["–", "n"], ["–", "n"], change);
  });
  rows.forEach((s, i) => {
    const cells = $("symbols").rows[i].cells;
    cells[2].textContent = price(s.last_price);
    cells[3].textContent = known(s.spread_bps) ? fixed(s.spread_bps, 1) + " bps" : "–";
  });
}
const SYMBOL_TONES = { traded: "healthy", "warming up": "unknown", "no fresh data": "bad", "closing only": "warn" };
const symbolStatus = (s) => s.reduce_only ? "closing only" : !s.is_warm ? "warming up" : s.is_stale ? "no fresh data" : "traded";
async function changeSymbol(method, path, body) {
  notice("");
  try { await call(method, path, body); return true; } catch (error) { notice(error.message); return false; }
}
const STATE_TONES = { ACTIVE: "healthy", REDUCING: "warn", HALTED: "bad" };
const REGIME_TONES = { LOW: "good", MEDIUM: "", HIGH: "warn", EXTREME: "bad" };
const COUNTED = new Set(["open_positions", "entries_today", "consecutive_losses"]);
const words = (name) => name.replaceAll("_", " ");
function showRisk() {
  const permitted = snapshot.trading_state ?? "unknown";
  put("trading-state", permitted, `chip ${STATE_TONES[permitted] ?? "unknown"}`);
  const trips = snapshot.trips ?? [];
  $("trips").hidden = !trips.length;
  put("trips", trips.map((t) => `${t.code.replaceAll("_", " ")}: ${t.detail}`).join("; "));
  const risk = snapshot.risk ?? {};
  const tail = (risk.tails ?? []).find((t) => t.method === "historical" && t.level === 0.95) ?? {};
  const figures = [["VaR 95 %, a day", known(tail.var) || !snapshot.risk ? percent(tail.var) : `${risk.n_tail_days ?? 0} of 30 days known`],
    ["CVaR 95 %", percent(tail.cvar)], ["Risk score", fixed(risk.risk_score, 0)],
    ["Exposure", percent(risk.gross_exposure, 1)], ["Beta to BTC", fixed(risk.beta_market, 2)], ["Sharpe, 30 d", fixed(risk.sharpe_30d, 2)],
    ["Max drawdown", percent(risk.max_drawdown)], ["Correlation", known(risk.mean_correlation) ? `${fixed(risk.mean_correlation, 2)} ${risk.correlation_regime}` : "–"]];
  const key = JSON.stringify(figures);
  if (drawn.get("risk-figures") !== key) {
    drawn.set("risk-figures", key);
    $("risk-figures").replaceChildren(...figures.map(([name, value]) => {
      const box = make("div");
      box.append(make("dt", name), make("dd", value));
      return box;
    }));
  }
  fill("limits", risk.limit_utilisation ?? [], 5, "Account not known yet", (l) => {
    const show = (value) => COUNTED.has(l.name) || l.name.endsWith("quote") ? fixed(value, 0) : l.name === "leverage" ? fixed(value, 2) : percent(value, 1);
    return line(words(l.name), l.of, [show(l.value), "n"], [show(l.limit), "n"], used(l.share));
  });
  fill("volatility", snapshot.volatility ?? [], 6, "No forecast yet", (v) => line(v.symbol, [percent(v.daily_volatility), "n"],
    [percent(v.annualized_volatility, 0), "n"], [v.regime ?? "–", REGIME_TONES[v.regime] ?? ""], v.method ?? v.refusal ?? "–",
    [fixed(v.ratio, 2), `n ${v.ratio > 2 ? "warn" : ""}`]));
}
function used(share) {
  const box = make("span", undefined, share >= 1 ? "bad" : share >= 0.8 ? "warn" : "");
  const meter = make("meter");
  meter.max = 1;
  meter.high = 0.8;
  meter.optimum = 0;
  meter.value = Number(share) || 0;
  meter.setAttribute("aria-label", "share of the limit used");
  box.append(meter, percent(share, 0));
  return box;
}
function confidence(value) {
  const box = make("span");
  const meter = make("meter");
  meter.value = Number(value) || 0;
  meter.setAttribute("aria-label", "confidence");
  box.append(meter, percent(value, 0));
  return box;
}
function decisionRow(d) {
  const open = make("button", d.symbol);
  open.type = "button";
  open.setAttribute("aria-label", `Why: ${d.symbol} ${d.outcome}`);
  const row = line(open, [d.outcome, d.outcome === "ORDERED" ? "good" : ""], d.tier, d.detail, [clock(d.bar_time), "n"]);
  row.addEventListener("click", () => explain(d.decision_id));
  return row;
}
function showModel() {
  const m = snapshot.model;
  if (!m) return put("model", "Model not known yet");
  const beats = m.beats_baselines === true ? "yes" : m.beats_baselines === false ? "no" : "unknown";
  put("model", `Model ${m.version ?? "?"}, beats baselines: ${beats}, trained on ${m.trained_on ?? "unknown data"}` +
    (m.verdict ? `. ${m.verdict}` : ""));
  if (snapshot.disclaimer) put("disclaimer", snapshot.disclaimer);
}

// ---- equity curve -----------------------------------------------------------------------------------------------------

function svg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function showCurve() {
  const points = snapshot?.equity_history ?? [];
  const box = $("curve");
  const width = box.clientWidth, height = box.clientHeight;
  put("curve-note", points.length > 1 ? snapshot.currency ?? "" : "waiting for data");
  if (points.length < 2 || width === 0) return box.replaceChildren();
  const left = 72, right = 8, top = 8, bottom = 22;
  const values = points.map((p) => p[1]);
  let low = Math.min(...values), high = Math.max(...values);
  if (high === low) { low -= 1; high += 1; }
  const [t0, t1] = [points[0][0], points.at(-1)[0]];
  const x = (t) => left + (width - left - right) * (t1 > t0 ? (t - t0) / (t1 - t0) : 0);
  const y = (v) => top + (height - top - bottom) * (high - v) / (high - low);
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const value = low + (high - low) * i / 4;
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    parts.push(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, fixed(value, high - low < 10 ? 2 : 0)));
  }
  const labels = width > 600 ? 4 : 2;
  for (let i = 0; i <= labels; i++) {
    const t = t0 + (t1 - t0) * i / labels;
    const anchor = i === 0 ? "start" : i === labels ? "end" : "middle";
    parts.push(svg("text", { x: x(t), y: height - 5, "text-anchor": anchor }, new Date(t).toISOString().slice(11, 19)));
  }
  const path = points.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  parts.push(svg("path", { class: "area", d: `${path}L${x(t1)} ${height - bottom}L${left} ${height - bottom}Z` }));
  parts.push(svg("path", { class: "line", d: path }));
  box.replaceChildren(...parts);
}

// ---- calls ------------------------------------------------------------------------------------------------------------

async function call(method, path, body) {
  const answer = await fetch(`/api/v1${path}`, {
    method, headers: { Authorization: `Bearer ${token}`, ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(json.detail ?? `error ${answer.status}`);
  return json;
}
async function command(path, body) {
  busy = true;
  if (snapshot) showHeader();
  notice("");
  try { await call("POST", `/engine/${path}`, body); } catch (error) { notice(error.message); }
  busy = false;
  if (snapshot) showHeader(); // the state itself comes from the server only
}
function notice(text) {
  const element = $("notice");
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
  element.dataset.kind = "";
}

async function explain(id) {
  const dialog = $("explanation");
  $("explanation-body").replaceChildren(make("p", "Loading"));
  put("explanation-title", "Decision");
  if (!dialog.open) dialog.showModal();
  try {
    const trace = await call("GET", `/decisions/${encodeURIComponent(id)}`);
    put("explanation-title", `${trace.symbol}: ${trace.outcome}`);
    const { steps, orders, order_events, fills, ...facts } = trace;
    const parts = [list(facts)];
    for (const [name, step] of Object.entries(steps ?? {})) parts.push(make("h3", name), list(step));
    for (const [name, rows] of Object.entries({ orders, fills })) {
      for (const row of rows ?? []) parts.push(make("h3", name), list(row));
    }
    $("explanation-body").replaceChildren(...parts);
  } catch (error) {
    $("explanation-body").replaceChildren(make("p", error.message, "bad"));
  }
}
function list(values) {
  const element = make("dl");
  for (const [name, value] of Object.entries(values)) {
    const text = value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
    element.append(make("dt", name.replaceAll("_", " ")), make("dd", text));
  }
  return element;
}

function emergency() {
  const button = $("emergency");
  if (Date.now() < armedUntil) {
    disarm();
    command("emergency-stop", { reason: "dashboard" });
    return;
  }
  armedUntil = Date.now() + CONFIRM_MS;
  put("emergency", "Click again to confirm", "danger armed");
  setTimeout(() => { if (armedUntil && Date.now() >= armedUntil) disarm(); }, CONFIRM_MS + 20);
  button.focus();
}
function disarm() {
  armedUntil = 0;
  put("emergency", "Emergency stop", "danger");
}

// ---- connection -------------------------------------------------------------------------------------------------------

function connect() {
  put("connection", "Connecting", "chip unknown");
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = socket = new WebSocket(`${scheme}://${location.host}/api/v1/stream`);
  mine.addEventListener("open", () => { lastFrame = Date.now(); mine.send(JSON.stringify({ type: "auth", token })); });
  mine.addEventListener("message", (event) => {
    lastFrame = Date.now();
    const message = JSON.parse(event.data);
    if (message.type === "snapshot") {
      put("connection", "Connected", "chip healthy");
      show(message.data);
    } else if (message.type === "down") {
      unheard();
      put("connection", "Engine not answering: " + message.detail, "chip bad");
    }
  });
  mine.addEventListener("close", (event) => {
    if (mine !== socket) return;
    unheard();
    if (event.code === 4401) return askToken("The token was refused.");
    put("connection", "Disconnected", "chip bad");
    setTimeout(connect, RETRY_MS);
  });
}
// Without a connection nothing may look alive: tiers and state go back to unknown, the figures stay as last heard.
function unheard() {
  put("state", "unknown", "chip unknown");
  for (const id of ["pause", "resume", "clear"]) $(id).disabled = true;
  if (snapshot) {
    fill("tiers", (snapshot.tiers ?? []).map((t) => ({ name: t.name })), 6, "Nothing heard", (t) => line(t.name,
      make("span", "unknown", "chip unknown"), ["–", "n"], ["–", "n"], ["–", "n"], ["–", "n"]));
    fill("feeds", (snapshot.feeds ?? []).map((f) => ({ symbols: f.symbols })), 10, "Nothing heard", (f) => line(f.symbols,
      make("span", "unknown", "chip unknown"), ...Array(8).fill(["–", "n"])));
  }
}
function askToken(reason) {
  sessionStorage.removeItem("helios-token");
  put("connection", "Disconnected", "chip bad");
  if (reason) notice(reason);
  $("emergency").disabled = true;
  $("token-form").hidden = false;
  $("token").focus();
}
function begin(given) {
  token = given;
  sessionStorage.setItem("helios-token", token);
  $("token-form").hidden = true;
  $("emergency").disabled = false;
  notice("");
  connect();
}
function start() {
  $("pause").addEventListener("click", () => command("pause"));
  $("resume").addEventListener("click", () => command("resume"));
  $("clear").addEventListener("click", () => command("emergency-stop/clear"));
  $("emergency").addEventListener("click", emergency);
  $("token-form").addEventListener("submit", (event) => { event.preventDefault(); begin($("token").value.trim()); });
  $("symbol-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("symbol-add").disabled = true;
    if (await changeSymbol("POST", "/symbols", { symbol: $("symbol").value.trim() })) $("symbol").value = "";
    $("symbol-add").disabled = false;
  });
  new ResizeObserver(showCurve).observe($("curve"));
  setInterval(() => { // a socket that is silent is as good as closed
    if (socket?.readyState === WebSocket.OPEN && Date.now() - lastFrame > SILENCE_MS) socket.close();
  }, 1000);
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (location.hash) history.replaceState(null, "", location.pathname);
  const kept = given || sessionStorage.getItem("helios-token");
  if (kept) begin(kept); else askToken("");
}
start();
