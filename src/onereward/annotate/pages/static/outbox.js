import { Refused, reopen, submit, Unreachable } from "./api.js";

/** @import { Accepted, Answer } from "./types.js" */
/** @import { Kept } from "./keeping.js" */

/**
 * An answer on its way, with what is needed to send it after a reload.
 * @typedef {object} Waiting
 * @property {string} key the order in which they were given
 * @property {boolean} correction whether the item must be taken back first
 * @property {Answer} answer
 */

/**
 * Who is told what becomes of the answers.
 * @typedef {object} Listener
 * @property {() => void} changed how many wait, or whether the server can be reached
 * @property {(accepted: Accepted, answer: Answer) => void} settled
 * @property {(detail: string) => void} refused for good
 * @property {(error: Refused) => void} ended nobody is signed in any more: the answers stay here
 */

const LONGEST_WAIT_MS = 30_000;

/** Answers kept on this device until the server has them; sent in order, again and again, under the same uuid. */
export class Outbox {
  /** @type {Waiting[]} */
  waiting = [];
  /** Why the last try failed; empty where it did not. */
  trouble = "";
  #failures = 0;
  #timer = 0;
  #sending = false;
  #last = 0;

  /**
   * @param {Kept} kept
   * @param {Listener} listener
   */
  constructor(kept, listener) {
    this.kept = kept;
    this.listener = listener;
    addEventListener("online", () => void this.flush());
    document.addEventListener("visibilitychange", () => void this.flush());
  }

  /** Read what an earlier page left and send it. */
  async start() {
    this.waiting = await this.kept.all("outbox");
    void this.flush();
  }

  /**
   * Whether the answer to an item waits here.
   * @param {string} assignment
   */
  holds(assignment) {
    return this.waiting.some((one) => one.answer.assignment === assignment);
  }

  /**
   * Keep an answer, and start to send it; returns when it is on the disk.
   * @param {Answer} answer
   * @param {boolean} correction
   */
  async add(answer, correction) {
    this.#last = Math.max(Date.now(), this.#last + 1);
    const one = { key: String(this.#last).padStart(16, "0"), correction, answer };
    this.waiting.push(one);
    this.listener.changed();
    await this.kept.put("outbox", one.key, one);
    void this.flush();
  }

  /** Send what waits, now. */
  async flush() {
    if (this.#sending) return;
    this.#sending = true;
    clearTimeout(this.#timer);
    try {
      while (this.waiting.length > 0) await this.#send(this.waiting[0]);
    } catch (error) {
      this.#later(error);
    } finally {
      this.#sending = false;
    }
  }

  /** @param {Waiting} one */
  async #send(one) {
    try {
      if (one.correction) await reopen(one.answer.assignment);
      const accepted = await submit(one.answer);
      await this.#drop(one);
      this.listener.settled(accepted, one.answer);
    } catch (error) {
      if (!(error instanceof Refused) || error.passing) throw error;
      await this.#drop(one);
      this.listener.refused(error.message);
    }
  }

  /** @param {Waiting} one */
  async #drop(one) {
    await this.kept.remove("outbox", one.key);
    this.waiting = this.waiting.filter((other) => other !== one);
    this.#failures = 0;
    this.trouble = "";
    this.listener.changed();
  }

  /** @param {unknown} error */
  #later(error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
    this.trouble = error instanceof Unreachable ? "No connection" : error.ended ? "Signed out" : "The server is busy";
    this.listener.changed();
    if (error instanceof Refused && error.ended) return this.listener.ended(error);
    const asked = error instanceof Refused ? error.wait * 1000 : 0;
    const backOff = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** this.#failures++) * (0.75 + Math.random() / 2);
    this.#timer = setTimeout(() => void this.flush(), Math.max(asked, backOff));
  }
}
