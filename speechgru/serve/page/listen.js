/** Listening: the microphone's level, posteriors, events and thresholds. */

import { attempt, counted, find, LEFT, make, showLevel, tell } from "./dom.js";
import { ask, stream } from "./server.js";

const POSTERIOR_STEPS = 3;
const MOST_EVENTS = 50;
const SHOWN_MS = 1500;

const state = { models: [], model: null, rows: new Map(), labels: [], stream: null, opening: null, values: null, levelDb: -60, saved: 0 };

/** Offer these models, and choose one. */
export function offer(models, name = models[0].name) {
  state.models = models;
  find("model-choice").hidden = models.length < 2;
  find("model").replaceChildren(...models.map((model) => make("option", { textContent: model.name })));
  find("model").value = name;
  choose(name);
}

/** Whether what is recognized can be saved for review. */
export function allowSaving(allowed) {
  find("save-choice").hidden = !allowed;
}

/** The panel is left: the microphone is closed, or not opened. */
export function leave() {
  state.opening?.abort(LEFT);
  state.stream?.stop();
}

function choose(name) {
  leave();
  state.model = state.models.find((model) => model.name === name);
  state.rows.clear();
  const { labels, words, thresholds } = state.model;
  const ordered = [...words, ...labels.filter((label) => !words.includes(label))];
  find("words").replaceChildren(...ordered.map((label) => row(label, thresholds[label])));
  changed();
}

/** A label's bar and, for a word, the handle of its threshold. */
function row(label, threshold) {
  const fill = make("div", { className: "fill" });
  const track = make("div", { className: "track" }, fill);
  if (threshold === undefined) {
    const shown = label.replaceAll("_", "");
    state.rows.set(label, { fill });
    return make("li", {}, make("span", { className: "other", textContent: shown }), track);
  }
  const id = `threshold-${state.rows.size}`;
  const input = make("input", { type: "range", id, min: 0.01, max: 1, step: 0.01, value: threshold });
  const output = make("output", {});
  output.htmlFor = id;
  track.append(input);
  const name = make("label", { htmlFor: id, textContent: label });
  name.append(make("span", { className: "hidden", textContent: ", threshold" }));
  const item = make("li", {}, name, track, output);
  const one = { item, fill, input, output, kept: Number(input.value) };
  input.addEventListener("input", () => { changed(); send(); });
  state.rows.set(label, one);
  return item;
}

const adjustable = () => [...state.rows].filter(([, one]) => one.input);

function changed() {
  let any = false;
  for (const [, { input, output, kept }] of adjustable()) {
    const moved = Number(input.value) !== kept;
    output.textContent = Number(input.value).toFixed(2);
    output.classList.toggle("changed", moved);
    any ||= moved;
  }
  find("keep").disabled = find("undo").disabled = !any;
  if (any) find("kept").textContent = "";
}

/** Only what was moved: a threshold may have more digits than its handle. */
function thresholds() {
  const moved = adjustable().filter(([, { input, kept }]) => Number(input.value) !== kept);
  return Object.fromEntries(moved.map(([word, { input }]) => [word, Number(input.value)]));
}

let waiting = 0;
function send() {
  clearTimeout(waiting);
  waiting = setTimeout(() => state.stream?.send({ type: "thresholds", thresholds: thresholds() }), 100);
}

const keep = () => attempt(async () => {
  const content = JSON.stringify(thresholds());
  const path = `models/${encodeURIComponent(state.model.name)}/thresholds`;
  const answer = await ask(path, { method: "PUT", body: content, headers: { "Content-Type": "application/json" } });
  state.model.thresholds = answer.thresholds;
  for (const [word, one] of adjustable()) {
    one.input.value = answer.thresholds[word];
    one.kept = Number(one.input.value);
  }
  changed();
  find("kept").textContent = answer.written ? "Kept in the model's file." : answer.note;
});

function undo() {
  for (const [, { input, kept }] of adjustable()) input.value = kept;
  changed();
  send();
}

async function toggle() {
  if (state.stream) {
    state.stream.stop();
    return;
  }
  find("listen").disabled = true;
  await attempt(async () => {
    const options = { model: state.model.name, posteriors: POSTERIOR_STEPS, near_misses: true };
    const path = find("save").checked ? "own-words/listen" : "listen";
    state.saved = 0;
    state.opening = new AbortController();
    const setLevel = (levelDb) => { state.levelDb = levelDb; };
    state.stream = await stream(path, options, hear, setLevel, stopped, state.opening.signal);
    if (Object.keys(thresholds()).length) send();
    draw();
  });
  find("listen").disabled = false;
  running();
}

function stopped(reason) {
  state.stream = null;
  state.values = null;
  const whole = state.error?.startsWith(reason) ? state.error : reason; // that of a close is cut
  if (reason) tell(whole);
  state.error = null;
  running();
  draw();
}

function running() {
  find("listen").textContent = state.stream ? "Stop" : "Listen";
  find("listen").setAttribute("aria-pressed", String(Boolean(state.stream)));
  find("save").disabled = Boolean(state.stream);
}

/** A message of the server: an event has no type. */
function hear(message) {
  if (message.type === "posteriors") state.values = message.values;
  else if (message.type === "ready") state.labels = message.labels;
  else if (message.type === "near_miss") add(message, true);
  else if (message.type === "error") tell((state.error = message.error));
  else if (message.type === "saved") find("saved").textContent = `${counted(++state.saved, "clip")} saved for review`;
  else if (message.type === undefined) {
    find("word").textContent = message.word;
    find("word").className = "";
    const item = state.rows.get(message.word)?.item;
    item?.classList.add("fired");
    setTimeout(() => item?.classList.remove("fired"), SHOWN_MS);
    add(message, false);
  }
}

function add({ word, t, score, threshold }, near) {
  const text = near ? `${(100 * score).toFixed(0)} of ${(100 * threshold).toFixed(0)} %` : `${(100 * score).toFixed(0)} %`;
  const name = near ? `(${word})` : word;
  const cells = [name, `${t.toFixed(1)} s`, text].map((textContent) => make("td", { textContent }));
  const body = find("events").tBodies[0];
  body.prepend(make("tr", { className: near ? "near" : "" }, ...cells));
  while (body.rows.length > MOST_EVENTS) body.lastElementChild.remove();
  if (!near) find("none").hidden = true;
}

/** Once a frame: the level and the bars. */
function draw() {
  const { stream: live, values, labels } = state;
  showLevel(find("level"), live ? state.levelDb : null);
  const text = live ? `${Math.max(-60, Math.min(0, state.levelDb)).toFixed(0)} dB` : "off";
  if (find("level-text").textContent !== text) find("level-text").textContent = text;
  for (const [label, { fill }] of state.rows) {
    const value = live && values ? (values[labels.indexOf(label)] ?? 0) : 0;
    fill.style.transform = `scaleX(${value.toFixed(3)})`;
  }
  if (live) requestAnimationFrame(draw);
}

find("model").addEventListener("change", ({ target }) => choose(target.value));
find("listen").addEventListener("click", toggle);
find("keep").addEventListener("click", keep);
find("undo").addEventListener("click", undo);
find("near").addEventListener("change", ({ target }) => find("events").classList.toggle("all", target.checked));
