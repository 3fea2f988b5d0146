import { Refused, submit, Unreachable } from "./api.js";

/** @import { Answer, Place } from "./types.js" */

/**
 * Who is told what becomes of the answers.
 * @typedef {object} Listener
 * @property {() => void} changed how many wait, or whether the server can be reached
 * @property {(place: Place) => void} settled
 * @property {(detail: string) => void} refused for good
 * @property {() => void} ended nobody is signed in any more: the answers stay here
 */

const LONGEST_WAIT_MS = 30_000;

/** Answers kept on this device until the server has them; sent in order, again and again, always under the same uuid. */
export class Outbox {
  /** @type {Answer[]} */
  waiting;
  /** Whether the last try got no answer. */
  cut = false;
  #failures = 0;
  #timer = 0;
  #sending = false;

  /**
   * @param {string} person whose it is: another person on the same device has their own
   * @param {Listener} listener
   */
  constructor(person, listener) {
    this.key = `onereward-study-${person}`;
    this.listener = listener;
    this.waiting = read(this.key);
    addEventListener("online", () => void this.flush());
    document.addEventListener("visibilitychange", () => void this.flush());
  }

  /**
   * Whether the answer to a trial waits here.
   * @param {string} trial
   */
  holds(trial) {
    return this.waiting.some((answer) => answer.trial === trial);
  }

  /**
   * Keep an answer, and start to send it.
   * @param {Answer} answer
   */
  add(answer) {
    this.#keep([...this.waiting, answer]);
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

  /** @param {Answer} answer */
  async #send(answer) {
    try {
      const { place } = await submit(answer);
      this.#drop(answer);
      this.listener.settled(place);
    } catch (error) {
      if (!(error instanceof Refused) || error.passing) throw error;
      this.#drop(answer);
      this.listener.refused(error.message);
    }
  }

  /** @param {Answer} answer */
  #drop(answer) {
    this.#failures = 0;
    this.cut = false;
    this.#keep(this.waiting.filter((other) => other.uuid !== answer.uuid));
  }

  /** @param {Answer[]} waiting */
  #keep(waiting) {
    this.waiting = waiting;
    try {
      localStorage.setItem(this.key, JSON.stringify(waiting));
    } catch {
      // A private window of some browsers keeps nothing: the answers are held by this page alone.
    }
    this.listener.changed();
  }

  /** @param {unknown} error */
  #later(error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
    this.cut = error instanceof Unreachable;
    this.listener.changed();
    if (error instanceof Refused && error.ended) return this.listener.ended();
    const asked = error instanceof Refused ? error.wait * 1000 : 0;
    const backOff = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** this.#failures++) * (0.75 + Math.random() / 2);
    this.#timer = setTimeout(() => void this.flush(), Math.max(asked, backOff));
  }
}

/**
 * @param {string} key
 * @returns {Answer[]}
 */
function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]");
  } catch {
    return [];
  }
}
