// The page of a lab factory: it looks each second, and shows what has changed.

import { byId, put, tick } from "./elements.js";
import { draw } from "./sections.js";

const PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;
const PATIENCE_MS = 10000;

let token = "";
let view = null; // what is shown
let tag = ""; // its ETag
let chosen = null; // the rotation that somebody wants to see; else the newest
let seenAt = 0; // of the last answer, ms
let wake = () => {};

// --- the token ---

// It comes behind the # of the address, goes out of the address bar at once, and is sent to
// nobody but this server. A section's name may stand there, too.
function takeToken() {
  const behind = location.hash.slice(1);
  if (behind && !byId(behind)) {
    keepToken(behind);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") ?? "";
}

function keepToken(text) {
  sessionStorage.setItem("token", text);
  token = text;
  tag = "";
  say("");
  wake();
}

function askForToken(why) {
  sessionStorage.removeItem("token");
  token = "";
  view = null;
  say(why, true);
  byId("shown").hidden = true;
  byId("ask").hidden = false;
  byId("token").focus();
}

// --- talking to the factory ---

function send(method, path, more = {}) {
  return fetch(path, {
    method,
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE_MS),
    ...more,
    headers: { "OSF-TOKEN": token, ...more.headers },
  });
}

// What the factory answers to a button; null where it refuses, which is told in its words.
async function order(pressed, method, path, body) {
  pressed.setAttribute("aria-busy", "true");
  try {
    const answer = await send(method, path, body && { body: JSON.stringify(body) });
    const told = await answer.json().catch(() => ({}));
    if (answer.ok) return told;
    say(told.message ?? `The factory answered ${answer.status}.`, true);
  } catch {
    say("The factory did not answer.", true);
  } finally {
    pressed.removeAttribute("aria-busy");
    wake();
  }
  return null;
}

const quoted = encodeURIComponent;
const turn = (pressed, name, value) =>
  order(pressed, "PUT", `/control/knobs/${quoted(name)}`, { value });

const act = {
  async rotate(uuid, pressed) {
    const asked = await order(pressed, "POST", `/control/devices/${quoted(uuid)}/rotate?by-uuid=1`);
    if (asked === null) return;
    choose({ device: uuid, id: asked.id });
    say(`${uuid} is asked to rotate as ${asked.id}. It hears of it at its next check-in.`);
  },
  show(rotation) {
    choose({ device: rotation.device, id: rotation.id });
    redraw();
    byId("rotations").scrollIntoView({ block: "nearest" });
  },
  async turn(name, value, pressed) {
    if (await turn(pressed, name, value)) say(`${name} is ${value} from the next request on.`);
  },
  async mend(id, pressed) {
    if (await order(pressed, "DELETE", `/control/faults/${quoted(id)}/`)) say("The fault is gone.");
  },
};

function choose(rotation) {
  chosen = rotation;
  tag = "";
  wake();
}

async function resetKnobs() {
  if (await order(byId("reset"), "DELETE", "/control/knobs")) say("All knobs are at their defaults.");
}

// --- looking ---

// The factory answers 304 where there is nothing new.
async function look() {
  const asked = question();
  const answer = await send("GET", `/control/view?${asked}`, {
    headers: tag ? { "If-None-Match": tag } : {},
  });
  if (asked !== question() || !token) return; // it is another one by now
  if (answer.status === 401) {
    askForToken("That is not the token of this factory.");
    return;
  }
  if (answer.status !== 304 && !answer.ok) throw new Error(`answer ${answer.status}`);
  seenAt = Date.now();
  if (answer.status === 304) return;
  const told = await answer.json();
  if (asked !== question()) return;
  view = told;
  tag = answer.headers.get("ETag") ?? "";
  redraw();
}

const question = () => new URLSearchParams({
  find: byId("find").value.trim(), rotation: chosen ? `${chosen.device}/${chosen.id}` : "",
}).toString();

function redraw() {
  if (view === null) return;
  draw(view, chosen, act);
  tick();
  byId("ask").hidden = true;
  byId("shown").hidden = false;
}

async function watch() {
  let pause = PAUSE_MS;
  for (;;) {
    const woken = new Promise((resolve) => {
      wake = resolve;
    });
    if (token && !document.hidden) {
      try {
        await look();
        pause = PAUSE_MS;
        live(token ? "live" : "no token");
      } catch {
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
        live("no answer");
      }
    }
    await Promise.race([woken, new Promise((resolve) => setTimeout(resolve, pause))]);
  }
}

function live(word) {
  const since = word === "no answer" && seenAt ? ` since ${new Date(seenAt).toLocaleTimeString()}` : "";
  put(byId("live"), word + since);
  byId("live").className = `live is-${word.replace(" ", "-")}`;
}

function say(words, isBad = false) {
  put(byId("said"), words);
  byId("said").classList.toggle("bad", isBad);
}

// --- what a person does ---

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  byId("token").value = "";
});
byId("find").addEventListener("input", () => {
  tag = "";
  wake();
});
byId("reset").addEventListener("click", resetKnobs);
document.addEventListener("visibilitychange", () => wake());
addEventListener("hashchange", takeToken);
setInterval(tick, PAUSE_MS);

takeToken();
if (!token) {
  live("no token");
  askForToken("");
}
watch();
