// What each section shows of the view, which is the answer of GET /control/view.

import { ago, byId, clock, digest, keep, life, make, put, state } from "./elements.js";

const NAMES = {
  root: "Root CA", "gateway-tls": "Gateway TLS", "est-tls": "EST TLS",
  "online-ca": "Online CA", "local-ca": "Local CA",
};

const cell = (label, ...children) =>
  make("td", { role: "cell", "data-label": label }, make("div", {}, ...children));
const heading = (...children) => make("th", { scope: "row", role: "rowheader" }, ...children);
const row = (...cells) => make("tr", { role: "row" }, ...cells);
const more = (...children) => make("span", { class: "more" }, ...children);

function button(part, act, attributes, ...children) {
  const made = make("button", { type: "button", "data-part": part, ...attributes }, ...children);
  made.addEventListener("click", () => act(made));
  return made;
}

// `act` is what the buttons do: rotate(uuid), show(rotation), turn(knob, value), mend(fault).
export function draw(view, chosen, act) {
  put(byId("factory"), view.factory);
  document.title = `${view.factory} · lab factory`;
  keep(byId("servers"), Object.entries(view.servers), ([name]) => name, ([name, url]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, make("code", {}, url))));
  const names = labels(view.authorities);
  drawDevices(view, names, act);
  drawRotations(view.rotations, chosen, act);
  keep(byId("authority-rows"), view.authorities, (each) => each.serial,
    (each) => authority(each, names.get(each.serial)));
  drawKnobs(view.knobs, act);
  drawFaults(view.faults, act);
}

// --- devices ---

function drawDevices(view, names, act) {
  const [shown, found, total] = [view.devices.length, view["devices-found"], view["devices-total"]];
  const count = found < total ? `${found} of ${total}` : `${total}`;
  put(byId("devices-count"), shown < found ? `${count}, the newest ${shown} are shown` : count);
  byId("no-devices").hidden = shown > 0;
  put(byId("no-devices"), total ? "No device has that in its name, UUID or group."
    : "There is no device yet: fioagent-factory device add DIR DEVICE_DIR");
  const rows = view.devices.map((each) =>
    ({ ...each, issuer: names.get(each.certificate?.issuer) ?? "a CA that is not here" }));
  keep(byId("device-rows"), rows, (each) => each.uuid, (each) => device(each, act));
}

function device(each, act) {
  const { certificate, issuer } = each;
  return row(
    heading(make("span", { class: "device" }, each.name),
      each.name === each.uuid ? null : make("code", { class: "more" }, each.uuid)),
    cell("Group", each.group || more("none")),
    cell("Last seen", each["last-seen"] ? ago(each["last-seen"]) : more("never")),
    cell("Key", digest(each.key),
      denied(each["denied-keys"])),
    certificate ? cell("Certificate", life(certificate), more(`by ${issuer}`))
      : cell("Certificate", more("not seen yet")),
    cell("Configuration", state(each["next-key"] ? "locked" : "unlocked"),
      each["next-key"] ? more("next key ", digest(each["next-key"])) : null),
    cell("Rotation", make("div", { class: "acts" },
      each.rotation ? shower(each, act) : more("none yet"),
      button("rotate", (pressed) => act.rotate(each.uuid, pressed),
        { "aria-label": `Rotate the certificate of ${each.name}` }, "Rotate"))),
  );
}

const denied = (count) =>
  (count ? more(`${count} former ${count === 1 ? "key" : "keys"} denied`) : null);

function shower(each, act) {
  const { id, state: at } = each.rotation;
  return button("show", () => act.show({ device: each.uuid, id }), { class: "plain" },
    state(at), make("code", { class: "more" }, id));
}

// --- rotations ---

const keyOf = (rotation) => JSON.stringify([rotation.device, rotation.id]);

function drawRotations(rotations, chosen, act) {
  byId("no-rotations").hidden = rotations.length > 0;
  byId("rotation-view").hidden = rotations.length === 0;
  const wanted = chosen && keyOf(chosen);
  const current = rotations.find((each) => keyOf(each) === wanted) ?? rotations[0];
  const listed = rotations.map((each) =>
    ({ device: each.device, id: each.id, at: each.state, current: each === current }));
  keep(byId("rotation-list"), listed, keyOf, (each) => make("li", {}, button("choose",
    () => act.show(each), { "aria-current": each.current ? "true" : null },
    state(each.at), make("code", {}, each.id), make("span", { class: "device" }, each.device))));
  keep(byId("rotation"), current ? [current] : [], keyOf, rotation);
}

function rotation(each) {
  const steps = make("ol", { class: "steps" },
    ...each.steps.map((step) => taken(step, new Date(each.steps[0].at))),
    ...each["to-come"].map((step) => make("li", { class: "to-come" },
      mark("○", "to come"), make("span", { class: "what" }, step))));
  markNew(steps, keyOf(each));
  return make("div", { class: "rotation" },
    make("div", {},
      make("h3", {}, make("code", {}, each.id), state(each.state)),
      make("p", { class: "note device" }, each.device),
      steps),
    make("div", {},
      make("h3", {}, "Its requests"),
      each.requests.length ? requests(each.requests)
        : make("p", { class: "note" }, "None since the servers were started.")));
}

// The steps that were shown before do not arrive a second time.
function markNew(steps, key) {
  const before = byId("rotation").firstElementChild;
  if (before?.dataset.key !== key) return;
  const known = before.querySelectorAll(".taken").length;
  for (const step of [...steps.querySelectorAll(".taken")].slice(known)) step.classList.add("new");
}

const mark = (sign, word) => make("span", { class: "mark" },
  make("span", { "aria-hidden": "true" }, sign), make("span", { class: "unseen" }, `${word}: `));

function taken(step, begin) {
  const at = new Date(step.at);
  const since = Math.round((at - begin) / 1000);
  return make("li", { class: step.success ? "taken" : "taken bad" },
    step.success ? mark("✓", "done") : mark("✕", "failed"),
    make("span", { class: "what" }, step.name),
    make("time", { datetime: step.at, title: step.at },
      Number.isNaN(at.getTime()) ? step.at : clock(at)),
    make("span", { class: "since" }, since > 0 ? `+${since} s` : ""),
    step.details ? make("p", { class: "details" }, step.details) : null);
}

function requests(seen) {
  const titles = ["Time", "Server", "Request", "Answer", "Key"];
  return make("table", { class: "requests" },
    make("thead", {}, make("tr", {}, ...titles.map((each) => make("th", { scope: "col" }, each)))),
    make("tbody", {}, ...seen.map((each) => request(each, each.key !== seen[0].key))));
}

const shortened = (path) => path.replace(/^\/\.well-known\/est\//, "…/");

function request(each, isSecondKey) {
  const isFine = each.status > 0 && each.status < 400;
  return make("tr", { class: isFine ? null : "bad" },
    make("td", {}, clock(new Date(each.at * 1000), 3)),
    make("td", {}, each.server),
    make("td", { class: "path", title: each.path }, `${each.method} ${shortened(each.path)}`),
    make("td", {}, each.status ? String(each.status) : "no answer"),
    make("td", { class: isSecondKey ? "second" : null }, digest(each.key)));
}

// --- the factory's certificates ---

// By serial; with a piece of it where there are several of a kind.
function labels(authorities) {
  const isAlone = (role) => authorities.filter((each) => each.role === role).length === 1;
  return new Map(authorities.map(({ role, serial }) =>
    [serial, isAlone(role) ? NAMES[role] : `${NAMES[role]} ${serial.slice(0, 6)}`]));
}

function authority(each, shown) {
  return row(
    heading(make("span", { class: each.role === "root" ? null : "below" }, shown)),
    cell("Subject", make("span", { class: "subject" }, each.subject)),
    cell("Serial", make("code", { class: "serial" }, each.serial)),
    cell("Life", life(each)),
    cell("State", state(each.state)),
    cell("Devices below it", each.devices === null ? more("–") : String(each.devices)),
  );
}

// --- knobs and faults ---

function drawKnobs(knobs, act) {
  const turned = knobs.filter((each) => each.value !== each.default);
  put(byId("knobs-count"), turned.length ? `${turned.length} turned` : "all at their defaults");
  byId("reset").hidden = turned.length === 0;
  const isEst = (each) => each.name.startsWith("est_");
  const build = (each) => knob(each, act);
  keep(byId("knobs-gateway"), knobs.filter((each) => !isEst(each)), (each) => each.name, build);
  keep(byId("knobs-est"), knobs.filter(isEst), (each) => each.name, build);
}

function knob(each, act) {
  const isTurned = each.value !== each.default;
  const named = { "aria-labelledby": `knob-${each.name}`, "aria-describedby": `about-${each.name}` };
  return make("li", { class: isTurned ? "turned" : null },
    make("h4", {}, make("code", { id: `knob-${each.name}` }, each.name),
      isTurned ? more(`turned; default ${each.default}`) : null),
    make("p", { class: "note", id: `about-${each.name}` }, each.meaning),
    each.values === null ? whole(each, named, act) : choice(each, named, act));
}

// Arrows move among the values, and Enter or the space bar turns the knob: on its way to a value
// the factory must not live through those between.
function choice(each, named, act) {
  const buttons = each.values.map((value) => button(`value-${value}`,
    (pressed) => act.turn(each.name, value, pressed),
    { "aria-pressed": String(value === each.value), tabindex: value === each.value ? "0" : "-1" },
    value));
  const group = make("div", { role: "group", class: "values", ...named }, ...buttons);
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = buttons.indexOf(document.activeElement);
    buttons[(at + step + buttons.length) % buttons.length].focus();
  });
  return group;
}

function whole(each, named, act) {
  const input = make("input", {
    type: "number", min: "0", step: "1", value: each.value, required: true, "data-part": "number",
    ...named,
  });
  const set = make("button", { type: "submit", "data-part": "set" }, "Set");
  const form = make("form", { class: "values" }, input, set);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act.turn(each.name, input.value, set);
  });
  return form;
}

function drawFaults(faults, act) {
  put(byId("faults-count"), faults.length ? `${faults.length}` : "none is set");
  keep(byId("fault-list"), faults, (each) => String(each.id), (each) => fault(each, act));
}

// The rule in its own members, and how often it has acted.
function fault({ id, action, description, hits, spent, ...rule }, act) {
  const told = Object.entries(rule).map(([member, value]) => `${member} ${value}`).join(", ");
  const acted = hits === 1 ? "acted once" : `acted ${hits} times`;
  return make("li", {},
    make("div", {},
      make("h4", {}, make("code", {}, action), more(spent ? `${acted}, and is spent` : acted)),
      make("p", { class: "note" }, description),
      make("p", { class: "rule" }, told)),
    button("mend", (pressed) => act.mend(id, pressed),
      { "aria-label": `Remove the fault ${action}, number ${id}` }, "Remove"));
}
