import { call, Refused } from "./api.js";
import { byId, say } from "./dom.js";

const form = byId("consent", HTMLFormElement);
const agree = byId("agree", HTMLInputElement);
const said = byId("said", HTMLElement);
const button = byId("take-part", HTMLButtonElement);
const joins = form.dataset.joins === "yes";
const token = location.hash.slice(1);
if (joins) history.replaceState(null, "", location.pathname); // the history keeps addresses

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
    const lost = error instanceof Refused && joins && [401, 422].includes(error.status);
    say(said, lost ? "This link does not work: open the one that you were given again." : String(error instanceof Error ? error.message : error));
  }
}

/** Become a participant, whose own link is told this once. */
async function join() {
  const { link } = /** @type {{link: string}} */ (await call("POST", "/api/join", { token }));
  byId("own-link", HTMLInputElement).value = link;
  byId("ask", HTMLElement).hidden = true;
  const keep = byId("keep", HTMLElement);
  keep.hidden = false;
  byId("keep-title", HTMLElement).focus();
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
