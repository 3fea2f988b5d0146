import { call, isPassing, meta, Refused } from "./api.js";
import { summary } from "./calls.js";
import { announce, byId, closable, copyOf, counted, duration, part, say } from "./dom.js";
import { intervalBar } from "./bars.js";

/** @import { AgreementRow, Interval, LeaseRow, PersonRow, ProjectProgress, Share, Summary } from "./types.js" */

const REFRESH_MS = 5000;
/** What no name has. */
const UNPRINTED = /[\x00-\x1f\x7f-\x9f\u2028\u2029]/;

/**
 * What is asked before something that cannot be undone.
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} yes what the button says
 * @property {boolean} [drop] whether to ask if answers count
 * @property {string} [typed] what has to be typed
 * @property {(drop: boolean) => Promise<unknown>} then
 */

/** The page from which a project is looked after: it reads the whole state again and again. */
class Admin {
  #timer = 0;
  #paused = false;
  #asked = 0;
  /** @type {Question | null} */
  #question = null;
  /** @type {(() => Promise<unknown>) | null} what failed and may go well later */
  #failed = null;
  #people = new Rows("people", "person");
  #dimensions = new Rows("agreement", "dimension");
  #leases = new Rows("leases", "lease");

  constructor() {
    for (const id of ["new-person", "link", "confirm"]) closable(byId(id, HTMLDialogElement));
    byId("link", HTMLDialogElement).addEventListener("close", () => {
      byId("link-text", HTMLInputElement).value = "";
    });
    onClick("add", () => this.#openNew());
    onClick("copy", () => void this.#copy());
    onClick("pause", () => void this.#do(() => call("POST", "/api/admin/pause", { paused: !this.#paused })));
    onClick("sign-out", () => void this.#signOut());
    onClick("problem-close", () => (byId("problem-bar", HTMLElement).hidden = true));
    onClick("problem-again", () => {
      byId("problem-bar", HTMLElement).hidden = true;
      if (this.#failed !== null) void this.#do(this.#failed);
    });
    byId("new-person-form", HTMLFormElement).addEventListener("submit", (event) => this.#make(event));
    byId("confirm-form", HTMLFormElement).addEventListener("submit", () => this.#confirmed());
    byId("typed", HTMLInputElement).addEventListener("input", () => this.#checkTyped());
    document.addEventListener("visibilitychange", () => document.hidden || void this.refresh());
  }

  /** Read the state and show it; a later answer is never overtaken by an earlier one. */
  async refresh() {
    clearTimeout(this.#timer);
    const asked = ++this.#asked;
    try {
      const state = await summary();
      if (asked !== this.#asked) return;
      this.#show(state);
      say(byId("cut", HTMLElement), "");
    } catch (error) {
      if (error instanceof Refused && error.ended) return this.#tell(error.message);
      say(byId("cut", HTMLElement), "No connection: what is shown is old");
    }
    if (!document.hidden && asked === this.#asked) this.#timer = setTimeout(() => void this.refresh(), REFRESH_MS);
  }

  /** @param {Summary} state */
  #show(state) {
    this.#paused = state.paused;
    const pause = byId("pause", HTMLButtonElement);
    pause.disabled = false;
    say(pause, state.paused ? "Resume" : "Pause");
    say(byId("state", HTMLElement), state.paused ? "Paused: no items are given out" : "Running");
    byId("state", HTMLElement).classList.toggle("paused", state.paused);
    showProgress(state.progress);
    this.#people.show(state.people, ({ id }) => id, (row, person) => this.#showPerson(row, person, state.now));
    this.#dimensions.show(state.agreement, ({ dimension }) => dimension, showAgreement);
    this.#leases.show(state.leases, (one) => one.assignment, (row, lease) => this.#showLease(row, lease, state.now));
    byId("no-people", HTMLElement).hidden = state.people.some(({ role }) => role === "annotator");
    byId("no-agreement", HTMLElement).hidden = state.agreement.length > 0;
    byId("no-leases", HTMLElement).hidden = state.leases.length > 0;
  }

  /**
   * @param {HTMLElement} row
   * @param {PersonRow} person
   * @param {number} now
   */
  #showPerson(row, person, now) {
    const name = person.name ?? "Erased";
    const isAdmin = person.role === "admin";
    const works = person.done > 0 || !isAdmin;
    row.classList.toggle("gone", person.withdrawn);
    fill(row, {
      name,
      id: person.id,
      tag: tagOf(person),
      done: works ? String(person.done) : "–",
      open: works ? String(person.open) : "–",
      pace: person.seconds_an_item === null ? "–" : duration(person.seconds_an_item),
      gold: shareOf(person.gold),
      repeats: shareOf(person.repeats),
      seen: person.last_seen === null ? "never" : ago(now - person.last_seen),
    });
    const oneself = person.id === meta("person");
    this.#button(row, "link", person.withdrawn, `New link for ${name}`, () => this.#askLink(person));
    this.#button(row, "withdraw", person.withdrawn || oneself, `Withdraw ${name}`, () => this.#askWithdraw(person));
    this.#button(row, "erase", person.name === null || oneself, `Erase ${name}`, () => this.#askErase(person));
  }

  /**
   * @param {HTMLElement} row
   * @param {LeaseRow} lease
   * @param {number} now
   */
  #showLease(row, lease, now) {
    const name = lease.name ?? "somebody erased";
    const left = lease.until - now;
    fill(row, {
      item: lease.item,
      name,
      since: duration(Math.max(0, now - lease.since)),
      until: left > 0 ? duration(left) : "over",
    });
    this.#button(row, "release", false, `Release ${lease.item} of ${name}`, () => {
      void this.#do(() => call("POST", `/api/admin/assignments/${encodeURIComponent(lease.assignment)}/release`));
    });
  }

  /**
   * @param {HTMLElement} row
   * @param {string} name
   * @param {boolean} hidden
   * @param {string} label
   * @param {() => void} act
   */
  #button(row, name, hidden, label, act) {
    const button = part(row, name, HTMLButtonElement);
    button.hidden = hidden;
    button.setAttribute("aria-label", label);
    button.onclick = act;
  }

  #openNew() {
    byId("new-person-form", HTMLFormElement).reset();
    say(byId("name-problem", HTMLElement), "");
    byId("new-person", HTMLDialogElement).showModal();
  }

  /**
   * Add a person; a name that does not do is told in the dialog, which stays open.
   * @param {SubmitEvent} event
   */
  #make(event) {
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const name = String(form.get("name")).trim();
    if (name === "" || UNPRINTED.test(name)) {
      event.preventDefault();
      byId("name", HTMLInputElement).focus();
      return announce(byId("name-problem", HTMLElement), "Write a name: letters, digits or signs, on one line.");
    }
    void this.#do(async () => {
      this.#showLink(name, await call("POST", "/api/admin/people", { name, role: form.get("role") }));
    });
  }

  /**
   * @param {string} name
   * @param {unknown} made
   */
  #showLink(name, made) {
    say(byId("link-title", HTMLElement), `Link for ${name}`);
    say(byId("copied", HTMLElement), "");
    byId("link-text", HTMLInputElement).value = /** @type {{link: string}} */ (made).link;
    byId("link", HTMLDialogElement).showModal();
    byId("link-text", HTMLInputElement).select();
  }

  async #copy() {
    const field = byId("link-text", HTMLInputElement);
    field.select();
    const copied = await navigator.clipboard?.writeText(field.value).then(() => true, () => false);
    const done = copied || document.execCommand("copy"); // a page over plain HTTP has no clipboard
    announce(byId("copied", HTMLElement), done ? "Copied." : "Not copied: the link is selected, copy it by hand.");
  }

  /** @param {PersonRow} person */
  #askLink(person) {
    this.#ask({
      title: `New link for ${person.name ?? "this person"}?`,
      text: "The old link stops working, and they are signed out everywhere. What they answered stays.",
      yes: "Make a new link",
      then: async () => this.#showLink(person.name ?? "this person", await call("POST", `${pathOf(person)}/link`)),
    });
  }

  /** @param {PersonRow} person */
  #askWithdraw(person) {
    this.#ask({
      title: `Withdraw ${person.name ?? "this person"}?`,
      text: "Their link stops working, and what they hold goes to others. What they answered counts.",
      yes: "Withdraw",
      drop: true,
      then: (drop) => call("POST", `${pathOf(person)}/withdraw`, { drop }),
    });
  }

  /** @param {PersonRow} person */
  #askErase(person) {
    this.#ask({
      title: `Erase ${person.name}?`,
      text: "They are withdrawn, and their name is forgotten for good. Their answers stay, but nobody knows whose.",
      yes: "Erase",
      typed: person.name ?? "",
      then: () => call("POST", `${pathOf(person)}/erase`),
    });
  }

  /** @param {Question} question */
  #ask(question) {
    this.#question = question;
    say(byId("confirm-title", HTMLElement), question.title);
    say(byId("confirm-text", HTMLElement), question.text);
    say(byId("confirm-yes", HTMLElement), question.yes);
    say(byId("wanted", HTMLElement), question.typed ?? "");
    byId("drop", HTMLInputElement).checked = false;
    byId("typed", HTMLInputElement).value = "";
    byId("drop-part", HTMLElement).hidden = question.drop !== true;
    byId("typed-part", HTMLElement).hidden = question.typed === undefined;
    this.#checkTyped();
    byId("confirm", HTMLDialogElement).showModal();
  }

  #checkTyped() {
    const typed = byId("typed", HTMLInputElement).value.trim();
    const wanted = this.#question?.typed?.trim();
    byId("confirm-yes", HTMLButtonElement).disabled = wanted !== undefined && typed !== wanted;
  }

  #confirmed() {
    const question = this.#question;
    if (question !== null) void this.#do(() => question.then(byId("drop", HTMLInputElement).checked));
  }

  /**
   * Change something, then show how things are.
   * @param {() => Promise<unknown>} change
   */
  async #do(change) {
    try {
      await change();
    } catch (error) {
      this.#tell(error instanceof Error ? error.message : String(error), isPassing(error) ? change : null);
    }
    await this.refresh();
  }

  async #signOut() {
    await call("DELETE", "/api/session").catch(() => {});
    location.assign("/enter?left");
  }

  /**
   * @param {string} text
   * @param {(() => Promise<unknown>) | null} [failed] what can be tried again
   */
  #tell(text, failed = null) {
    this.#failed = failed;
    byId("problem-again", HTMLElement).hidden = failed === null;
    byId("problem-bar", HTMLElement).hidden = false;
    announce(byId("problem", HTMLElement), text);
  }
}

/** The rows of a table, each for one thing, which stay what they are when the table is shown again: focus is kept. */
class Rows {
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();

  /**
   * @param {string} body id of the table's body
   * @param {string} template
   */
  constructor(body, template) {
    this.body = byId(body, HTMLElement);
    this.template = template;
  }

  /**
   * @template T
   * @param {T[]} things
   * @param {(thing: T) => string} keyOf
   * @param {(row: HTMLElement, thing: T) => void} print
   */
  show(things, keyOf, print) {
    const keys = things.map(keyOf);
    for (const [key, row] of this.#rows) {
      if (keys.includes(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    for (const [index, thing] of things.entries()) {
      const row = this.#rows.get(keys[index]) ?? /** @type {HTMLElement} */ (copyOf(this.template).querySelector("tr"));
      this.#rows.set(keys[index], row);
      print(row, thing);
      if (this.body.children[index] !== row) this.body.insertBefore(row, this.body.children[index] ?? null);
    }
  }
}

/** @param {ProjectProgress} progress */
function showProgress({ items, items_done, items_short, answers, answers_wanted, seconds_an_item, minutes_left }) {
  const bar = byId("items-bar", HTMLProgressElement);
  bar.max = Math.max(1, items);
  bar.value = items_done;
  say(byId("items-done", HTMLElement), String(items_done));
  say(byId("items", HTMLElement), String(items));
  say(byId("answers", HTMLElement), String(answers));
  say(byId("answers-wanted", HTMLElement), String(answers_wanted));
  say(byId("pace", HTMLElement), seconds_an_item === null ? "–" : duration(seconds_an_item));
  const wait = `${counted(items_short, "item")} wait${items_short === 1 ? "s" : ""}`;
  say(byId("short", HTMLElement), items_short > 0 ? `${wait} for more people than there are: add somebody.` : "");
  say(byId("time-left", HTMLElement), minutes_left === null ? "–" : duration(60 * minutes_left));
}

/**
 * @param {HTMLElement} row
 * @param {AgreementRow} agreement
 */
function showAgreement(row, { title, items, alpha, pairwise }) {
  fill(row, {
    title,
    items: String(items),
    alpha: figures(alpha, (value) => value.toFixed(2).replace("-", "−")),
    pairwise: figures(pairwise, (value) => `${Math.round(100 * value)} %`),
  });
  part(row, "alpha-bar", HTMLElement).replaceChildren(...(alpha ? [intervalBar(alpha, -0.2)] : []));
  part(row, "pairwise-bar", HTMLElement).replaceChildren(...(pairwise ? [intervalBar(pairwise, 0)] : []));
}

/**
 * @param {Interval | null} interval
 * @param {(value: number) => string} print
 */
function figures(interval, print) {
  if (interval === null) return "–";
  const { value, low, high } = interval;
  return low === null || high === null ? print(value) : `${print(value)} (${print(low)} to ${print(high)})`;
}

/**
 * @param {HTMLElement} row
 * @param {Record<string, string>} texts by the names of its parts
 */
function fill(row, texts) {
  for (const [name, text] of Object.entries(texts)) say(part(row, name, HTMLElement), text);
}

/** @param {PersonRow} person */
function tagOf({ role, withdrawn, dropped }) {
  const states = [role === "admin" && "admin", withdrawn && "withdrawn", dropped && "not counted"];
  return states.filter(Boolean).join(", ");
}

/** @param {Share} share */
function shareOf({ asked, right }) {
  return asked === 0 ? "–" : `${Math.round((100 * right) / asked)} % of ${asked}`;
}

/** @param {number} seconds */
function ago(seconds) {
  return seconds < 90 ? "now" : `${duration(seconds)} ago`;
}

/** @param {PersonRow} person */
function pathOf(person) {
  return `/api/admin/people/${encodeURIComponent(person.id)}`;
}

/**
 * @param {string} id
 * @param {() => void} act
 */
function onClick(id, act) {
  byId(id, HTMLButtonElement).addEventListener("click", act);
}

await new Admin().refresh();
