/** Sorting caught clips: each is played, and filed by what it really was. */

import { attempt, find, knowSpeakers, make, onKeys, speaker, speakerField } from "./dom.js";
import { ask, askSound, post } from "./server.js";

const state = { pending: [], clip: null, busy: false, address: "" };

/** The panel is shown: list what waits. */
export async function enter() {
  find("review-filed").textContent = "";
  const found = await attempt(() => Promise.all([ask("own-words"), ask("own-words/clips")]));
  if (found) {
    const [{ words }, listed] = found;
    knowSpeakers(words);
    show(listed, false);
  } else find("clip").hidden = find("waiting").hidden = true;
  find("review-speaker").value = speaker();
}

export const leave = () => find("clip-sound").pause();

const path = (name) => `own-words/clips/${name.split("/").map(encodeURIComponent).join("/")}`;

function show({ pending, left, total, words }, play) {
  state.pending = pending;
  find("other-word").replaceChildren(...words.map((word) => make("option", { textContent: word })));
  find("review-left").textContent = left
    ? `${left} of ${total} clips are left.`
    : total
      ? `All ${total} clips are sorted. Next: Train, to refine the model with them.`
      : "There are no clips yet: tick “Save them for review” before you listen.";
  find("review-undo").hidden = total === 0;
  find("clip").hidden = find("waiting").hidden = pending.length === 0;
  if (pending.length) choose(pending[0], play);
  else find("clip-sound").pause();
}

function choose(clip, play) {
  state.clip = clip;
  const nearly = clip.kind === "event" ? "Recognized as" : "Nearly recognized as";
  const score = clip.score === null ? "" : `, ${(100 * clip.score).toFixed(0)} %`;
  find("clip-kind").textContent = nearly;
  find("clip-word").textContent = clip.word;
  find("clip-about").textContent = `${clip.file}${score}`;
  find("right").replaceChildren(`It was “${clip.word}” `, make("kbd", { textContent: "y" }));
  find("pending").replaceChildren(...state.pending.map(entry));
  attempt(() => load(clip, play));
}

function entry(clip) {
  const score = clip.score === null ? "" : `${(100 * clip.score).toFixed(0)} %`;
  const name = make("span", { textContent: clip.kind === "event" ? clip.word : `(${clip.word})` });
  const button = make("button", { type: "button", className: "entry" }, name, make("span", { className: "soft", textContent: score }));
  if (clip === state.clip) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => choose(clip, true));
  return make("li", {}, button);
}

async function load(clip, play) {
  const address = await askSound(path(clip.file));
  if (state.clip !== clip) return URL.revokeObjectURL(address);
  URL.revokeObjectURL(state.address);
  state.address = address;
  const sound = find("clip-sound");
  sound.src = address;
  if (play) await sound.play();
}

async function again() {
  const sound = find("clip-sound");
  sound.currentTime = 0;
  await attempt(() => sound.play());
}

async function decide(decision) {
  if (state.busy || !state.clip || find("clip").hidden) return;
  const wish = { file: state.clip.file, decision, speaker: speaker().trim() };
  if (decision === "word") wish.word = find("other-word").value;
  await send(wish);
}

async function send(wish) {
  state.busy = true;
  const answer = await attempt(() => post("own-words/decisions", wish));
  state.busy = false;
  if (!answer) {
    const listed = await ask("own-words/clips").catch(() => null);
    if (!wish.file || !listed || listed.pending.some(({ file }) => file === wish.file)) return;
    find("review-filed").textContent = `Another page has sorted ${wish.file}.`;
    show(listed, false);
    return;
  }
  const { filed, undone } = answer;
  const told = filed ? filed.to ?? "Thrown away; the caught clip stays." : undone ? `Undone: ${undone.file}${undone.note ? `; ${undone.note}` : ""}` : "Nothing to undo.";
  find("review-filed").textContent = filed?.to ? `Copied to ${told}` : told;
  show(answer, true);
}

const undo = () => !state.busy && send({ decision: "undo" });

speakerField(find("review-speaker"));
for (const button of document.querySelectorAll("[data-decision]")) {
  button.addEventListener("click", () => decide(button.dataset.decision));
}
find("review-undo").addEventListener("click", undo);
find("again").addEventListener("click", again);
onKeys(find("review-panel"), {
  y: () => decide("right"),
  o: () => decide("speech"),
  n: () => decide("noise"),
  x: () => decide("discard"),
  w: () => find("other-word").focus(),
  u: undo,
  " ": again,
});
find("other-word").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  decide("word");
  find("clip").focus(); // so that the next key is a decision
});
