import { call, Refused } from "./api.js";
import { byId, say } from "./dom.js";

const form = byId("consent", HTMLFormElement);
const agree = byId("agree", HTMLInputElement);
const said = byId("said", HTMLElement);
const button = byId("take-part", HTMLButtonElement);
const joins = form.dataset.joins === "yes";
let token = "";

/** Take the open link's token out of the address, which the history keeps; ask whether it is right, and who comes. */
async function readLink() {
  if (!byId("keep", HTMLElement).hidden) return; // the person's own link is told once
  token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  if (token === "") return reveal("lost");
  reveal("ask");
  try {
    const { at_it } = /** @type {{at_it: boolean}} */ (await call("POST", "/api/join/check", { token }));
    if (at_it) reveal("known");
  } catch (error) {
    if (isWrongLink(error)) reveal("lost"); // what else went wrong is told to whoever takes part
  }
}

/** @param {unknown} error */
function isWrongLink(error) {
  return joins && error instanceof Refused && [401, 422].includes(error.status);
}

/**
 * Show one of the parts; the focus goes to the heading of one that takes another's place.
 * @param {"ask" | "known" | "lost" | "keep"} id
 */
function reveal(id) {
  for (const part of ["ask", "known", "lost", "keep"]) byId(part, HTMLElement).hidden = part !== id;
  document.getElementById(`${id}-title`)?.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void takePart();
});

async function takePart() {
  if (!agree.checked) {
    say(said, "Tick the box if you agree; without it you cannot take part.");
    return agree.focus();
  }
  say(said, "");
  button.disabled = true;
  try {
    if (joins) await join();
    else await call("POST", "/api/consent").then(() => location.replace("/study"));
  } catch (error) {
    button.disabled = false;
    if (isWrongLink(error)) return reveal("lost");
    say(said, error instanceof Error ? error.message : String(error));
  }
}

/** Become a participant, whose own link is told this once. */
async function join() {
  const { link } = /** @type {{link: string}} */ (await call("POST", "/api/join", { token }));
  byId("own-link", HTMLInputElement).value = link;
  reveal("keep");
}

const copy = document.getElementById("copy");
copy?.addEventListener("click", async () => {
  const field = byId("own-link", HTMLInputElement);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    say(byId("copied", HTMLElement), "Copied.");
  } catch {
    say(byId("copied", HTMLElement), "Copy the selected text yourself: this browser does not let the page do it.");
  }
});

if (joins) {
  byId("another", HTMLButtonElement).addEventListener("click", () => reveal("ask"));
  addEventListener("hashchange", () => void readLink()); // another link, opened in the same tab
  void readLink();
}
