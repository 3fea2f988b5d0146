import { call, meta, Refused } from "./api.js";
import { byId, say } from "./dom.js";

const title = byId("title", HTMLElement);
const text = byId("text", HTMLElement);
const again = byId("again", HTMLButtonElement);
let token = "";

/** Take the token out of the address, which the history keeps, and sign in with it. */
function readLink() {
  token = location.hash.slice(1);
  const left = location.search === "?left";
  history.replaceState(null, "", location.pathname);
  if (left && token === "") return tell("You are signed out", "Open your link to go on.");
  void enter();
}

async function enter() {
  again.hidden = true;
  if (token === "") return tell("Open your link", "This page needs the personal link that you were given.");
  tell("One moment", "You are being signed in.");
  try {
    await call("POST", "/api/session", { token });
    location.replace("/"); // which leads to this person's page
  } catch (error) {
    failed(error);
  }
}

/** @param {unknown} error */
function failed(error) {
  if (error instanceof Refused && [401, 404, 422].includes(error.status)) {
    return tell("This link does not work", "It may have been replaced or withdrawn: ask whoever gave it to you for a new one.");
  }
  again.hidden = false;
  if (error instanceof Refused && error.status === 429) {
    return tell("Too many tries", `Wait ${Math.max(1, error.wait)} seconds, then try again.`);
  }
  tell("That did not work", error instanceof Error ? error.message : String(error));
}

/**
 * @param {string} head
 * @param {string} words
 */
function tell(head, words) {
  say(title, head);
  say(text, words);
  document.title = `${head} – ${meta("site")}`;
}

again.addEventListener("click", () => void enter());
addEventListener("hashchange", readLink); // another link, opened in the same tab
readLink();
