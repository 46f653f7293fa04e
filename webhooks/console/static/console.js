// What the pages do beyond HTML: they live, count down, play, and copy. Everything works without.

// Live: a page is told what changed, by server-sent events, while it is seen. Where the first page
// gets no stream it asks every ten seconds. Nothing is replaced under a pointer or the focus, and no
// row moves while somebody points into the table: it waits until they are gone. A page about one call
// is loaded anew, not while it plays, or somebody points at a link, writes or has text selected.
const SLOW_MS = 10_000;
const AGAIN_MS = 60_000;
const board = document.querySelector("[data-live]");
const watched = document.querySelector("#watched");
const live = document.querySelector("#live");
const waiting = new Map(); // part → its HTML, until it may be shown
let order = null; // the rows' names, until they may be moved
let arrived = Date.now();
let stream = null;
let refused = -AGAIN_MS; // when a stream was refused

function isBusy(element) {
  return element.matches("tr:hover, tr:focus-within") || element.querySelector("a:hover, :focus") || (getSelection().toString() && getSelection().containsNode(element, true));
}

function made(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

function put(part, html) {
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  part.innerHTML = html;
  part.querySelectorAll("details").forEach((one, i) => (one.open = open[i]));
}

function settle() {
  const rows = board.querySelector("#rows");
  const here = new Map([...board.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  for (const [name, html] of waiting) {
    const part = here.get(name);
    if (!part || isBusy(part)) continue;
    if (part.tagName === "TR") part.replaceWith(made(html));
    else put(part, html);
    waiting.delete(name);
  }
  if (order && !rows.matches(":hover, :focus-within") && !getSelection().toString()) {
    const now = new Map([...rows.children].map((row) => [row.dataset.part, row]));
    rows.replaceChildren(...order.map((name) => (waiting.has(name) ? made(waiting.get(name)) : now.get(name))).filter(Boolean));
    for (const name of [...order, ...now.keys()]) waiting.delete(name);
    order = null;
  }
  countDown();
}

// Whether what is shown is old, because nobody answers: then the page is grey, and says since when.
function stale(isOld) {
  if (isOld === document.body.classList.contains("stale")) return;
  const line = document.querySelector("#stale");
  document.body.classList.toggle("stale", isOld);
  line.hidden = !isOld;
  line.textContent = isOld ? `No answer since ${new Date().toISOString().slice(11, 19)} UTC: what you see is old.` : "";
}

function told(said) {
  stale(Boolean(said.away));
  if (said.away) return;
  if (watched) {
    watched.dataset.now = said.set.size;
    return;
  }
  for (const [name, html] of Object.entries(said.set)) waiting.set(name, html);
  if (said.rows) order = said.rows;
  board.querySelector("#instant").dataset.now = said.at;
  board.querySelector("#as-of").textContent = said.at.slice(11, 19);
  arrived = Date.now();
  settle();
}

async function refresh() {
  try {
    const answer = await fetch(board.dataset.live, { cache: "no-store" });
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw new Error(answer.statusText);
    const html = await answer.text();
    if (isBusy(board) || getSelection().toString()) return;
    put(board, html);
    arrived = Date.now();
    stale(false);
    countDown();
  } catch {
    // The service restarts, or the network is gone: what is shown stays, and says how old it is.
    stale(true);
  }
}

function listen() {
  const isWanted = (!live || live.checked) && !document.hidden;
  if (!isWanted && stream) {
    stream.close();
    stream = null;
  }
  if (!isWanted || stream || Date.now() - refused < AGAIN_MS) return;
  stream = new EventSource((board ?? watched).dataset.stream);
  stream.onmessage = (event) => told(JSON.parse(event.data));
  stream.onerror = () => {
    stale(true);
    if (stream?.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
    stream = null;
    refused = Date.now();
    if (board) refresh();
  };
}

if (board && live) {
  live.closest("label").hidden = false;
  live.checked = localStorage.getItem("live") !== "off";
  live.addEventListener("change", () => {
    localStorage.setItem("live", live.checked ? "on" : "off");
    listen();
  });
  document.addEventListener("visibilitychange", listen);
  setInterval(() => {
    listen();
    if (!stream && live.checked && !document.hidden) refresh();
  }, SLOW_MS);
  setInterval(() => (waiting.size || order) && settle(), 1000);
  listen();
}

if (watched) {
  document.addEventListener("visibilitychange", listen);
  setInterval(() => {
    const player = document.querySelector("#audio");
    const isRead = getSelection().toString() || document.querySelector("main a:hover, main :focus, main details[open]");
    const { now, size } = watched.dataset;
    if (now && now !== size && !isRead && !(player && (!player.paused || player.currentTime))) location.reload();
  }, 2000);
  setInterval(listen, SLOW_MS);
  listen();
}

// Countdowns, by the service's clock: `data-now` is its time when it last told anything.
function spelled(seconds) {
  const s = Math.abs(Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const text = s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
  return seconds < 0 ? `${text} ago` : `in ${text}`;
}

function countDown() {
  const now = Date.parse(document.querySelector("#instant")?.dataset.now) + Date.now() - arrived;
  for (const time of document.querySelectorAll(".countdown")) {
    const left = (Date.parse(time.dateTime) - now) / 1000;
    time.title = time.dateTime;
    time.textContent = spelled(left);
    time.classList.toggle("soon", left >= 0 && left < 30);
    time.classList.toggle("over", left < -1);
  }
}

countDown();
setInterval(countDown, 500);

// An order for many recordings goes on by itself, and waits while somebody points at its end.
const go = document.querySelector("#go");
if (go) {
  setInterval(() => {
    if (go.dataset.sent || document.querySelector("#cancel:hover, #cancel:focus-within")) return;
    go.dataset.sent = "yes";
    go.requestSubmit();
  }, 400);
}

// The player: speed, skipping, the keyboard, and the waveform as its slider.
const audio = document.querySelector("#audio");
const sound = document.querySelector("#sound");

function skip(seconds) {
  audio.currentTime = Math.max(0, audio.currentTime + seconds);
}

if (audio) {
  document.querySelector("#controls").hidden = false;
  for (const button of document.querySelectorAll("[data-skip]")) {
    button.addEventListener("click", () => skip(Number(button.dataset.skip)));
  }
  const speed = document.querySelector("#speed");
  speed.addEventListener("change", () => (audio.playbackRate = Number(speed.value)));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, button, a, audio, summary")) return;
    if (event.key === " ") audio.paused ? audio.play() : audio.pause();
    else if (event.key === "ArrowLeft") skip(-10);
    else if (event.key === "ArrowRight") skip(10);
    else return;
    event.preventDefault();
  });
}

if (audio && sound) {
  const wave = sound.querySelector("svg");
  const head = sound.querySelector("#playhead");
  const seconds = Number(sound.dataset.duration) / 1000;
  const end = Number(sound.dataset.end); // where the sound ends, of 1000
  audio.addEventListener("timeupdate", () => {
    sound.classList.add("playing");
    const x = Math.min(1, audio.currentTime / seconds) * end;
    head.setAttribute("x1", x);
    head.setAttribute("x2", x);
  });
  wave.addEventListener("click", (event) => {
    const box = wave.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * (1000 / end) * seconds;
    const go = () => (audio.currentTime = Math.min(at, seconds));
    if (audio.readyState) return go();
    audio.addEventListener("loadedmetadata", go, { once: true });
    audio.preload = "metadata";
    audio.load();
  });
}

// Copying. Where the page is neither https nor of this machine, browsers offer no clipboard.
for (const pre of navigator.clipboard ? document.querySelectorAll("pre.copy") : []) {
  const text = pre.textContent.trim();
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
  pre.append(button);
}
