/** The page of `speechgru serve`: asks for the token, and shows one panel at a time. */

import { find, tell } from "./dom.js";
import * as listen from "./listen.js";
import * as record from "./record.js";
import * as review from "./review.js";
import { TokenNeeded, ask, useToken } from "./server.js";
import * as train from "./train.js";

const panels = { listen, record, review, train };
let shown = null;

async function load() {
  let models, own;
  try {
    [models, own] = await Promise.all([ask("models"), ask("own-words")]);
  } catch (error) {
    if (!(error instanceof TokenNeeded)) return tell(error);
    find("token-form").hidden = false;
    if (find("token").value) tell("That is not this server's token.");
    find("token").focus();
    return;
  }
  tell(null);
  find("token-form").hidden = true;
  find("main").hidden = false;
  find("nav").hidden = !own.data;
  find("nav-review").hidden = !own.caught;
  find("no-data").hidden = Boolean(own.data);
  listen.offer(models);
  listen.allowSaving(Boolean(own.caught));
  if (own.data) train.onModel((name) => use(name).catch(tell));
  choose(own, false);
  window.addEventListener("hashchange", () => choose(own, true));
}

/** Listen with another model from now on. */
async function use(name) {
  listen.offer(await ask("models"), name);
  location.hash = "listen";
}

/** Show the panel that the address names. */
function choose(own, moveFocus) {
  let name = location.hash.slice(1);
  if (!Object.hasOwn(panels, name) || !own.data || (name === "review" && !own.caught)) name = "listen";
  if (name === shown) return;
  if (shown) panels[shown].leave();
  shown = name;
  tell(null);
  for (const panel of Object.keys(panels)) {
    find(`${panel}-panel`).hidden = panel !== name;
    const link = find(`nav-${panel}`);
    if (panel === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  find("model-choice").classList.toggle("unused", name !== "listen");
  panels[name].enter?.();
  if (moveFocus) find(`${name}-title`).focus();
}

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(find("token").value);
  load();
});
load();
