import { byId, counted, duration, say } from "./dom.js";

/** @import { Answers } from "./answers.js" */
/** @import { Progress } from "./types.js" */

const TROUBLES = { "": "", cut: "No connection", ended: "Signed out", busy: "The server is busy" };

/**
 * Print how far the person is; answers that wait count as done.
 * @param {Progress} progress as the server said it last
 * @param {Answers} outbox
 */
export function printProgress(progress, { waiting }) {
  const unsent = waiting.filter(({ correction }) => !correction).length;
  const done = progress.done + unsent;
  const remaining = Math.max(0, progress.remaining - unsent);
  const pace = progress.seconds_an_item;
  const bar = byId("progress", HTMLProgressElement);
  bar.max = Math.max(1, done + remaining);
  bar.value = done;
  say(byId("done", HTMLElement), String(done));
  say(byId("remaining", HTMLElement), String(remaining));
  byId("pace-part", HTMLElement).hidden = pace === null;
  byId("left-part", HTMLElement).hidden = remaining === 0;
  say(byId("pace", HTMLElement), duration(pace ?? 0));
  say(byId("time-left", HTMLElement), duration((pace ?? 0) * remaining));
}

/**
 * Print what waits to be sent, and why.
 * @param {Answers} outbox
 * @param {boolean} cut whether other requests found no connection
 * @param {boolean} lasting whether what is kept outlives the page
 */
export function printWaiting({ waiting, trouble }, cut, lasting) {
  const why = TROUBLES[trouble || (cut ? "cut" : "")];
  const kept = lasting ? "kept on this device" : "kept until this page is closed";
  const count = waiting.length > 0 ? `${counted(waiting.length, "answer")} waiting, ${kept}` : "";
  const shown = waiting.length > 1 || why ? [why, count].filter(Boolean).join(": ") : "";
  say(byId("waiting", HTMLElement), shown);
}
