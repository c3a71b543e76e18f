/** Elements of the page, messages and keys. */

export const find = (id) => document.getElementById(id);

export const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

/** Show what is wrong, or nothing. */
export function tell(error) {
  const text = error ? String(error.message ?? error) : "";
  find("message").textContent = text;
  find("message").hidden = !text;
}

/** What browsers say of microphones, by the name of the error. */
const OF_MICROPHONES = {
  NotAllowedError: "The browser was not allowed to use the microphone.",
  NotFoundError: "The browser found no microphone.",
  NotReadableError: "The browser cannot use the microphone; another program may.",
};

/** Why an action is given up that nobody waits for any more: nothing is shown. */
export const LEFT = null;

/** Run an action; if it fails, show why. */
export async function attempt(action) {
  try {
    const result = await action();
    tell(null);
    return result;
  } catch (error) {
    tell(OF_MICROPHONES[error?.name] ?? error);
    return undefined;
  }
}

/** Actions by key, while the element is shown and nothing is being typed. */
export function onKeys(element, actions) {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (element.offsetParent === null || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches("select, textarea, audio, input:not([type=checkbox], [type=radio])")) return;
    if (key === " " && target.matches("button, a, summary, input")) return;
    const action = actions[key.length === 1 ? key.toLowerCase() : key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** Show a level of sound in a meter; null: the microphone is off. */
export function showLevel(meter, levelDb) {
  const shown = levelDb === null ? -60 : Math.max(-60, Math.min(0, levelDb));
  meter.firstElementChild.style.transform = `scaleX(${(shown + 60) / 60})`;
  meter.setAttribute("aria-valuenow", shown.toFixed(0));
}

/** A number of things: "1 take", "2 takes". */
export const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

const SPEAKER = "speechgru-speaker";

let usual = "me";

/** The speaker's name: what was entered last in this browser, or the usual one. */
export const speaker = () => localStorage.getItem(SPEAKER) ?? usual;

/** Let the only speaker of some words be the usual one. */
export function knowSpeakers(words) {
  const names = new Set(words.flatMap(({ speakers }) => Object.keys(speakers)));
  if (names.size === 1) [usual] = names;
}

/** A field for the speaker's name, which the browser remembers for all such fields. */
export function speakerField(input) {
  input.value = speaker();
  input.addEventListener("input", () => localStorage.setItem(SPEAKER, input.value));
}
