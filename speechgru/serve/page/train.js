/** Training where the server has torch: start, watch, stop, and use the model. */

import { attempt, counted, find, make, tell } from "./dom.js";
import { ask, post } from "./server.js";

const POLL_MS = 1000;
const SENTENCES = {
  idle: "",
  running: "Training …",
  stopping: "Saving and stopping …",
  done: "Trained.",
  stopped: "Stopped; what was trained is kept.",
  failed: "The training failed.",
};

const state = { hasWords: false, failed: false, timer: 0, shown: "", use: () => {} };

/** Set what happens once a trained model is served: `use(name)`. */
export function onModel(use) {
  state.use = use;
}

export async function enter() {
  await attempt(async () => {
    const [own, status] = await Promise.all([ask("own-words"), ask("own-words/training")]);
    showData(own);
    state.shown = "";
    show(status);
  });
}

export function leave() {
  clearTimeout(state.timer);
}

function showData({ data, words, recipe, refinable }) {
  find("train-data").textContent = data;
  find("train-recipe").textContent = recipe;
  const rows = words.map(({ word, takes, speakers }) => {
    const cells = [word, String(takes), String(Object.keys(speakers).length || "")];
    return make("tr", {}, ...cells.map((textContent) => make("td", { textContent })));
  });
  find("train-words").tBodies[0].replaceChildren(...rows);
  state.hasWords = rows.length > 0;
  find("train-words").hidden = !rows.length;
  find("few").hidden = !words.some(({ takes }) => takes < 12) && words.length > 0;
  find("few").textContent = words.length
    ? "Twelve takes of each word are a start; takes by more people help most."
    : "There are no words yet: record some first.";
  const options = refinable.map((name) => choice(name, `Refine ${name}, with new recordings of its words`));
  find("begin-with").replaceChildren(choice("", "A new model", true), ...options);
  find("begin-fieldset").hidden = !options.length;
}

function choice(value, text, checked = false) {
  const input = make("input", { type: "radio", name: "begin-with", value, checked });
  return make("li", {}, make("label", { className: "check" }, input, text));
}

function show(status) {
  const { state: now, obstacle, run, model, resumable, step, steps, figures, seconds_left: secondsLeft, lines } = status;
  const runs = now === "running" || now === "stopping";
  find("obstacle").textContent = obstacle ?? "";
  find("train-start").disabled = runs || Boolean(obstacle) || !state.hasWords;
  find("train-stop").disabled = now !== "running";
  find("train-resume").hidden = !["stopped", "failed"].includes(now) || !resumable;
  if (state.shown !== now) {
    const nothing = now === "stopped" && !resumable;
    find("train-status").textContent = nothing ? "Stopped before anything was trained." : SENTENCES[now];
    if (runs) find("train-use").hidden = true;
  }
  find("train-live").hidden = now === "idle";
  const bar = find("train-progress");
  bar.hidden = !runs;
  if (steps) Object.assign(bar, { max: steps, value: step });
  else bar.removeAttribute("value");
  find("train-step").textContent = runs && steps ? `Step ${step} of ${steps}, ${duration(secondsLeft)} left` : "";
  find("train-figures").textContent = runs ? figures : "";
  const log = find("train-log");
  if (log.textContent !== lines.join("\n")) {
    log.textContent = lines.join("\n");
    log.scrollTop = log.scrollHeight;
  }
  find("train-result").hidden = runs || !run || (now === "stopped" && !resumable);
  find("train-result").replaceChildren(...result(now, run, model, lines));
  find("train-use").hidden = runs || !model;
  state.shown = now;
  clearTimeout(state.timer);
  if (runs && !find("train-panel").hidden) state.timer = setTimeout(poll, POLL_MS);
}

/** How a run ended: what to show of it. */
function result(now, run, model, lines) {
  const code = (textContent) => make("code", { textContent });
  if (now === "failed") return [lines.at(-1) ?? "", ...(model ? [" The last model is ", code(model)] : [])];
  if (now === "stopped") return ["It goes on where it stopped with Continue, or with", code(`speechgru train --resume ${run}`)];
  if (!model) return [];
  const said = lines.findLast((line) => line.startsWith(`${model}: `))?.slice(model.length + 2) ?? "";
  return [code(model), `${said.charAt(0).toUpperCase()}${said.slice(1)}`];
}

function duration(seconds) {
  if (seconds < 90) return counted(seconds, "second");
  return seconds < 5400 ? counted(Math.round(seconds / 60), "minute") : counted(Math.round(seconds / 3600), "hour");
}

async function poll() {
  try {
    show(await ask("own-words/training"));
    if (state.failed) tell(null);
    state.failed = false;
  } catch (error) {
    if (!state.failed) tell(error);
    state.failed = true;
    clearTimeout(state.timer);
    if (!find("train-panel").hidden) state.timer = setTimeout(poll, POLL_MS); // it may be back
  }
}

find("train-start").addEventListener("click", () => attempt(async () => {
  const chosen = document.querySelector("[name=begin-with]:checked")?.value;
  show(await post("own-words/training/start", chosen ? { refine: chosen } : {}));
}));
find("train-resume").addEventListener("click", () => attempt(async () => show(await post("own-words/training/start", { resume: true }))));
find("train-stop").addEventListener("click", () => attempt(async () => show(await post("own-words/training/stop", {}))));
find("train-use").addEventListener("click", () => attempt(async () => {
  const { name } = await post("own-words/training/use", {});
  state.use(name);
}));
