/** Recording your own words: each is asked for until it is good. */

import { attempt, counted, find, knowSpeakers, LEFT, make, onKeys, showLevel, speaker, speakerField, tell } from "./dom.js";
import { ask, askSound, post, stream } from "./server.js";

const SECONDS = { room: 60, talk: 120 };
const TITLES = { room: "Be quiet", talk: "Talk about anything, without the words" };
const NAMES = { room: "the room", talk: "talk" };
/** After the last take, the microphone stays open this long: for an undo. */
const DONE_MS = 15_000;

const state = { words: [], data: "", own: new Set(), off: new Set(), stream: null, opening: null, lock: null, total: 0, timer: 0 };

/** The panel is shown: list the words that the directory has. */
export async function enter() {
  await attempt(async () => {
    const { data, words } = await ask("own-words");
    find("data-name").textContent = state.data = data;
    state.words = words;
    knowSpeakers(words);
    find("speaker").value = speaker();
    const { own = [], off = [] } = keptWords();
    const known = new Set(words.map(({ word }) => word));
    // Some may have been entered before the answer.
    state.own = new Set([...own, ...state.own].filter((word) => !known.has(word)));
    state.off = new Set([...off, ...state.off]);
    changeWords();
  });
}

/** The panel is left: the microphone is closed, or not opened. */
export function leave() {
  state.opening?.abort(LEFT);
  state.stream?.stop();
}

/** Where the browser keeps the words that were entered for this directory, and those not to record. */
const kept = () => `speechgru-words ${state.data}`;

function changeWords() {
  showWords();
  try {
    localStorage.setItem(kept(), JSON.stringify({ own: [...state.own], off: [...state.off] }));
  } catch { /* they are kept until the page is closed */ }
}

function keptWords() {
  try {
    return JSON.parse(localStorage.getItem(kept())) ?? {};
  } catch {
    return {};
  }
}

const allWords = () => [...new Set([...state.words.map(({ word }) => word), ...state.own])];

function showWords() {
  const me = speaker();
  const items = allWords().map((word) => {
    const mine = state.words.find((known) => known.word === word)?.speakers[me] ?? 0;
    const box = make("input", { type: "checkbox", checked: !state.off.has(word) });
    box.addEventListener("change", () => {
      box.checked ? state.off.delete(word) : state.off.add(word);
      changeWords();
    });
    const count = make("span", { className: "count", textContent: counted(mine, "take") });
    const chip = make("label", { className: "chip" }, box, make("span", { textContent: word }), count);
    return make("li", {}, chip, ...(state.words.some((known) => known.word === word) ? [] : [remover(word)]));
  });
  find("own-words").replaceChildren(...items);
  find("own-words").hidden = items.length === 0;
}

/** A button for a word without recordings. */
function remover(word) {
  const button = make("button", { type: "button", className: "second small", textContent: "×" });
  button.setAttribute("aria-label", `Remove ${word}`);
  button.addEventListener("click", () => {
    state.own.delete(word);
    state.off.delete(word);
    changeWords();
    find("new-word").focus();
  });
  return button;
}

function addWord() {
  const entered = find("new-word").value.normalize("NFC").split(",");
  for (const word of entered.map((text) => text.trim()).filter(Boolean)) {
    state.own.add(word);
    state.off.delete(word);
  }
  find("new-word").value = "";
  changeWords();
}

function recordWords() {
  addWord();
  const words = allWords().filter((word) => !state.off.has(word));
  if (!words.length) {
    tell("Enter a word first.");
    find("new-word").focus();
    return;
  }
  begin({ words, takes: find("takes").valueAsNumber || 12 }, "Say");
}

/** Takes can be deleted between recordings. */
function letDelete(isAllowed) {
  for (const button of find("takes-list").querySelectorAll("[data-delete]")) button.disabled = !isAllowed;
}

/** Keep the screen on while the microphone is open. */
async function keepAwake() {
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  if (state.stream) state.lock = lock;
  else lock?.release();
}

async function begin(wish, title) {
  for (const id of ["record-start", "record-room", "record-talk"]) find(id).disabled = true;
  await attempt(async () => {
    const options = { ...wish, speaker: JSON.stringify(speaker().trim()) };
    state.opening = new AbortController();
    state.stream = await stream("own-words/record", options, hear, level, stopped, state.opening.signal);
    keepAwake(); // a browser may never answer
    state.total = 0;
    letDelete(false);
    const hasWords = "words" in wish;
    find("record-say").textContent = title;
    find("record-word").textContent = hasWords ? "…" : "";
    find("record-count").textContent = find("outcome").textContent = "";
    find("record-progress").value = 0;
    find("record-undo").hidden = find("record-skip").hidden = !hasWords;
    find("record-undo").disabled = true;
    find("record-skip").disabled = false;
    find("record-setup").hidden = true;
    find("recording").hidden = false;
    find("recording").focus();
  });
  for (const id of ["record-start", "record-room", "record-talk"]) find(id).disabled = false;
}

function stopped(reason) {
  const wasShown = !find("record-panel").hidden;
  state.stream = null;
  letDelete(true);
  clearTimeout(state.timer);
  state.lock?.release();
  state.lock = null;
  find("recording").hidden = true;
  find("record-setup").hidden = false;
  if (wasShown) find("record-start").focus();
  const whole = state.error?.startsWith(reason) ? state.error : reason; // that of a close is cut
  if (reason) tell(whole);
  state.error = null;
  enterQuietly();
}

/** The counts have changed; a message stays. */
async function enterQuietly() {
  state.words = (await ask("own-words").catch(() => state)).words;
  showWords();
}

const level = (levelDb) => showLevel(find("record-level"), levelDb);

const outcome = (text, className) => Object.assign(find("outcome"), { textContent: text, className });

/** A message of the server. */
function hear(message) {
  const { type } = message;
  if (type === "prompt") askFor(message);
  else if (type === "speaking") find("record-level").classList.toggle("speaking", message.speaking);
  else if (type === "kept") keep(message);
  else if (type === "refused") outcome(`${message.word}: ${message.advice}`, "refused");
  else if (type === "undone") undone(message.file);
  else if (type === "progress") progress(message.seconds, message.of, `${message.seconds} of ${message.of} s`);
  else if (type === "done") done();
  else if (type === "error") tell((state.error = message.error));
}

function askFor({ word, take, takes, remaining }) {
  clearTimeout(state.timer);
  state.total = Math.max(state.total, remaining);
  find("record-say").textContent = "Say";
  find("record-word").textContent = word;
  find("record-skip").disabled = false;
  progress(state.total - remaining, state.total, `take ${take} of ${takes}, ${remaining} left in all`);
}

function progress(value, max, text) {
  Object.assign(find("record-progress"), { value, max });
  find("record-count").textContent = text;
}

function keep({ word, file, seconds, peak_db: peakDb, advice }) {
  const peak = peakDb === undefined ? "" : `, peak ${peakDb.toFixed(0).replace("-", "−")} dB`;
  const details = [`${seconds.toFixed(1)} s${peak}`, advice].filter(Boolean).join("; ");
  outcome(`Kept ${file}: ${details}`, "kept");
  find("record-undo").disabled = false;
  const play = make("button", { type: "button", className: "second small", textContent: "Play" });
  play.setAttribute("aria-label", `Play ${file}`);
  play.addEventListener("click", () => attempt(() => playTake(file)));
  const about = make("div", {}, file, make("span", { className: "soft", textContent: details }));
  const remove = make("button", { type: "button", className: "second small", textContent: "Delete" });
  remove.setAttribute("aria-label", `Delete ${file}`);
  remove.dataset.delete = "";
  remove.disabled = state.stream !== null; // the recording undoes its own
  const item = make("li", {}, about, make("span", { className: "together" }, play, remove));
  remove.addEventListener("click", () => attempt(async () => {
    await post("own-words/deletions", { file });
    item.remove();
    find("takes-section").hidden = !find("takes-list").children.length;
    find("record-start").focus();
    enterQuietly();
  }));
  item.dataset.file = file;
  find("takes-list").prepend(item);
  find("takes-section").hidden = false;
  if (word === null) find("record-word").textContent = "";
}

async function playTake(file) {
  const address = await askSound(`own-words/takes/${file.split("/").map(encodeURIComponent).join("/")}`);
  const sound = new Audio(address);
  sound.addEventListener("ended", () => URL.revokeObjectURL(address));
  await sound.play();
}

function undone(file) {
  if (file === null) {
    outcome("Nothing to undo.", "");
    find("record-undo").disabled = true;
    return;
  }
  outcome(`Deleted ${file}.`, "");
  [...find("takes-list").children].find((item) => item.dataset.file === file)?.remove();
  find("takes-section").hidden = !find("takes-list").children.length;
}

function done() {
  find("record-say").textContent = "";
  find("record-word").textContent = "Done";
  find("record-count").textContent = "";
  find("record-progress").value = find("record-progress").max;
  find("record-skip").disabled = true;
  if (find("record-undo").hidden) state.stream?.stop();
  else state.timer = setTimeout(() => state.stream?.stop(), DONE_MS);
}

const send = (type) => state.stream?.send({ type });
const undo = () => send("undo");
const skip = () => !find("record-skip").disabled && send("skip");
const stop = () => state.stream?.stop();

speakerField(find("speaker"));
find("speaker").addEventListener("input", showWords);
find("add-word").addEventListener("click", addWord);
find("new-word").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.value.trim()) return;
  event.preventDefault();
  addWord();
});
find("record-form").addEventListener("submit", (event) => {
  event.preventDefault();
  recordWords();
});
for (const kind of ["room", "talk"]) {
  find(`record-${kind}`).textContent = `Record ${NAMES[kind]}, ${SECONDS[kind]} s`;
  find(`record-${kind}`).addEventListener("click", () => begin({ [kind]: SECONDS[kind] }, TITLES[kind]));
}
find("record-undo").addEventListener("click", undo);
find("record-skip").addEventListener("click", skip);
find("record-stop").addEventListener("click", stop);
onKeys(find("recording"), { u: undo, s: skip, q: stop, Escape: stop });
