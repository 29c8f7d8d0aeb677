// The page of the demo: shows what GET /api/state says, asks for what the buttons say.
// What a server sends becomes text, never markup: nothing here parses HTML.

const STRIP = 12;
const WATCH_MS = 2000;
const ASK_MS = 1000;
const NOTICE_MS = 4000;
const AFTER_END_MS = 500;

const byId = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let state = null;
let clockAhead = 0; // the server's clock minus this one's, in ms
let idleUntil = { handle: null, at: 0 };
let isAskingAfterEnd = false;
const answers = [];

// Elements

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "key") made.dataset.key = value;
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

function button(label, key, action, className = "") {
  return element("button", { type: "button", textContent: label, key, className, onclick: action });
}

// Put new children in place, and the focus back where it was.
function fill(id, ...children) {
  const key = document.activeElement?.dataset.key;
  const hadFocus = byId(id).contains(document.activeElement);
  byId(id).replaceChildren(...children);
  if (hadFocus) [...byId(id).querySelectorAll("[data-key]")].find((child) => child.dataset.key === key)?.focus();
}

function show(id, text) {
  const target = byId(id);
  if (target.textContent === text) return;
  target.textContent = text;
  target.classList.remove("fresh");
  void target.offsetWidth; // lets the animation start again
  target.classList.add("fresh");
}

let noticeTimer = 0;
function notify(text, isBad = false) {
  byId("notice").textContent = text;
  byId("notice").classList.toggle("bad", isBad);
  byId("notice").classList.add("shown");
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => byId("notice").classList.remove("shown"), NOTICE_MS);
}

// Requests

// Ask for a path; give the answer, or null after saying what went wrong.
async function ask(path, body) {
  const isPost = body !== undefined;
  const options = isPost
    ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }
    : { cache: "no-store" };
  try {
    const response = await fetch(path, options);
    const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
    const answer = isJson ? await response.json() : { error: await response.text() };
    if (answer.server) remember(answer.server);
    if (response.ok) return answer;
    notify(answer.error || `The answer was ${response.status}.`, true);
  } catch {
    notify("The demo does not answer. Does it still run in your terminal?", true);
  }
  return null;
}

async function refresh() {
  const answer = await ask("/api/state");
  if (!answer) return;
  state = answer;
  clockAhead = Date.parse(state.now) - Date.now();
  render();
}

async function act(path, body, said) {
  const answer = await ask(path, body);
  if (answer && said) notify(`${answer.server.framework} ${said}`);
  await refresh();
}

// The three servers together, so that the counts are seen to add up.
async function addThirty() {
  const adding = Array.from({ length: 30 }, () => ask("/api/cart", { item: "hat", by: 1 }));
  const added = (await Promise.all(adding)).filter(Boolean);
  const by = ["FastAPI", "Flask", "Django"].map(
    (name) => `${added.filter((answer) => answer.server.framework === name).length} by ${name}`,
  );
  if (added.length) notify(`${added.length} added: ${by.join(", ")}`);
  await refresh();
}

// What is shown

function remember(server) {
  answers.push(server);
  if (answers.length > STRIP) answers.shift();
  byId("server").textContent = server.framework;
  byId("server").className = `badge ${server.framework}`;
  byId("worker").textContent = `worker process ${server.pid}`;
  const tiles = answers.map(({ framework, pid }) =>
    element("li", { className: framework, title: `${framework}, worker process ${pid}` }, framework, element("span", { textContent: pid })),
  );
  const blanks = Array.from({ length: STRIP - tiles.length }, () => element("li", { className: "blank", ariaHidden: true }));
  byId("strip").replaceChildren(...blanks, ...tiles);
}

function render() {
  renderWho();
  renderCart();
  renderContents();
  renderDevices();
  tick();
}

function renderWho() {
  const { user, session } = state;
  byId("who").textContent = user ?? "a stranger";
  byId("who-detail").textContent = user
    ? "to all three servers, by one session"
    : session ? "with a session, but nobody knows your name" : "without a session: nothing is stored, no cookie is set";
  show("handle", session?.handle ?? "none yet");
  show("fingerprint", session?.fingerprint ?? "–");
  byId("rotate").disabled = !session;
  const choices = user
    ? [
        button("Sign out", "out", () => act("/api/sign-out", {}, "signed you out")),
        button("Sign out everywhere", "everywhere", () => act("/api/sign-out-everywhere", {}, "ended all your sessions")),
      ]
    : state.users.map((name) =>
        button(`Sign in as ${name}`, name, () => act("/api/sign-in", { user: name }, `signed you in as ${name}, with a new identifier`), "main"),
      );
  fill("who-buttons", ...choices);
}

function renderCart() {
  const rows = state.cart.map(({ item, name, price, count }) => {
    const less = button("−", `${item}-less`, () => act("/api/cart", { item, by: -1 }), "round");
    const more = button("+", `${item}-more`, () => act("/api/cart", { item, by: 1 }), "round");
    less.ariaLabel = `One ${name.toLowerCase()} less`;
    more.ariaLabel = `One ${name.toLowerCase()} more`;
    less.disabled = count === 0;
    return element("li", {}, element("span", { className: "grow" }, `${name} `, element("span", { className: "price", textContent: price })), less, element("span", { className: "count", textContent: count }), more);
  });
  fill("cart", ...rows);
  byId("total").textContent = state.total;
}

function renderContents() {
  const rows = (state.session?.attributes ?? []).map(({ name, type, value }) =>
    element("tr", {}, ...[name, type, value].map((text) => element("td", { textContent: text }))),
  );
  fill("contents", ...rows);
  byId("contents-note").textContent = rows.length
    ? "Python types travel between the frameworks as they are. In the store it is all sealed."
    : "Nothing yet. Sign in, or put something into the cart.";
}

function renderDevices() {
  const rows = state.devices.map(({ handle, device, last_seen: seen, is_this: isThis }) =>
    element(
      "li",
      {},
      element("span", { className: "grow" }, device, element("span", { className: "sub", textContent: `seen ${ago(seen)} · ${handle.slice(0, 9)}…`, title: handle })),
      isThis
        ? element("span", { className: "this", textContent: "this one" })
        : button("End", handle, () => act("/api/devices/end", { handle }, `ended the session of ${device}`)),
    ),
  );
  fill("devices", ...rows);
  byId("end-others").hidden = !state.user;
  byId("end-others").disabled = state.devices.length < 2;
  byId("devices-note").textContent = state.user
    ? "Sign in from another browser or a private window to see it here. Five at most: the oldest goes first."
    : "Sign in to see where you are signed in.";
}

async function renderServers() {
  const report = await fetch("/front/servers", { cache: "no-store" }).then((response) => response.json()).catch(() => null);
  if (report) drawServers(report);
}

function drawServers({ servers, store }) {
  const rows = servers.map(({ framework, program, status, pid, answered }) =>
    element(
      "li",
      {},
      element("span", { className: `badge ${status === "running" ? framework : ""}`, textContent: framework }),
      status === "running"
        ? element("span", { className: "sub grow", textContent: `${program} ${pid}, ${answered} answer${answered === 1 ? "" : "s"}` })
        : element("span", { className: "sub grow alarm", textContent: status === "down" ? "killed" : "starting…" }),
      status === "down"
        ? button("Restart", framework, () => command("/front/restart", framework, `${framework} starts again`), "main")
        : button("Kill", framework, () => command("/front/kill", framework, `${framework} is dead: ask again, and the others answer`), "danger"),
    ),
  );
  rows.push(
    element(
      "li",
      {},
      element("span", { className: "badge", textContent: "Store" }),
      element("span", { className: "sub grow", textContent: store.pid ? `Valkey ${store.pid}, comes back` : "restarting…" }),
      button("Kill", "store", () => command("/front/kill", "store", "The store was killed, and comes back with its data"), "danger"),
    ),
  );
  fill("servers", ...rows);
}

async function command(path, name, said) {
  const report = await ask(path, { name });
  if (!report) return;
  drawServers(report);
  notify(said);
}

// Time

const serverNow = () => Date.now() + clockAhead;

function ago(instant) {
  const seconds = Math.max(0, Math.round((serverNow() - Date.parse(instant)) / 1000));
  if (seconds < 5) return "just now";
  return seconds < 90 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

// Each server process knows the idle deadline to a tenth of the timeout: the latest one heard of is the nearest.
function idleDeadline() {
  const { session, devices } = state;
  if (idleUntil.handle !== session.handle) idleUntil = { handle: session.handle, at: 0 };
  const known = devices.find((device) => device.is_this)?.idle_deadline ?? session.idle_deadline;
  idleUntil.at = Math.max(idleUntil.at, Date.parse(known));
  return Math.min(idleUntil.at, Date.parse(session.absolute_deadline));
}

function countDown(id, until, timeout) {
  const left = until === null ? 0 : Math.max(0, Math.ceil((until - serverNow()) / 1000));
  byId(id).textContent = until === null ? "–" : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  byId(`${id}-bar`).value = until === null ? 0 : left / timeout;
  const deadline = byId(id).closest(".deadline");
  deadline.classList.toggle("none", until === null);
  deadline.classList.toggle("soon", until !== null && left < timeout / 5);
}

function tick() {
  const session = state?.session;
  const [idle, absolute] = session ? [idleDeadline(), Date.parse(session.absolute_deadline)] : [null, null];
  countDown("idle", idle, session?.idle_timeout);
  countDown("absolute", absolute, session?.absolute_timeout);
  // Ask once it is over, not before: a question in time would keep the session alive.
  if (session && serverNow() > idle + AFTER_END_MS && !isAskingAfterEnd) {
    isAskingAfterEnd = true;
    refresh().finally(() => {
      isAskingAfterEnd = false;
      if (state && !state.session) notify("The session has ended by itself");
    });
  }
}

// Beginning

byId("ask").onclick = refresh;
byId("rotate").onclick = () => act("/api/rotate", {}, "gave the session a new identifier, and the old one a few seconds");
byId("thirty").onclick = addThirty;
byId("end-others").onclick = () => act("/api/devices/end-others", {}, "ended all your other sessions");
setInterval(tick, 250);
setInterval(() => { if (!document.hidden) renderServers(); }, WATCH_MS);
setInterval(() => { if (!document.hidden && byId("keep-asking").checked) refresh(); }, ASK_MS);

renderServers();
// Until all three have been seen: the files of the page take their turns too.
for (let times = 0; times < 6 && new Set(answers.map((server) => server.framework)).size < 3; times += 1) {
  await refresh();
  await pause(200);
}
