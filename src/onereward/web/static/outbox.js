import { Refused, Unreachable } from "./api.js";
import { counted } from "./dom.js";

/**
 * Where what waits is kept on this device. Where that fails it fails silently: an answer held by the page alone is sent
 * all the same.
 * @template Waiting
 * @typedef {object} Store
 * @property {boolean} lasting whether what was kept outlives the page
 * @property {() => Waiting[] | Promise<Waiting[]>} all oldest first
 * @property {(one: Waiting) => void | Promise<void>} put returns when it is kept
 * @property {(one: Waiting) => void | Promise<void>} remove
 */

/**
 * Who is told what becomes of what waits.
 * @template Waiting, Accepted
 * @typedef {object} Listener
 * @property {() => void} changed how many wait, or whether the server can be reached
 * @property {(accepted: Accepted, one: Waiting) => void} settled
 * @property {(detail: string) => void} refused for good
 * @property {(error: Refused) => void} ended nobody is signed in any more: what waits stays here
 */

/**
 * What is said of answers that wait when nobody is signed in any more.
 * @param {number} count
 * @param {boolean} lasting whether they outlive the page
 */
export function unsent(count, lasting) {
  const then = lasting ? "kept on this device, and sent when you are signed in again" : "this browser keeps nothing, so that they go with this page";
  return `${counted(count, "answer")} not sent yet: ${then}.`;
}

const LONGEST_WAIT_MS = 30_000;

/**
 * Answers kept on this device until the server has them; sent in order, again and again, always under the same uuid.
 * @template Waiting, Accepted
 */
export class Outbox {
  /** @type {Waiting[]} */
  waiting = [];
  /** @type {"" | "cut" | "ended" | "busy"} why the last try failed; empty where it did not */
  trouble = "";
  #failures = 0;
  #timer = 0;
  #sending = false;

  /**
   * @param {Store<Waiting>} store
   * @param {(one: Waiting) => Promise<Accepted>} send throws Refused or Unreachable
   * @param {Listener<Waiting, Accepted>} listener
   */
  constructor(store, send, listener) {
    this.store = store;
    this.send = send;
    this.listener = listener;
    addEventListener("online", () => void this.flush());
    document.addEventListener("visibilitychange", () => void this.flush());
  }

  /** Read what an earlier page left and send it. */
  async start() {
    this.waiting = await this.store.all();
    void this.flush();
  }

  /**
   * Keep one more, and start to send it; returns when it is kept.
   * @param {Waiting} one
   */
  async add(one) {
    this.waiting.push(one);
    const kept = this.store.put(one);
    this.listener.changed();
    try {
      await kept;
    } finally {
      void this.flush();
    }
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
      const accepted = await this.send(one);
      await this.#drop(one);
      this.listener.settled(accepted, one);
    } catch (error) {
      if (!(error instanceof Refused) || error.passing) throw error;
      await this.#drop(one);
      this.listener.refused(error.message);
    }
  }

  /** @param {Waiting} one */
  async #drop(one) {
    this.waiting = this.waiting.filter((other) => other !== one);
    this.#failures = 0;
    this.trouble = "";
    await this.store.remove(one);
    this.listener.changed();
  }

  /** @param {unknown} error */
  #later(error) {
    const ended = error instanceof Refused && error.ended;
    if (!ended) {
      const asked = error instanceof Refused ? error.wait * 1000 : 0;
      const backOff = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** this.#failures++) * (0.75 + Math.random() / 2);
      this.#timer = setTimeout(() => void this.flush(), Math.max(asked, backOff));
    }
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error; // a fault of the page
    this.trouble = error instanceof Unreachable ? "cut" : ended ? "ended" : "busy";
    this.listener.changed();
    if (ended) this.listener.ended(error);
  }
}
