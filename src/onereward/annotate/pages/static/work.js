import { send, storeIn, waiting } from "./answers.js";
import { call, isPassing, meta, Refused, uuid } from "./api.js";
import { Board } from "./board.js";
import { Choices, isAnswered as hasAnswer } from "./choices.js";
import { Controls } from "./controls.js";
import { announce, byId, closable, counted, duration, part, say } from "./dom.js";
import { Gallery, hasEnded } from "./gallery.js";
import { Hand, isCorrected } from "./hand.js";
import { Drafts, Kept } from "./keeping.js";
import { Keys } from "./keys.js";
import { Outbox, unsent } from "./outbox.js";
import { picturesOf } from "./pictures.js";
import { Questions, REASONS, SAID, sentence } from "./questions.js";
import { printProgress, printWaiting } from "./status.js";
import { Stopwatch } from "./stopwatch.js";

/** @import { Waiting } from "./answers.js" */
/** @import { Accepted, Assignment, Progress, Reason } from "./types.js" */

const REMEMBERED = 5; // items that can be corrected after submitting
const STEP = 0.1; // of what is seen, that a key moves by
const TASKS = { fill: "Fill", extend: "Extend", remove: "Remove", text: "Text" };
/** Prompts that the editor is given where nobody wrote one. */
const UNWRITTEN = ["", "remove", "high-definition, perfect composition"];
const INSTEAD = {
  fill: "Fill what the mask covers",
  extend: "Continue the picture where the mask is",
  remove: "Remove what the mask covers",
  text: "Write where the mask is",
};
/** @type {Record<string, [string, string]>} */
const EMPTY = {
  loading: ["One moment", "The next item is on its way."],
  finished: ["All done", "There is nothing left for you to answer. Thank you!"],
  paused: ["Paused", "The project is paused. This page goes on by itself when it is resumed."],
  busy: ["One moment", "Everything that is left is with others right now. This page goes on by itself."],
  cut: ["No connection", "The server cannot be reached. This page goes on by itself when it can."],
};

/** The page on which a person works. */
class Work {
  #said = byId("said", HTMLElement);
  #problem = byId("problem", HTMLElement);
  #submitButton = byId("submit", HTMLButtonElement);
  /** @type {Progress | null} */
  #progress = null;
  /** @type {Assignment | null} the item that is shown */
  #item = null;
  /** Whether it cannot be shown, since the server lacks one of its pictures. */
  #broken = false;
  #choices = new Choices([], 0, null);
  #watch = new Stopwatch();
  #drafts = new Drafts(meta("person"));
  /** @type {Assignment[]} submitted last, with their votes */
  #past = [];
  #gallery = new Gallery(picturesOf);
  #questions = new Questions((index) => this.#go(index), (reason) => this.#skip(reason));
  #board = new Board(
    (place) => this.#choose(place),
    (place, mark) => this.#change(() => this.#choices.mark(place, mark)),
  );
  #controls = new Controls(
    (action, repeated) => this.#act(action, repeated),
    (action) => action === "flip" && this.#board.flip(false),
    (keys) => void this.#saveKeys(keys),
  );

  /** @param {Kept} kept */
  constructor(kept) {
    this.kept = kept;
    this.outbox = new Outbox(storeIn(kept), send, {
      changed: () => this.#printWaiting(),
      settled: (accepted, one) => this.#settled(accepted, one),
      refused: (detail) => this.#tellProblem(`An answer was not accepted. ${detail}`),
      ended: () => this.#ended(),
    });
    this.hand = new Hand(this.outbox, {
      changed: () => this.#handChanged(),
      lost: (item) => this.#lost(item),
      ended: () => this.#ended(),
    });
    this.#listen();
  }

  async start() {
    this.#past = (await this.kept.get("past", "items")) ?? [];
    await this.outbox.start();
    await this.#join();
  }

  /** Ask what this person holds until the server says it, then go on from there. */
  async #join() {
    try {
      const { progress, settings } = await this.hand.start();
      this.#progress = progress;
      this.#controls.print(new Keys(settings.keys ?? {}));
    } catch (error) {
      if (error instanceof Refused && error.ended) return this.#ended();
      this.hand.nothing = "cut";
      this.#showNext();
      setTimeout(() => void this.#join(), 3000);
      return;
    }
    for (const item of this.#drafts.items) {
      if (item.votes !== null && !isCorrected(this.outbox, item.id)) this.hand.putFirst(item);
      else if (!this.hand.items.some(({ id }) => id === item.id)) this.#drafts.remove(item.id);
    }
    this.#handChanged();
    await this.hand.fill();
  }

  #handChanged() {
    for (const item of this.hand.items) this.#gallery.of(item).catch(() => {});
    this.#printWaiting();
    if (this.#item === null) this.#showNext();
  }

  #showNext() {
    const next = this.hand.items[0];
    if (next !== undefined) return this.#show(next);
    const [title, text] = EMPTY[this.hand.nothing ?? (this.outbox.trouble ? "cut" : "loading")];
    this.#reveal("empty");
    say(byId("empty-title", HTMLElement), title);
    say(byId("empty-text", HTMLElement), text);
    document.title = `${title} – ${meta("site")}`;
  }

  /** @param {Assignment} item */
  #show(item) {
    const draft = this.#drafts.of(item.id);
    this.#item = item;
    this.#choices = new Choices(
      item.dimensions.map(({ name }) => name),
      item.candidates.length,
      draft?.votes ?? item.votes,
    );
    this.#watch.reset(draft?.seconds ?? 0);
    this.#reveal("item");
    this.#describe(item);
    this.#board.show(item);
    this.#questions.show(item);
    this.#controls.print();
    this.#print();
    if (document.querySelector("dialog[open]") === null) this.#questions.focus(this.#choices.current);
    void this.#fill(item);
    this.#gallery.keep([...this.hand.items, ...this.#past.slice(-1), item]);
  }

  /** @param {"empty" | "broken" | "item"} shown */
  #reveal(shown) {
    for (const id of ["empty", "broken", "item"]) byId(id, HTMLElement).hidden = id !== shown;
    this.#broken = shown === "broken";
  }

  /** @param {Assignment} item */
  #describe(item) {
    const unwritten = UNWRITTEN.includes(item.prompt.trim());
    const prompt = unwritten ? INSTEAD[item.task] : item.prompt;
    say(byId("task", HTMLElement), TASKS[item.task]);
    say(byId("prompt", HTMLElement), prompt);
    byId("prompt", HTMLElement).classList.toggle("unwritten", unwritten);
    byId("practice", HTMLElement).hidden = !item.practice;
    byId("correcting", HTMLElement).hidden = item.votes === null;
    const what = unwritten ? prompt : `${TASKS[item.task]}: ${prompt}`;
    const correcting = item.votes === null ? "" : "Correcting: ";
    this.#announce(`${correcting}${what}. ${counted(item.candidates.length, "candidate")}.`);
    document.title = `${TASKS[item.task]}: ${prompt.slice(0, 60)} – ${meta("site")}`;
  }

  /**
   * Draw the pictures of an item as soon as they are there.
   * @param {Assignment} item
   */
  async #fill(item) {
    try {
      const pictures = await this.#gallery.of(item);
      if (this.#item !== item) return;
      this.#board.fill(pictures);
      this.#watch.start();
      this.#printSubmit();
    } catch (error) {
      if (this.#item !== item) return;
      if (hasEnded(error)) this.#ended();
      if (hasEnded(error) || !isPassing(error)) return this.#reveal("broken");
      this.#tellProblem("The pictures of this item could not be loaded; the page goes on trying.");
      setTimeout(() => this.#item === item && void this.#fill(item), 3000);
    }
  }

  /** @param {number} place */
  #choose(place) {
    if (place < (this.#item?.candidates.length ?? 0)) this.#change(() => this.#choices.choose(place));
  }

  /** @param {Reason} reason */
  #skip(reason) {
    this.#change(() => this.#choices.skip(reason));
  }

  /** @param {number} index */
  #go(index) {
    if (index === this.#choices.current) return;
    this.#choices.go(index);
    this.#print();
  }

  /**
   * Change the choices, keep them on this device and show them.
   * @param {() => void} change
   */
  #change(change) {
    if (this.#item === null) return;
    const before = this.#choices.current;
    change();
    this.#keepDraft();
    this.#print();
    if (this.#questions.hasFocus) this.#questions.focus(this.#choices.current);
    const title = this.#item.dimensions[before]?.title;
    const then = this.#choices.complete ? ` All answered: ${this.#controls.of("submit")} submits.` : "";
    this.#announce(`${title}: ${sentence(this.#choices.votes[before])}.${then}`);
  }

  /** @param {number} step */
  #move(step) {
    if (this.#item === null) return;
    this.#go(this.#choices.current + step);
    this.#questions.focus(this.#choices.current);
  }

  #print() {
    this.#questions.print(this.#choices);
    this.#board.mark(this.#choices.vote, this.#item?.dimensions[this.#choices.current]?.title ?? "");
    this.#printSubmit();
  }

  /** Seconds until this item may be submitted. */
  get #left() {
    if (this.#item === null || this.#item.votes !== null) return 0;
    return Math.max(0, this.#item.minimum_seconds - this.#watch.seconds);
  }

  #printSubmit() {
    const left = Math.ceil(this.#left);
    const text = left > 0 ? `Submit in ${left} s` : this.#item?.votes ? "Submit correction" : "Submit";
    say(part(this.#submitButton, "text", HTMLElement), text);
    const able = this.#choices.complete && left === 0 && this.#board.ready;
    this.#submitButton.setAttribute("aria-disabled", String(!able));
  }

  #submit() {
    const item = this.#item;
    if (item === null) return;
    const missing = this.#choices.missing();
    if (missing >= 0) {
      this.#go(missing);
      this.#questions.focus(missing);
      const open = item.dimensions.filter((_, index) => !hasAnswer(this.#choices.votes[index]));
      return this.#announce(`Still to answer: ${open.map(({ title }) => title).join(", ")}.`);
    }
    if (!this.#board.ready) return this.#announce("The pictures are still on their way.");
    if (this.#left > 0) return this.#announce(`Take your time: ${duration(Math.ceil(this.#left))} to go.`);
    const votes = this.#choices.votes;
    const seconds = Math.ceil(this.#watch.seconds * 100) / 100;
    const answer = { uuid: uuid(), assignment: item.id, seconds, votes };
    const one = waiting(answer, item.votes !== null);
    void this.outbox.add(one).then(() => this.kept.lasting && this.#forget(one));
    this.#remember({ ...item, votes });
    this.hand.drop(item);
    this.#item = null;
    this.#showNext();
    void this.hand.fill();
  }

  #undo() {
    if (this.#item !== null && !this.#broken && this.#choices.undo()) {
      this.#keepDraft();
      this.#print();
      this.#questions.focus(this.#choices.current);
      return this.#announce("Taken back.");
    }
    const last = this.#past.pop();
    if (last === undefined) return this.#announce("There is nothing to undo.");
    void this.kept.put("past", "items", this.#past);
    if (this.#item !== null) this.#keepDraft();
    this.hand.putFirst(last);
    this.#show(last);
    this.#keepDraft();
  }

  /** @param {Assignment} item */
  #remember(item) {
    this.#past = [...this.#past.filter(({ id }) => id !== item.id), item].slice(-REMEMBERED);
    void this.kept.put("past", "items", this.#past);
  }

  #keepDraft() {
    if (this.#item === null) return;
    this.#drafts.put({ item: this.#item, votes: this.#choices.votes, seconds: this.#watch.seconds });
  }

  /**
   * @param {Accepted} accepted
   * @param {Waiting} one
   */
  #settled({ state, progress }, one) {
    this.#progress = progress;
    if (state === "late") {
      this.#past = this.#past.filter(({ id }) => id !== one.answer.assignment);
      this.#tellProblem("This item was taken back before your answer came: it is kept, but not counted.");
    }
    this.#forget(one);
    this.#printWaiting();
    void this.hand.fill();
  }

  /**
   * Drop the draft of what was answered, but not that of a correction that was begun since.
   * @param {Waiting} one
   */
  #forget({ answer: { assignment }, correction }) {
    const begun = this.#item?.id === assignment || (!correction && this.#drafts.of(assignment)?.item.votes !== null);
    if (!begun) this.#drafts.remove(assignment);
  }

  /** @param {Assignment} item */
  #lost(item) {
    this.#drafts.remove(item.id);
    if (this.#item?.id === item.id) {
      this.#item = null;
      this.#tellProblem("That item was taken back, or given to somebody else since nothing was heard from this page for a while.");
      this.#showNext();
    }
    void this.hand.fill();
  }

  #ended() {
    const dialog = byId("ended", HTMLDialogElement);
    const count = this.outbox.waiting.length;
    say(byId("ended-waiting", HTMLElement), unsent(count, this.kept.lasting));
    byId("ended-waiting", HTMLElement).hidden = count === 0;
    if (!dialog.open) dialog.showModal();
  }

  #printWaiting() {
    printWaiting(this.outbox, this.hand.nothing === "cut", this.kept.lasting);
    if (this.#progress !== null) printProgress(this.#progress, this.outbox);
    if (this.#item === null) this.#showNext();
  }

  /** @param {Keys} keys */
  async #saveKeys(keys) {
    this.#print();
    try {
      await call("PUT", "/api/settings", { keys: keys.own });
      this.#announce("Your keys are saved.");
    } catch {
      this.#tellProblem("Your keys hold until this page is closed: they could not be saved.");
    }
  }

  async #signOut() {
    if (this.outbox.waiting.length > 0) {
      void this.outbox.flush();
      return this.#tellProblem("Your last answers are still on their way: sign out when they have been sent.");
    }
    await call("DELETE", "/api/session").catch(() => {});
    location.assign("/enter?left");
  }

  /** @param {string} text */
  #announce(text) {
    announce(this.#said, text);
  }

  /** @param {string} text */
  #tellProblem(text) {
    byId("problem-bar", HTMLElement).hidden = false;
    announce(this.#problem, text);
  }

  /**
   * Do what a key or a button stands for; what cannot be seen is not answered.
   * @param {string} action
   * @param {boolean} repeated
   */
  #act(action, repeated) {
    if (this.#broken && action !== "undo" && action !== "help") return;
    const { view } = this.#board;
    const step = STEP / view.scale;
    /** @type {Record<string, () => void>} */
    const moves = {
      zoom_in: () => view.zoomTo(view.scale * 1.25),
      zoom_out: () => view.zoomTo(view.scale / 1.25),
      left: () => view.move(-step, 0),
      right: () => view.move(step, 0),
      up: () => view.move(0, -step),
      down: () => view.move(0, step),
      next: () => this.#move(1),
      previous: () => this.#move(-1),
    };
    /** @type {Record<string, () => void>} */
    const others = {
      skip: () => this.#askReason(),
      submit: () => this.#submit(),
      undo: () => this.#undo(),
      flip: () => this.#board.flip(true),
      difference: () => this.#board.cycleDifference(),
      mask: () => this.#board.toggleMask(),
      crop: () => this.#board.toggleCrop(),
      zoom: () => view.cycle(),
      help: () => this.#controls.openHelp(this.#item),
    };
    if (action in moves) moves[action]();
    else if (action.startsWith("choose_")) repeated || this.#number(Number(action.slice(7)) - 1);
    else if (action in others) repeated || others[action]();
  }

  /** @param {number} index of a candidate, or of a reason while one is asked for */
  #number(index) {
    if (!this.#questions.asking) this.#choose(index);
    else if (index < REASONS.length) this.#skip(REASONS[index]);
  }

  #askReason() {
    this.#questions.ask(!this.#questions.asking);
    const reasons = REASONS.map((reason, index) => `${this.#controls.of(`choose_${index + 1}`)} ${SAID[reason]}`);
    if (this.#questions.asking) this.#announce(`Why skip it? ${reasons.join(", ").toLowerCase()}.`);
  }

  #listen() {
    closable(byId("ended", HTMLDialogElement));
    for (const id of ["help", "keys"]) {
      const goOn = () => this.#item && this.#questions.focus(this.#choices.current); // not the button: Enter submits
      byId(id, HTMLDialogElement).addEventListener("close", goOn);
    }
    byId("again", HTMLButtonElement).addEventListener("click", () => this.#item && this.#show(this.#item));
    byId("sign-out", HTMLButtonElement).addEventListener("click", () => void this.#signOut());
    byId("problem-close", HTMLButtonElement).addEventListener("click", () => {
      byId("problem-bar", HTMLElement).hidden = true;
    });
    setInterval(() => this.#printSubmit(), 200);
    addEventListener("pagehide", () => this.#keepDraft());
    document.addEventListener("visibilitychange", () => this.#keepDraft());
  }
}

const work = new Work(await Kept.of(meta("person")));
await work.start();
