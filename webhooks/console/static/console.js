// What the pages do beyond HTML: they live, count down, play, and copy. Everything works without.

// Live: the part of the page with `data-live` is fetched anew every two seconds while it is seen.
// It stays as it is while somebody points at a link in it, so that no row moves under a click.
const EVERY_MS = 2000;
const part = document.querySelector("[data-live]");
const live = document.querySelector("#live");

async function refresh() {
  if (document.hidden || !live.checked || part.querySelector("a:hover, a:focus, summary:focus, details[open]")) return;
  try {
    const answer = await fetch(part.dataset.live, { cache: "no-store" });
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw new Error(answer.statusText);
    const html = await answer.text();
    if (part.querySelector("a:hover, a:focus") || getSelection().toString()) return;
    part.innerHTML = html;
    document.body.classList.remove("stale");
    arrived = Date.now();
    countDown();
  } catch {
    // The service restarts, or the network is gone: what is shown stays, and says how old it is.
    document.body.classList.add("stale");
  }
}

let arrived = Date.now();

if (part && live) {
  live.closest("label").hidden = false;
  live.checked = localStorage.getItem("live") !== "off";
  live.addEventListener("change", () => localStorage.setItem("live", live.checked ? "on" : "off"));
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
}

// Countdowns, by the service's clock: `data-now` is its time when the page was made.
function spelled(seconds) {
  const s = Math.abs(Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const text = s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
  return seconds < 0 ? `${text} ago` : `in ${text}`;
}

function countDown() {
  for (const time of document.querySelectorAll(".countdown")) {
    const left = (Date.parse(time.dateTime) - Date.parse(time.dataset.now) - (Date.now() - arrived)) / 1000;
    time.title = `${time.dateTime}`;
    time.textContent = spelled(left);
    time.classList.toggle("soon", left >= 0 && left < 30);
    time.classList.toggle("over", left < -1);
  }
}

countDown();
setInterval(countDown, 500);

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
