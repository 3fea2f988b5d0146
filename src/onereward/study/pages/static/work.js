import { storeOf } from "./answers.js";
import { call, isPassing, meta, Refused, Unreachable, uuid } from "./api.js";
import { place as placeNow, submit as send } from "./calls.js";
import { byId, closable, say } from "./dom.js";
import { Gallery, hasEnded } from "./gallery.js";
import { Outbox, unsent } from "./outbox.js";
import { forget, picturesOf } from "./pictures.js";
import { Questions } from "./questions.js";
import { Stage } from "./stage.js";
import { Stopwatch } from "./stopwatch.js";

/** @import { Place, Trial } from "./types.js" */

const RETRY_MS = 3000;
const KEYS = "onereward-study-keys";

const screens = ["loading", "broken", "ready", "pause", "trial"].map((id) => byId(id, HTMLElement));
const form = byId("answers", HTMLFormElement);
const problem = byId("problem", HTMLElement);
const said = byId("said", HTMLElement);
const next = byId("next", HTMLButtonElement);
const shortcuts = byId("shortcuts", HTMLInputElement);
const help = byId("help", HTMLDialogElement);
const leave = byId("leave", HTMLDialogElement);

const gallery = new Gallery(picturesOf, forget);
const stopwatch = new Stopwatch();
const stage = new Stage();
const questions = new Questions(printAnswers);
const outbox = new Outbox(storeOf(meta("person")), send, {
  changed: printState,
  settled: ({ place }) => arrive(place),
  refused: (detail) => {
    tell(detail);
    void look();
  },
  ended,
});

/** @type {Place | null} */
let at = null;
/** @type {Trial | null} */
let shown = null;
/** How many were done when the person last went on after a break. */
let rested = -1;

/** The next trials that are not answered on this device. */
function open() {
  return at === null ? [] : at.trials.filter(({ id }) => !outbox.waiting.some(({ trial }) => trial === id));
}

function done() {
  return at === null ? 0 : at.done + at.trials.length - open().length;
}

/** Ask the server where this person is. */
async function look() {
  try {
    arrive(await placeNow());
  } catch (error) {
    if (error instanceof Refused && error.ended) return ended();
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
    tell(error.message);
    setTimeout(() => void look(), RETRY_MS);
  }
}

/** @param {Place} found */
function arrive(found) {
  at = found;
  const elsewhere = !["practice", "ready", "work"].includes(found.stage);
  if (elsewhere && outbox.waiting.length === 0) return location.replace("/study"); // another page says so
  if (shown === null || !open().some(({ id }) => id === shown?.id)) return advance();
  prepareAhead();
  printState();
}

/** Show what comes next. */
function advance() {
  const [trial] = open();
  prepareAhead();
  printState();
  if (at?.stage === "ready") return reveal("ready");
  if (trial === undefined) return reveal("loading");
  if (at?.breaks.includes(done()) && rested !== done()) return rest();
  void show(trial);
}

function rest() {
  say(byId("pause-done", HTMLElement), `${done()} of ${at?.total}`);
  reveal("pause");
}

/** @param {Trial} trial */
async function show(trial) {
  shown = trial;
  say(said, "");
  say(byId("task", HTMLElement), trial.task);
  say(byId("instruction", HTMLElement), trial.instruction);
  say(byId("prompt", HTMLElement), trial.prompt ?? "");
  byId("prompt", HTMLElement).hidden = trial.prompt === null;
  say(byId("note", HTMLElement), trial.note ?? "");
  byId("note", HTMLElement).hidden = trial.note === null;
  byId("practice", HTMLElement).hidden = !trial.practice;
  stage.prepare(trial);
  questions.show(trial);
  printAnswers();
  reveal("trial");
  scrollTo(0, 0);
  try {
    const pictures = await gallery.of(trial);
    if (shown !== trial) return;
    await stage.show(pictures);
    stopwatch.reset(0);
    stopwatch.start();
  } catch (error) {
    if (shown !== trial) return;
    if (hasEnded(error)) ended();
    if (hasEnded(error) || !isPassing(error)) return reveal("broken");
    tell("The pictures do not come: check your connection.");
    setTimeout(() => shown === trial && void show(trial), RETRY_MS);
  }
}

/** Fetch what comes later. */
function prepareAhead() {
  const coming = open();
  gallery.keep(coming);
  for (const trial of coming) gallery.of(trial).catch(() => {});
}

function submit() {
  if (shown === null || !stage.ready) return;
  const missing = questions.missing;
  if (missing !== undefined) {
    say(said, `“${missing.title}” has no answer yet.`);
    return questions.focus(missing);
  }
  const answer = { uuid: uuid(), trial: shown.id, seconds: stopwatch.seconds, values: questions.values };
  shown = null;
  tell("");
  void outbox.add(answer);
  advance();
}

/**
 * Show one of the screens and put the focus on its heading.
 * @param {string} id
 */
function reveal(id) {
  if (id !== "trial") shown = null;
  for (const screen of screens) screen.hidden = screen.id !== id;
  byId(`${id}-title`, HTMLElement).focus({ preventScroll: true });
}

function printAnswers() {
  next.setAttribute("aria-disabled", String(questions.missing !== undefined));
  if (questions.missing === undefined) say(said, "");
}

/** Print progress, and what waits to be sent. */
function printState() {
  const working = at !== null && at.total > 0;
  const bar = byId("progress", HTMLProgressElement);
  byId("progress-part", HTMLElement).hidden = !working;
  if (working && at !== null) {
    bar.max = at.total;
    bar.value = done();
    say(byId("count", HTMLElement), `${Math.min(done() + 1, at.total)} of ${at.total}`);
    const title = `${at.stage === "practice" ? "Practice picture" : "Picture"} ${Math.min(done() + 1, at.total)} of ${at.total}`;
    say(byId("trial-number", HTMLElement), title);
  }
  const count = outbox.waiting.length;
  const where = outbox.store.lasting ? "on this device and" : "until this page is closed, and";
  const words = `No connection: ${count} answer${count === 1 ? " is" : "s are"} kept ${where} sent later`;
  const cut = outbox.trouble === "cut";
  say(byId("network", HTMLElement), cut && count > 0 ? words : "");
  const waiting = at?.stage !== "ready" && open().length === 0 && cut;
  say(byId("loading-title", HTMLElement), waiting ? "Waiting for the connection" : "One moment");
  say(
    byId("loading-text", HTMLElement),
    waiting ? "You can leave this page open: it goes on by itself." : "The next pictures are on their way.",
  );
}

/** Nobody is signed in any more. */
function ended() {
  say(byId("ended-waiting", HTMLElement), unsent(outbox.waiting.length, outbox.store.lasting));
  byId("ended-waiting", HTMLElement).hidden = outbox.waiting.length === 0;
  const dialog = byId("ended", HTMLDialogElement);
  if (!dialog.open) dialog.showModal();
}

/** @param {string} words */
function tell(words) {
  say(problem, words);
  problem.hidden = words === "";
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (document.querySelector("dialog[open]") !== null || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.repeat) return; // a key held down is not meant for the next page
  if (event.key === "Enter" && shown !== null && !(event.target instanceof HTMLButtonElement)) {
    event.preventDefault();
    return submit();
  }
  if (!shortcuts.checked) return;
  if (event.key === "?") help.showModal();
  else if (shown === null) return;
  else if (/^[1-5]$/.test(event.key)) questions.choose(Number(event.key));
  else if (event.key === "m") stage.toggleOutline();
  else if (event.key === "z") stage.enlarge(1);
  else if (event.key === "o") stage.swap(true);
  else return;
  event.preventDefault();
}

/** @param {string} path @param {object} [body] */
async function change(path, body) {
  try {
    await call("POST", path, body);
    return true;
  } catch (error) {
    if (error instanceof Refused && error.ended) ended();
    else if (error instanceof Refused || error instanceof Unreachable) tell(error.message);
    else throw error;
    return false;
  }
}

async function begin() {
  await change("/api/block");
  await look();
}

async function withdraw() {
  const drop = byId("drop", HTMLInputElement).checked;
  leave.close();
  if (await change("/api/withdrawal", { drop })) location.replace(drop ? "/left#dropped" : "/left");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
addEventListener("keydown", onKey);
addEventListener("keyup", (event) => event.key === "o" && stage.swap(false));
byId("begin", HTMLButtonElement).addEventListener("click", () => void begin());
byId("go-on", HTMLButtonElement).addEventListener("click", () => {
  rested = done();
  advance();
});
byId("again", HTMLButtonElement).addEventListener("click", advance);
byId("open-help", HTMLButtonElement).addEventListener("click", () => help.showModal());
byId("open-leave", HTMLButtonElement).addEventListener("click", () => leave.showModal());
byId("withdraw", HTMLButtonElement).addEventListener("click", () => void withdraw());
for (const dialog of document.querySelectorAll("dialog")) if (dialog.id !== "viewer") closable(dialog);
try {
  shortcuts.checked = localStorage.getItem(KEYS) !== "off";
} catch {
  // a private window of some browsers keeps nothing
}
shortcuts.addEventListener("change", () => {
  document.body.classList.toggle("keys-off", !shortcuts.checked);
  try {
    localStorage.setItem(KEYS, shortcuts.checked ? "on" : "off");
  } catch {
    // held by this page alone
  }
});
document.body.classList.toggle("keys-off", !shortcuts.checked);
await outbox.start();
void look();
