// Elements, made of text alone: nothing here can make HTML of what a device has sent.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Sets what has changed only: a text that is selected stays selected.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// One child of `parent` for each item, in their order. A child is made anew only when its item is
// another than before, and then the focus stays on the part that had it, by its data-part.
export function keep(parent, items, keyOf, build) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const children = items.map((item) => {
    const [key, told] = [keyOf(item), JSON.stringify(item)];
    const old = before.get(key);
    before.delete(key);
    if (old?.told === told) return old;
    const fresh = build(item);
    fresh.dataset.key = key;
    fresh.told = told;
    if (old) replace(old, fresh);
    return fresh;
  });
  for (const gone of before.values()) gone.remove();
  children.forEach((child, place) => {
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
}

function replace(old, fresh) {
  const held = old.contains(document.activeElement) ? document.activeElement.dataset.part : null;
  old.replaceWith(fresh);
  if (held) fresh.querySelector(`[data-part="${CSS.escape(held)}"]`)?.focus();
}

const MARKS = {
  asked: "○", running: "◐", retrying: "!", switched: "◐", completed: "✓", failed: "✕",
  active: "✓", disabled: "!", revoked: "✕", locked: "■", unlocked: "□",
};
const WORDS = { retrying: "to be tried again", switched: "new key in use" };

// A state is a word with a mark before it; its colour only repeats them.
export function state(name) {
  return make("span", { class: `state ${name}` },
    make("span", { "aria-hidden": "true", class: "mark" }, MARKS[name] ?? "·"),
    WORDS[name] ?? name);
}

export const digest = (hex) => make("code", { title: hex }, hex.slice(0, 12));

// --- time ---

const number = new Intl.NumberFormat("en");

// Unix seconds, told as a distance that `tick` keeps true.
export function ago(seconds) {
  const at = new Date(seconds * 1000);
  return make("time", {
    datetime: at.toISOString(), title: at.toLocaleString(), "data-ago": seconds,
  });
}

export function tick() {
  const now = Date.now() / 1000;
  for (const each of document.querySelectorAll("time[data-ago]"))
    put(each, distance(now - Number(each.dataset.ago)));
  for (const each of document.querySelectorAll(".life")) {
    const { notBefore, notAfter } = each.dataset;
    const told = life({ "not-before": Number(notBefore), "not-after": Number(notAfter) });
    if (each.outerHTML !== told.outerHTML) each.replaceWith(told);
  }
}

function distance(seconds) {
  if (seconds < 2) return "now";
  if (seconds < 100) return `${Math.round(seconds)} s ago`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${number.format(Math.round(seconds / 86400))} days ago`;
}

export function clock(at, fractions = 0) {
  return at.toLocaleTimeString("en-GB", fractions ? {
    hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: fractions,
  } : {});
}

// What is left of a certificate's life, as words and as a bar; `tick` keeps it true.
export function life(certificate) {
  const whole = certificate["not-after"] - certificate["not-before"];
  const left = certificate["not-after"] - Date.now() / 1000;
  const share = Math.max(0, Math.min(1, left / whole));
  const [unit, length] = whole < 3 * 86400 ? ["hours", 3600] : ["days", 86400];
  const count = (seconds) => number.format(Math.floor(seconds / length));
  const [urgency, word] = urgencyOf(left, share);
  const fill = make("span");
  fill.style.inlineSize = `${share * 100}%`;
  const until = new Date(certificate["not-after"] * 1000).toLocaleString();
  const ends = {
    "data-not-before": certificate["not-before"], "data-not-after": certificate["not-after"],
  };
  return make("div", { class: `life ${urgency}`, title: `until ${until}`, ...ends },
    make("span", { class: "bar", "aria-hidden": "true" }, fill),
    left > 0 ? make("span", {}, `${count(left)} of ${count(whole)} ${unit} left`) : null,
    word ? make("strong", {}, word) : null);
}

// An agent renews at two thirds of the life, unless it is told otherwise.
function urgencyOf(left, share) {
  if (left <= 0) return ["late", "expired"];
  if (share < 0.1) return ["late", "expires soon"];
  return share < 0.34 ? ["due", "renewal due"] : ["", ""];
}
